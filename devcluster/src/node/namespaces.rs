//! Prepares new namespaces for a node, without changes to the machine outside.

use std::{
    ffi::CStr,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use super::{ADDRESS, NAME, SERVICE_CIDR, cgroups, containers::Containers};
use crate::{
    Error,
    cache::Cache,
    progress::{Cancel, Quiet, Steps},
};

/// The folder for temporary files, including those of the cluster. It is in memory and disappears with the namespaces.
pub(super) const STATE: &str = "/run/devcluster";

/// The sysctls that a kubelet sets. They are not namespaced, so the kubelet writes to decoy files instead, which
/// nothing reads.
const SYSCTLS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Prepares the namespaces that a [`Sandbox`](super::Sandbox) created. A child of their first process must call this
/// function once, before it starts a cluster.
pub fn prepare_namespaces() -> Result<(), Error> {
    if rustix::process::getppid().is_none_or(|parent| parent != rustix::process::Pid::INIT) {
        return Err(Error::NoNode(
            "this process is not inside the namespaces of a node: use `devcluster exec --node`".to_owned(),
        ));
    }
    rustix::system::sethostname(NAME.as_bytes()).map_err(failed("cannot set the host name"))?;
    system_files()?;
    for (path, value) in SYSCTLS {
        decoy(path, value)?;
    }
    // `ip` can be one of the unpacked programs. They are in the cache already, so this needs no progress.
    let mut quiet = Quiet;
    let containers = Containers::find(&Cache::open()?, &mut Steps::new(&mut quiet, Cancel::default()))?;
    network(&containers)
}

fn failed(what: &str) -> impl FnOnce(rustix::io::Errno) -> Error {
    move |error| Error::NoNode(format!("{what}: {error}"))
}

/// Mounts a new /sys, and keeps /run and the changes to /var in memory.
fn system_files() -> Result<(), Error> {
    let mounted = |source: &str, at: &str, kind: &str, options: Option<&CStr>| {
        let done = mount(source, at, kind, MountFlags::empty(), options);
        done.map_err(failed(&format!("cannot mount {kind} at {at}")))
    };
    unmount("/sys", UnmountFlags::DETACH).map_err(failed("cannot unmount /sys"))?;
    mounted("sysfs", "/sys", "sysfs", None)?;
    cgroups::mount_own()?;
    mounted("tmpfs", "/run", "tmpfs", Some(c"mode=755"))?;
    for folder in [STATE, "/run/decoys", "/run/var/upper", "/run/var/work"] {
        fs::create_dir_all(folder).map_err(Error::io("create the folder", Path::new(folder)))?;
    }
    // The kubelet and CNI plugins have folders there whose paths cannot be configured.
    let options = c"lowerdir=/var,upperdir=/run/var/upper,workdir=/run/var/work";
    mounted("overlay", "/var", "overlay", Some(options))
}

/// Mounts a decoy file over a sysctl.
fn decoy(path: &str, value: &str) -> Result<(), Error> {
    let real = Path::new("/proc/sys").join(path);
    if !real.exists() {
        return Ok(());
    }
    let file = Path::new("/run/decoys").join(path.replace('/', "."));
    fs::write(&file, format!("{value}\n")).map_err(Error::io("write", &file))?;
    mount_bind(&file, &real).map_err(failed(&format!("cannot mount a decoy over {}", real.display())))
}

/// Creates a bridge with the address of the node, and the route to Services, which kube-proxy then redirects to Pods.
fn network(containers: &Containers) -> Result<(), Error> {
    let program = containers.program("ip")?;
    let address = format!("{ADDRESS}/32");
    let steps: [&[&str]; 5] = [
        &["link", "set", "lo", "up"],
        &["link", "add", "node0", "type", "bridge"],
        &["address", "add", &address, "dev", "node0"],
        &["link", "set", "node0", "up"],
        &["route", "add", SERVICE_CIDR, "dev", "node0"],
    ];
    for step in steps {
        let output = Command::new(&program).args(step).envs(containers.env()).stdin(Stdio::null()).output();
        let output = output.map_err(|error| Error::NoNode(format!("cannot run ip: {error}")))?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::NoNode(format!("ip {} failed: {error}", step.join(" "))));
        }
    }
    let forward = Path::new("/proc/sys/net/ipv4/ip_forward");
    fs::write(forward, "1").map_err(Error::io("write", forward))
}
