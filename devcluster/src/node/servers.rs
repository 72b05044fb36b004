//! The servers of a node, each its own struct.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use super::{ADDRESS, NAME, NodeOptions, POD_CIDR, containers::Containers};
use crate::{
    Error,
    binaries::NodePrograms,
    control_plane::Site,
    https,
    image::Image,
    kubeconfig,
    pki::NodePki,
    process::{Launch, Process},
    progress::Steps,
};

/// The image of the process that holds a Pod's namespaces.
const PAUSE: &str = "localhost/devcluster-pause:1";

/// The fields are dropped in this order. What runs in Pods ends with the namespaces.
#[derive(Debug)]
pub(crate) struct Node {
    _proxy: Process,
    _scheduler: Process,
    _kubelet: Process,
    _containerd: Containerd,
}

impl Node {
    /// Starts all beside a control plane on `port`, and waits until Pods can run.
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
        // Before the kubelet looks what there is, which it does twice a minute.
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

/// Whether a node says that it is ready.
fn is_ready(node: &str) -> bool {
    let node: serde_json::Value = serde_json::from_str(node).unwrap_or_default();
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// This program again, as its `init` does nothing but wait and reap.
fn pause(site: &Site) -> Result<PathBuf, Error> {
    let binary = std::env::current_exe().map_err(Error::io("find", Path::new("/proc/self/exe")))?;
    let image = Image {
        binary,
        tag: PAUSE.to_owned(),
        user: "65535:65535".to_owned(),
        ca_bundle: None,
        args: vec!["init".to_owned()],
        labels: std::collections::BTreeMap::new(),
    };
    let file = site.run.path().join("pause.tar");
    image.write(&file)?;
    Ok(file)
}

/// A server whose configuration is a file in its folder.
fn configured(launch: &Launch, name: &str, text: &str) -> Result<PathBuf, Error> {
    let path = launch.folder.join(name);
    fs::write(&path, text).map_err(Error::io("write", &path))?;
    Ok(path)
}

#[derive(Debug)]
struct Containerd {
    ctr: PathBuf,
    env: Vec<(&'static str, std::ffi::OsString)>,
    socket: PathBuf,
    _process: Process,
}

impl Containerd {
    fn start(site: &Site, containers: &Containers, steps: &mut Steps) -> Result<Self, Error> {
        let mut launch = site.server("containerd", &containers.program("containerd")?)?;
        launch.env = containers.env();
        let folder = launch.folder.display().to_string();
        let socket = launch.folder.join("containerd.sock");
        let network = network(&launch)?;
        // Version 2 of the format, which newer ones read too.
        let text = format!(
            "version = 2
root = '{folder}/root'
state = '{folder}/state'
[grpc]
address = '{socket}'
[plugins.'io.containerd.grpc.v1.cri']
sandbox_image = '{PAUSE}'
# Without CAP_SYS_RESOURCE no process may be made less likely to be killed.
restrict_oom_score_adj = true
disable_apparmor = true
[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]
BinaryName = '{runc}'
SystemdCgroup = false
[plugins.'io.containerd.grpc.v1.cri'.cni]
bin_dir = '{plugins}'
conf_dir = '{network}'
",
            socket = socket.display(),
            runc = containers.program("runc")?.display(),
            plugins = containers.plugins.display(),
            network = network.display(),
        );
        let config = configured(&launch, "config.toml", &text)?;
        let mut process = launch.args(["--config".into(), config]).start(site.spawner)?;
        process.until(steps, || std::os::unix::net::UnixStream::connect(&socket).is_ok())?;
        Ok(Self { ctr: containers.program("ctr")?, env: containers.env(), socket, _process: process })
    }

    /// Makes the images of an archive known to the kubelet.
    fn import(&self, site: &Site, archive: &Path, steps: &mut Steps) -> Result<(), Error> {
        let mut ctr = Launch::server("ctr", &self.ctr, site.run.path(), site.logs);
        ctr.env.clone_from(&self.env);
        let socket = self.socket.as_os_str().to_owned();
        let args =
            ["--address".into(), socket, "--namespace=k8s.io".into(), "images".into(), "import".into()];
        ctr.args(args).args([archive]).start(site.spawner)?.success(steps)
    }
}

/// Pods get an address each, and a route to the node.
fn network(containerd: &Launch) -> Result<PathBuf, Error> {
    let folder = containerd.folder.join("cni");
    fs::create_dir(&folder).map_err(Error::io("make the folder", &folder))?;
    let leases = containerd.folder.join("addresses");
    let list = serde_json::json!({
        "cniVersion": "1.0.0",
        "name": NAME,
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": POD_CIDR }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
                "dataDir": leases,
            },
        }],
    });
    let path = folder.join("10-ptp.conflist");
    fs::write(&path, list.to_string()).map_err(Error::io("write", &path))?;
    Ok(folder)
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
# Images cannot be pulled again.
imageMinimumGCAge: 24h
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
enforceNodeAllocatable: [pods]
nodeStatusUpdateFrequency: 4s
",
    );
    // Into a String, which takes everything.
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
# These are the whole machine's.
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
    fn a_node_is_ready_when_it_says_so() {
        let node = |status| {
            format!(r#"{{"status": {{"conditions": [{{"type": "Ready", "status": "{status}"}}]}}}}"#)
        };
        assert!(is_ready(&node("True")));
        assert!(!is_ready(&node("False")));
        assert!(!is_ready("no JSON"));
    }
}
