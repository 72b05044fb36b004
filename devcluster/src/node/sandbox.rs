//! Creates the namespaces of a node from outside, and starts their first process.

use std::{
    ffi::OsString,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Pid;

use super::{cgroups::Cgroups, containers::Containers, namespaces};
use crate::{
    Error,
    binaries::{self, Extent},
    cache::Cache,
    process,
    progress::{Cancel, Progress, Steps},
    unprivileged_user,
};

const NAMESPACES: [&str; 9] = [
    "--mount",
    "--net",
    "--pid",
    "--uts",
    "--ipc",
    "--cgroup",
    "--fork",
    "--kill-child=SIGKILL",
    "--mount-proc",
];

/// Namespaces for a node. They end with their first process. Dropping the `Sandbox` removes their control groups.
#[derive(Debug)]
pub struct Sandbox {
    cgroups: Cgroups,
}

impl Sandbox {
    /// Checks whether this machine can run a node, and downloads all programs into the cache, because downloads are not
    /// possible inside the namespaces. Returns [`Error::NoNode`] if a node cannot run.
    pub fn create(cancel: &Cancel, progress: &mut dyn Progress) -> Result<Self, Error> {
        check_namespaces()?;
        let cgroups = Cgroups::create()?;
        let cache = Cache::open()?;
        let mut steps = Steps::new(progress, cancel.clone());
        binaries::find(&cache, Extent::WithNode, &mut steps)?;
        Containers::find(&cache, &mut steps)?;
        Ok(Self { cgroups })
    }

    /// Starts the first process of the namespaces, which acts as `init`. Killing this process, or ending the calling
    /// thread, kills it and all processes inside.
    pub fn start(&self, init: &[OsString]) -> Result<Workload, Error> {
        let mut command = process::setpriv(&[], rustix::process::Signal::KILL, None);
        command.arg("--").arg("unshare").args(NAMESPACES).arg("--").args(init);
        command.env("TMPDIR", namespaces::STATE);
        self.cgroups.enter()?;
        let spawned = command.spawn();
        self.cgroups.leave(std::process::id());
        let child = spawned.map_err(|source| Error::Spawn { program: "setpriv".into(), source })?;
        let mut workload = Workload { child, first: None };
        workload.first = workload.wait_for_first();
        // `unshare` only waits, and inside the group it would prevent the delegation of controllers (version 2).
        self.cgroups.leave(workload.child.id());
        Ok(workload)
    }
}

/// The first process of a [`Sandbox`].
#[derive(Debug)]
pub struct Workload {
    /// The process of `unshare`, which waits for the first process and exits with its status.
    pub child: Child,
    /// The id of the first process in the outer namespace, or `None` if it has already ended.
    pub first: Option<Pid>,
}

impl Workload {
    fn wait_for_first(&mut self) -> Option<Pid> {
        let begin = Instant::now();
        let id = self.child.id();
        let children = PathBuf::from(format!("/proc/{id}/task/{id}/children"));
        while begin.elapsed() < Duration::from_secs(30) && matches!(self.child.try_wait(), Ok(None)) {
            let text = fs::read_to_string(&children).unwrap_or_default();
            if let Some(pid) = text.split_whitespace().next() {
                return pid.parse().ok().and_then(Pid::from_raw);
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

/// Checks whether the kernel allows this process to create the namespaces.
fn check_namespaces() -> Result<(), Error> {
    if !unprivileged_user::is_root() {
        return Err(Error::NoNode(
            "a node requires root (or sudo) and the permission to create namespaces".to_owned(),
        ));
    }
    let mut unshare = Command::new("unshare");
    let output = unshare.args(NAMESPACES).arg("true").stdin(Stdio::null()).output();
    let output = output.map_err(|error| {
        Error::NoNode(format!("cannot run unshare (apt-get install util-linux): {error}"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::NoNode(format!(
        "cannot create namespaces: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}
