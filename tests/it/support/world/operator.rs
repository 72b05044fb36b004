//! The binary in a world, as a command and as an operator.

use std::path::PathBuf;
use std::process::{Command, Output};

use kube::Client;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use super::World;
use crate::support::{Operator, rbac};

impl World {
    /// Runs the binary to its end, with the URL of the database's superuser in `DATABASE_URL`.
    pub(crate) fn jobexec(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_jobexec"))
            .args(args)
            .env("DATABASE_URL", self.admin_url.as_str())
            .output()
            .unwrap()
    }

    /// Connects the operator to a different API server in front of the real one, and returns a client of the real one
    /// that has no identity of its own.
    pub(crate) async fn redirect_operator(&self, server: &str) -> Client {
        let path = self.kubeconfig();
        let mut kubeconfig = Kubeconfig::read_from(&path).unwrap();
        let mut anonymous = kubeconfig.clone();
        anonymous.auth_infos[0].auth_info = Some(AuthInfo::default());
        let cluster = kubeconfig.clusters[0].cluster.as_mut().unwrap();
        cluster.server = Some(server.to_owned());
        cluster.certificate_authority_data = None;
        std::fs::write(&path, serde_json::to_string(&kubeconfig).unwrap()).unwrap();
        let options = KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(anonymous, &options).await.unwrap();
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    /// Starts the operator in this namespace.
    pub(crate) fn operator(&self) -> Operator {
        self.operator_with(&[])
    }

    /// Starts the operator in this namespace with further environment.
    pub(crate) fn operator_with(&self, env: &[(&str, &str)]) -> Operator {
        Operator::start(&self.namespace, &self.kubeconfig(), self.folder.path().join("log"), env)
    }

    /// Starts the operator for these namespaces, with a log of its own by this name.
    pub(crate) fn operator_in(&self, namespaces: &str, log: &str, env: &[(&str, &str)]) -> Operator {
        Operator::start(namespaces, &self.kubeconfig(), self.folder.path().join(log), env)
    }

    /// The kubeconfig of the operator.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// The kubeconfig of a cluster administrator.
    pub(crate) fn admin_kubeconfig(&self) -> PathBuf {
        self.admin_kubeconfig.clone()
    }

    /// Starts the operator as a `Deployment` would, as the operator's `ServiceAccount` of its namespace.
    pub(crate) async fn deployed(&self, deployment: &Value) -> Operator {
        let namespace = deployment["metadata"]["namespace"].as_str().unwrap();
        let kubeconfig = self.folder.path().join("deployed");
        rbac::kubeconfig(&self.client, &self.admin_kubeconfig, namespace, &kubeconfig).await;
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        Operator::of_container(container, &kubeconfig, self.folder.path().join("log"))
    }
}
