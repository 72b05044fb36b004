//! The servers of a node.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use super::{
    ADDRESS, NAME, NodeOptions, POD_CIDR,
    containerd::{Containerd, pause},
    containers::Containers,
};
use crate::{
    Error,
    binaries::NodePrograms,
    control_plane::Site,
    https, kubeconfig,
    pki::NodePki,
    process::{Launch, Process},
    progress::Steps,
};

/// The running node. The processes of Pods end with the namespaces.
// Fields are dropped in declaration order.
#[derive(Debug)]
pub(crate) struct Node {
    _proxy: Process,
    _scheduler: Process,
    _kubelet: Process,
    _containerd: Containerd,
}

impl Node {
    /// Starts the servers for a control plane on `port`, and waits until Pods can run.
    pub(crate) fn start(
        site: &Site,
        programs: &NodePrograms,
        containers: &Containers,
        options: &NodeOptions,
        port: u16,
        steps: &mut Steps,
    ) -> Result<Self, Error> {
        steps.begin("starting containerd, kubelet, kube-scheduler and kube-proxy")?;
        let pki = NodePki::create(site.pki, &[NAME, ADDRESS, "127.0.0.1", "localhost"])?;
        let client = https::client(&site.pki.ca, &site.pki.admin)?;
        let containerd = Containerd::start(site, containers, steps)?;
        let scheduler = scheduler(site, &programs.scheduler, &pki, port)?;
        containerd.import(site, &pause(site)?, steps)?;
        // Import before the kubelet starts, because it lists images only twice a minute.
        for image in &options.images {
            containerd.import(site, image, steps)?;
        }
        let mut kubelet = kubelet(site, &programs.kubelet, &pki, &containerd, containers, port)?;
        let proxy = proxy(site, &programs.proxy, &pki, containers, port)?;
        let url = format!("https://127.0.0.1:{port}/api/v1/nodes/{NAME}");
        kubelet.until(steps, || https::text(&client, &url).is_some_and(|node| is_ready(&node)))?;
        Ok(Self { _proxy: proxy, _scheduler: scheduler, _kubelet: kubelet, _containerd: containerd })
    }
}

/// Reports whether the condition `Ready` of a node is True.
fn is_ready(node: &str) -> bool {
    let node: serde_json::Value = serde_json::from_str(node).unwrap_or_default();
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Writes a configuration file to the folder of a server.
pub(super) fn configured(launch: &Launch, name: &str, text: &str) -> Result<PathBuf, Error> {
    let path = launch.folder.join(name);
    fs::write(&path, text).map_err(Error::io("write", &path))?;
    Ok(path)
}

fn kubelet(
    site: &Site,
    program: &Path,
    pki: &NodePki,
    containerd: &Containerd,
    containers: &Containers,
    port: u16,
) -> Result<Process, Error> {
    let mut launch = site.server("kubelet", program)?;
    launch.env = containers.env();
    let config = configured(&launch, "config.yaml", &kubelet_config(site, pki, containerd))?;
    let kubeconfig = launch.folder.join("kubeconfig");
    kubeconfig::write(&kubeconfig, port, &site.pki.ca, &pki.kubelet)?;
    let root = launch.folder.join("root");
    launch
        .args([
            format!("--config={}", config.display()),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--root-dir={}", root.display()),
            format!("--hostname-override={NAME}"),
            format!("--node-ip={ADDRESS}"),
        ])
        .start(site.spawner)
}

fn kubelet_config(site: &Site, pki: &NodePki, containerd: &Containerd) -> String {
    let mut text = String::from(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
authorization: {mode: Webhook}
clusterDomain: cluster.local
resolvConf: ''
failSwapOn: false
oomScoreAdj: 0
# Images cannot be pulled, so none may be removed.
imageMinimumGCAge: 24h
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
enforceNodeAllocatable: [pods]
nodeStatusUpdateFrequency: 4s
",
    );
    // Writing to a String cannot fail.
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key}: {value}");
    };
    let ca = site.pki.ca_file.display();
    line(
        "authentication",
        format!(
            "{{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: '{ca}'}}}}"
        ),
    );
    line("containerRuntimeEndpoint", format!("unix://{}", containerd.socket.display()));
    line("tlsCertFile", pki.kubelet_server.certificate_file.display().to_string());
    line("tlsPrivateKeyFile", pki.kubelet_server.key_file.display().to_string());
    line("clusterDNS", format!("[{ADDRESS}]"));
    line("volumePluginDir", site.run.path().join("flexvolume-kubelet").display().to_string());
    text
}

fn scheduler(site: &Site, program: &Path, pki: &NodePki, port: u16) -> Result<Process, Error> {
    let launch = site.server("kube-scheduler", program)?;
    let kubeconfig = launch.folder.join("kubeconfig");
    kubeconfig::write(&kubeconfig, port, &site.pki.ca, &pki.scheduler)?;
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    launch.args([kubeconfig, "--leader-elect=false".into(), "--secure-port=0".into()]).start(site.spawner)
}

fn proxy(
    site: &Site,
    program: &Path,
    pki: &NodePki,
    containers: &Containers,
    port: u16,
) -> Result<Process, Error> {
    let mut launch = site.server("kube-proxy", program)?;
    launch.env = containers.env();
    let kubeconfig = launch.folder.join("kubeconfig");
    kubeconfig::write(&kubeconfig, port, &site.pki.ca, &pki.proxy)?;
    let text = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {{kubeconfig: '{}'}}
clusterCIDR: {POD_CIDR}
nftables: {{minSyncPeriod: 0s}}
hostnameOverride: {NAME}
# These settings affect the whole machine.
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
",
        kubeconfig.display()
    );
    let config = configured(&launch, "config.yaml", &text)?;
    launch.args([format!("--config={}", config.display())]).start(site.spawner)
}

#[cfg(test)]
mod tests {
    use super::is_ready;

    #[test]
    fn readiness_follows_the_condition_ready() {
        let node = |status| {
            format!(r#"{{"status": {{"conditions": [{{"type": "Ready", "status": "{status}"}}]}}}}"#)
        };
        assert!(is_ready(&node("True")));
        assert!(!is_ready(&node("False")));
        assert!(!is_ready("no JSON"));
    }
}
