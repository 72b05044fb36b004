//! From outside: the namespaces of a node, and the process in them that everything hangs on.

use std::{
    ffi::OsString,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Pid;

use super::{cgroups::Cgroups, containers::Containers, ground};
use crate::{
    Error, account,
    binaries::{self, Extent},
    cache::Cache,
    process,
    progress::{Cancel, Progress, Steps},
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

/// Namespaces for a node. They end with their first process; what is left of them on this machine goes with the `Room`.
#[derive(Debug)]
pub struct Room {
    cgroups: Cgroups,
}

impl Room {
    /// Looks whether this machine can run a node ([`Error::NoNode`] if not), and gets all programs into the cache, as
    /// nothing can be downloaded in there.
    pub fn create(cancel: &Cancel, progress: &mut dyn Progress) -> Result<Self, Error> {
        possible()?;
        let cgroups = Cgroups::create()?;
        let cache = Cache::open()?;
        let mut steps = Steps::new(progress, cancel.clone());
        binaries::find(&cache, Extent::WithNode, &mut steps)?;
        Containers::find(&cache, &mut steps)?;
        Ok(Self { cgroups })
    }

    /// Starts the first process of the namespaces, which takes the place of `init` there. Killing this process, or
    /// ending the calling thread, kills it and with it everything inside.
    pub fn start(&self, init: &[OsString]) -> Result<Tenant, Error> {
        let mut command = process::setpriv(&[], rustix::process::Signal::KILL, None);
        command.arg("--").arg("unshare").args(NAMESPACES).arg("--").args(init);
        command.env("TMPDIR", ground::STATE);
        self.cgroups.enter()?;
        let spawned = command.spawn();
        self.cgroups.leave(std::process::id());
        let child = spawned.map_err(|source| Error::Spawn { program: "setpriv".into(), source })?;
        let mut tenant = Tenant { child, first: None };
        tenant.first = tenant.wait_for_first();
        // It only waits, and would keep the group above from passing controllers on (control groups of version 2).
        self.cgroups.leave(tenant.child.id());
        Ok(tenant)
    }
}

/// Who lives in a [`Room`].
#[derive(Debug)]
pub struct Tenant {
    /// `unshare`, which waits for the first process and ends as that does.
    pub child: Child,
    /// The first process, as seen from outside; none if it has ended already.
    pub first: Option<Pid>,
}

impl Tenant {
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

/// Whether the kernel lets this process make the namespaces.
fn possible() -> Result<(), Error> {
    if !account::is_root() {
        return Err(Error::NoNode("it takes root (or sudo), and the right to make namespaces".to_owned()));
    }
    let mut unshare = Command::new("unshare");
    let output = unshare.args(NAMESPACES).arg("true").stdin(Stdio::null()).output();
    let output = output.map_err(|error| {
        Error::NoNode(format!("unshare (apt-get install util-linux) does not run: {error}"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::NoNode(format!("no namespaces: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
