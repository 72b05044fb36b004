//! A release of the chart, managed by Helm itself.

use std::convert::Infallible;
use std::sync::Arc;

use jobexec_operator::api::ExecutionStore;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, LogParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::database::Database;
use super::pod;
use super::{PATIENCE, PAUSE};
use crate::support::helm::{CHART, Helm};
use crate::support::{World, blocking};

const NAME: &str = "jobexec-operator";
pub(super) const NAMESPACE: &str = "jobexec-system";

pub(super) struct Release {
    pub(super) client: Client,
    helm: Arc<Helm>,
}

impl Release {
    /// Creates a namespace that accepts only restricted Pods, with the Secret of a database.
    pub(super) async fn prepare(database: &Database) -> Self {
        let client = Client::try_default().await.unwrap();
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        });
        let apply = PatchParams::apply("test").force();
        Api::<Namespace>::all(client.clone())
            .patch(NAMESPACE, &apply, &Patch::Apply(namespace))
            .await
            .unwrap();
        let ca = std::fs::read_to_string(std::env::var("DEVCLUSTER_CA").unwrap()).unwrap();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"},
            "stringData": {"uri": database.url, "ca.crt": ca},
        });
        Api::<Secret>::namespaced(client.clone(), NAMESPACE)
            .patch("db", &apply, &Patch::Apply(secret))
            .await
            .unwrap();
        let helm = Helm::new(std::env::var("KUBECONFIG").unwrap().as_ref()).await;
        Self { client, helm: Arc::new(helm) }
    }

    /// Runs a command on the release, which must succeed, and returns its output.
    pub(super) async fn helm(&self, args: &[&str]) -> String {
        let (command, options) = args.split_first().unwrap();
        let chart = matches!(*command, "install" | "upgrade").then_some(CHART);
        let all = [*command, NAME].into_iter().chain(chart).chain(["--namespace", NAMESPACE]);
        let all: Vec<String> = all.chain(options.iter().copied()).map(str::to_owned).collect();
        let helm = Arc::clone(&self.helm);
        let run = move || Ok::<_, Infallible>(helm.run(&all.iter().map(String::as_str).collect::<Vec<_>>()));
        let ran = blocking(run).await;
        assert!(ran.well, "helm {args:?}: {}{}\n{}", ran.out, ran.err, self.state().await);
        ran.out
    }

    /// The state for the error message.
    async fn state(&self) -> String {
        let pods = self.pods().list(&ListParams::default()).await.unwrap().items;
        let mut all = Vec::new();
        for pod in pods {
            let name = pod.metadata.name.unwrap_or_default();
            let log = self.pods().logs(&name, &LogParams::default()).await.unwrap_or_default();
            all.push(format!("Pod {name}: {:?}\n{log}", pod.status));
        }
        all.join("\n")
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// The ready Pod of the operator.
    pub(super) async fn pod(&self) -> Pod {
        self.pod_until(pod::is_ready).await
    }

    /// The operator's Pod, once there is one as wanted.
    pub(super) async fn pod_until(&self, wanted: impl Fn(&Pod) -> bool) -> Pod {
        let ours = ListParams::default().labels("app.kubernetes.io/name=jobexec-operator");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let pods = self.pods().list(&ours).await.unwrap().items;
            if let Some(pod) = pods.into_iter().find(&wanted) {
                return pod;
            }
            assert!(tokio::time::Instant::now() < deadline, "no such Pod: {}", self.state().await);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Creates the store.
    pub(super) async fn watch_table(&self) {
        let ca = json!({"name": "db", "key": "ca.crt"});
        let store = World::store_with("jobs", json!({"connection": {"caSecretRef": ca}}));
        self.stores().patch("jobs", &PatchParams::apply("test").force(), &Patch::Apply(store)).await.unwrap();
    }

    fn stores(&self) -> Api<ExecutionStore> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Checks the state after the release is uninstalled.
    pub(super) async fn is_gone_but_for_what_people_made(&self) {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        assert!(deployments.get_opt(NAME).await.unwrap().is_none());
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), NAMESPACE);
        assert!(accounts.get_opt(NAME).await.unwrap().is_none());
        let crds: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for kind in ["executionstores", "executionpolicies", "jobexecutions"] {
            let crd = crds.get(&format!("{kind}.jobexec.dev")).await.unwrap();
            assert!(crd.metadata.deletion_timestamp.is_none(), "{kind}");
        }
        assert!(self.stores().get("jobs").await.unwrap().metadata.deletion_timestamp.is_none());
    }
}
