//! Mounts the control groups of the node inside the namespaces, where no other groups are visible.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::mount::{MountFlags, mount};

use super::{Membership, memberships, read};
use crate::Error;

/// The controllers that a kubelet needs for limits and metrics.
const CONTROLLERS: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];

/// Mounts the control groups at their standard location.
pub(in crate::node) fn mount_own() -> Result<(), Error> {
    let at = Path::new("/sys/fs/cgroup");
    let failed = |error: rustix::io::Errno| Error::NoNode(format!("cannot mount control groups: {error}"));
    let memberships = memberships(&read("/proc/self/cgroup")?);
    if memberships.iter().all(|found| found.controllers.is_empty()) {
        mount("cgroup2", at, "cgroup2", MountFlags::empty(), None).map_err(failed)?;
        return delegate(at);
    }
    mount("tmpfs", at, "tmpfs", MountFlags::empty(), Some(c"mode=755")).map_err(failed)?;
    for Membership { controllers, .. } in memberships {
        let (name, options) = match controllers.strip_prefix("name=") {
            Some(name) => (name.to_owned(), format!("none,{controllers}")),
            None => (controllers.clone(), controllers.clone()),
        };
        let folder = at.join(&name);
        fs::create_dir(&folder).map_err(Error::io("create the folder", &folder))?;
        let options = std::ffi::CString::new(options).map_err(|error| Error::NoNode(error.to_string()))?;
        mount("cgroup", &folder, "cgroup", MountFlags::empty(), Some(options.as_c_str())).map_err(failed)?;
        for one in name.split(',').filter(|one| *one != name) {
            let link = at.join(one);
            std::os::unix::fs::symlink(&name, &link).map_err(Error::io("create the link", &link))?;
        }
    }
    Ok(())
}

/// Moves all processes to a child group, because only a group without processes can delegate controllers.
fn delegate(root: &Path) -> Result<(), Error> {
    const TIMEOUT: Duration = Duration::from_secs(30);
    let leaf = root.join("init");
    fs::create_dir(&leaf).map_err(Error::io("create the folder", &leaf))?;
    let available = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let wanted: Vec<_> = available
        .split_whitespace()
        .filter(|one| CONTROLLERS.contains(one))
        .map(|one| format!("+{one}"))
        .collect();
    let begin = Instant::now();
    loop {
        for pid in fs::read_to_string(root.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = fs::write(leaf.join("cgroup.procs"), pid);
        }
        match fs::write(root.join("cgroup.subtree_control"), wanted.join(" ")) {
            Ok(()) => return Ok(()),
            // The process outside that started the first one inside is about to leave the group.
            Err(error) if begin.elapsed() > TIMEOUT => {
                return Err(Error::NoNode(format!("cannot delegate controllers: {error}")));
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}
