//! The control plane: etcd, kube-apiserver and kube-controller-manager, on loopback.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Error,
    binaries::Kubernetes,
    https, kubeconfig, node,
    pki::Pki,
    ports,
    process::{Launch, Process, Spawner},
    progress::Steps,
    run_dir::RunDir,
};

/// The settings that all servers share.
pub(crate) struct Site<'a> {
    pub(crate) run: &'a RunDir,
    pub(crate) logs: &'a Path,
    pub(crate) pki: &'a Pki,
    pub(crate) spawner: &'a Arc<Spawner>,
    /// The address at which Pods reach the servers. `None` without a node: the servers listen only on loopback.
    pub(crate) address: Option<&'static str>,
}

impl Site<'_> {
    pub(crate) fn server(&self, name: &'static str, program: &Path) -> Result<Launch, Error> {
        Ok(Launch::server(name, program, &self.run.sub(name)?, self.logs))
    }
}

/// The running control plane.
// Fields are dropped in declaration order: kube-apiserver hangs for minutes if etcd ends first.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    _controller_manager: ControllerManager,
    apiserver: Apiserver,
    _etcd: Etcd,
}

impl ControlPlane {
    pub(crate) fn start(
        site: &Site,
        kubernetes: &Kubernetes,
        apiserver_args: &[String],
        steps: &mut Steps,
    ) -> Result<Self, Error> {
        steps.begin("starting etcd, kube-apiserver, kube-controller-manager and Postgres")?;
        let etcd = Etcd::start(site, &kubernetes.etcd, steps)?;
        let apiserver = Apiserver::start(site, &kubernetes.apiserver, &etcd.url, apiserver_args, steps)?;
        let mut manager = ControllerManager::start(site, &kubernetes.controller_manager, apiserver.port)?;
        // Pods cannot be created until the controller manager has created this ServiceAccount.
        let account = format!("{}/api/v1/namespaces/default/serviceaccounts/default", apiserver.url());
        let client = https::client(&site.pki.ca, &site.pki.admin)?;
        manager.process.until(steps, || https::answers(&client, &account))?;
        Ok(Self { _controller_manager: manager, apiserver, _etcd: etcd })
    }

    /// Returns the port of kube-apiserver.
    pub(crate) fn port(&self) -> u16 {
        self.apiserver.port
    }

    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.apiserver.kubeconfig
    }
}

#[derive(Debug)]
struct Etcd {
    url: String,
    _process: Process,
}

impl Etcd {
    fn start(site: &Site, program: &Path, steps: &mut Steps) -> Result<Self, Error> {
        // There are no peers, so any free port works.
        const NO_PEER: &str = "http://127.0.0.1:0";
        let launch = site.server("etcd", program)?;
        // etcd requires no password, so client certificates keep other users of this machine out.
        let (pki, tls) = (site.pki, &site.pki.etcd);
        let launch = launch.args([
            "--name=devcluster".to_owned(),
            "--data-dir=data".to_owned(),
            format!("--listen-peer-urls={NO_PEER}"),
            format!("--initial-advertise-peer-urls={NO_PEER}"),
            format!("--initial-cluster=devcluster={NO_PEER}"),
            format!("--cert-file={}", tls.certificate_file.display()),
            format!("--key-file={}", tls.key_file.display()),
            format!("--trusted-ca-file={}", pki.ca_file.display()),
            "--client-cert-auth=true".to_owned(),
            "--enable-grpc-gateway=false".to_owned(),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ]);
        let client = https::client(&pki.ca, &pki.admin)?;
        ports::with_port(|port| {
            let url = format!("https://127.0.0.1:{port}");
            let urls = [format!("--listen-client-urls={url}"), format!("--advertise-client-urls={url}")];
            let mut process = launch.clone().args(urls).start(site.spawner)?;
            process.until(steps, || https::answers(&client, &format!("{url}/health")))?;
            Ok(Self { url, _process: process })
        })
    }
}

#[derive(Debug)]
struct Apiserver {
    port: u16,
    kubeconfig: PathBuf,
    _process: Process,
}

impl Apiserver {
    fn start(
        site: &Site,
        program: &Path,
        etcd: &str,
        extra: &[String],
        steps: &mut Steps,
    ) -> Result<Self, Error> {
        let launch = site
            .server("kube-apiserver", program)?
            .args(Self::args(site.pki, etcd))
            .args(Self::network_args(site));
        let client = https::client(&site.pki.ca, &site.pki.admin)?;
        let (port, process) = ports::with_port(|port| {
            let launch = launch.clone().args([format!("--secure-port={port}")]).args(extra);
            let mut process = launch.start(site.spawner)?;
            let ready = format!("https://127.0.0.1:{port}/readyz");
            process.until(steps, || https::answers(&client, &ready))?;
            Ok((port, process))
        })?;
        let kubeconfig = site.run.path().join("kubeconfig");
        kubeconfig::write(&kubeconfig, port, &site.pki.ca, &site.pki.admin)?;
        Ok(Self { port, kubeconfig, _process: process })
    }

    fn args(pki: &Pki, etcd: &str) -> Vec<String> {
        let file = |flag: &str, path: &Path| format!("--{flag}={}", path.display());
        vec![
            format!("--etcd-servers={etcd}"),
            file("etcd-cafile", &pki.ca_file),
            file("etcd-certfile", &pki.admin.certificate_file),
            file("etcd-keyfile", &pki.admin.key_file),
            file("tls-cert-file", &pki.apiserver.certificate_file),
            file("tls-private-key-file", &pki.apiserver.key_file),
            file("client-ca-file", &pki.ca_file),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            file("service-account-key-file", &pki.service_account_public_key),
            file("service-account-signing-key-file", &pki.service_account_key),
            format!("--service-cluster-ip-range={}", node::SERVICE_CIDR),
        ]
    }

    /// Returns the arguments for the address of kube-apiserver and for its connections to kubelets.
    fn network_args(site: &Site) -> Vec<String> {
        let Some(address) = site.address else {
            return vec![
                "--bind-address=127.0.0.1".to_owned(),
                "--advertise-address=127.0.0.1".to_owned(),
                // Endpoints of the `kubernetes` Service cannot have a loopback address.
                "--endpoint-reconciler-type=none".to_owned(),
            ];
        };
        let (ca, admin) = (site.pki.ca_file.display(), &site.pki.admin);
        vec![
            "--bind-address=0.0.0.0".to_owned(),
            format!("--advertise-address={address}"),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            format!("--kubelet-certificate-authority={ca}"),
            format!("--kubelet-client-certificate={}", admin.certificate_file.display()),
            format!("--kubelet-client-key={}", admin.key_file.display()),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
        ]
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }
}

#[derive(Debug)]
struct ControllerManager {
    process: Process,
}

impl ControllerManager {
    fn start(site: &Site, program: &Path, port: u16) -> Result<Self, Error> {
        let launch = site.server("kube-controller-manager", program)?;
        let kubeconfig = launch.folder.join("kubeconfig");
        kubeconfig::write(&kubeconfig, port, &site.pki.ca, &site.pki.controller_manager)?;
        let process = launch
            .args([
                format!("--kubeconfig={}", kubeconfig.display()),
                // Nothing scrapes its metrics here.
                "--secure-port=0".to_owned(),
                "--leader-elect=false".to_owned(),
                "--use-service-account-credentials".to_owned(),
                // With the default limits, creating the default ServiceAccount takes 6 s.
                "--kube-api-qps=500".to_owned(),
                "--kube-api-burst=1000".to_owned(),
                format!("--service-account-private-key-file={}", site.pki.service_account_key.display()),
                format!("--root-ca-file={}", site.pki.ca_file.display()),
                "--flex-volume-plugin-dir=flexvolume".to_owned(),
            ])
            .start(site.spawner)?;
        Ok(Self { process })
    }
}
