//! The servers of a world: the shared ones, or some of its own.

use std::path::PathBuf;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::OnceCell;

use crate::support::PATIENCE;

/// The servers of a world.
pub(super) struct Ground {
    pub(super) kubeconfig: PathBuf,
    pub(super) database_url: url::Url,
    /// Set if the servers belong to the test alone.
    pub(super) cluster: Option<devcluster::Cluster>,
}

impl Ground {
    /// The dev cluster that all tests share.
    pub(super) fn shared() -> Self {
        let var = |name| {
            std::env::var(name).unwrap_or_else(|_| panic!("no {name}: run the tests with `make test`"))
        };
        assert_eq!(var("DEVCLUSTER"), "1", "not on a dev cluster: run the tests with `make test`");
        Self {
            kubeconfig: var("KUBECONFIG").into(),
            database_url: var("DATABASE_URL").parse().unwrap(),
            cluster: None,
        }
    }

    /// Reports whether it has an API server, or Postgres alone.
    pub(super) fn has_cluster(&self) -> bool {
        self.kubeconfig.exists()
    }

    /// Installs the CRDs, on the shared cluster only once.
    pub(super) async fn installed(self) -> Self {
        static INSTALLED: OnceCell<()> = OnceCell::const_new();
        if !self.has_cluster() {
            return self;
        }
        let install = async || install_crds(&client(&self).await, jobexec_operator::api::crds()).await;
        INSTALLED.get_or_init(install).await;
        self
    }

    /// A cluster for this test alone.
    pub(super) fn own(options: &devcluster::Options) -> Self {
        let cluster = devcluster::Cluster::start(options, &mut devcluster::Quiet).unwrap();
        Self {
            kubeconfig: cluster.kubeconfig().to_owned(),
            database_url: cluster.database_url().parse().unwrap(),
            cluster: Some(cluster),
        }
    }
}

pub(super) async fn client(ground: &Ground) -> Client {
    if !ground.has_cluster() {
        // Nothing listens there.
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        return Client::try_from(nowhere).unwrap();
    }
    let kubeconfig = Kubeconfig::read_from(&ground.kubeconfig).unwrap();
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

pub(super) async fn install_crds(client: &Client, crds: Vec<CustomResourceDefinition>) {
    for crd in crds {
        let api = Api::all(client.clone());
        let name = crd.name_any();
        api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&crd)).await.unwrap();
        let established = await_condition(api, &name, conditions::is_crd_established());
        tokio::time::timeout(PATIENCE, established).await.unwrap().unwrap();
    }
}
