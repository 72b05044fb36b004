//! Runs containerd, and configures its network and its images.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{NAME, POD_CIDR, containers::Containers, servers::configured};
use crate::{
    Error,
    control_plane::Site,
    image::Image,
    process::{Launch, Process},
    progress::Steps,
};

/// The image of the process that holds a Pod's namespaces.
const PAUSE: &str = "localhost/devcluster-pause:1";

#[derive(Debug)]
pub(super) struct Containerd {
    ctr: PathBuf,
    env: Vec<(&'static str, std::ffi::OsString)>,
    pub(super) socket: PathBuf,
    _process: Process,
}

impl Containerd {
    pub(super) fn start(site: &Site, containers: &Containers, steps: &mut Steps) -> Result<Self, Error> {
        let mut launch = site.server("containerd", &containers.program("containerd")?)?;
        launch.env = containers.env();
        let folder = launch.folder.display().to_string();
        let socket = launch.folder.join("containerd.sock");
        let network = network(&launch)?;
        // Version 2 of the format, which newer versions of containerd read too.
        let text = format!(
            "version = 2
root = '{folder}/root'
state = '{folder}/state'
[grpc]
address = '{socket}'
[plugins.'io.containerd.grpc.v1.cri']
sandbox_image = '{PAUSE}'
# Without CAP_SYS_RESOURCE, containerd must not lower the OOM score of a process.
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

    /// Imports the images of an archive, so that the kubelet can use them.
    pub(super) fn import(&self, site: &Site, archive: &Path, steps: &mut Steps) -> Result<(), Error> {
        let mut ctr = Launch::server("ctr", &self.ctr, site.run.path(), site.logs);
        ctr.env.clone_from(&self.env);
        let socket = self.socket.as_os_str().to_owned();
        let args =
            ["--address".into(), socket, "--namespace=k8s.io".into(), "images".into(), "import".into()];
        ctr.args(args).args([archive]).start(site.spawner)?.success(steps)
    }
}

/// Writes the CNI configuration, which gives each Pod an address and a route to the node.
fn network(containerd: &Launch) -> Result<PathBuf, Error> {
    let folder = containerd.folder.join("cni");
    fs::create_dir(&folder).map_err(Error::io("create the folder", &folder))?;
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

/// Writes the pause image. It contains this program, because the command `init` without arguments only waits and reaps.
pub(super) fn pause(site: &Site) -> Result<PathBuf, Error> {
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
