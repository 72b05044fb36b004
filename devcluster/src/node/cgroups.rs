//! The control groups of a node. They are created below the current group before the namespaces, so that processes
//! inside the namespaces cannot reach the machine's other groups, and are removed afterwards.

mod inside;

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Pid;

pub(super) use self::inside::mount_own;
use crate::Error;

const PREFIX: &str = "jobexec-devcluster-";

/// A line of /proc/self/cgroup: a hierarchy, and the group of a process in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Membership {
    /// The mounted controllers of the hierarchy, `name=…` for one without controllers, or empty for version 2.
    controllers: String,
    group: PathBuf,
}

/// A mounted hierarchy in /proc/self/mountinfo.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    /// The mount options, which name the controllers. Empty for version 2.
    options: Vec<String>,
    root: PathBuf,
    mounted: PathBuf,
}

fn memberships(text: &str) -> Vec<Membership> {
    let all: Vec<_> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            Some(Membership { controllers: fields.next()?.to_owned(), group: fields.next()?.into() })
        })
        .collect();
    // If there are hierarchies of version 1, they have the controllers.
    let (two, one): (Vec<_>, Vec<_>) = all.into_iter().partition(|found| found.controllers.is_empty());
    if one.is_empty() { two } else { one }
}

fn hierarchies(text: &str) -> Vec<Hierarchy> {
    text.lines()
        .filter_map(|line| {
            let (mount, source) = line.split_once(" - ")?;
            let mut mount = mount.split(' ').skip(3);
            let (root, mounted) = (mount.next()?.into(), mount.next()?.into());
            let mut source = source.split(' ');
            let options = match source.next()? {
                "cgroup" => source.nth(1)?.split(',').map(str::to_owned).collect(),
                "cgroup2" => Vec::new(),
                _ => return None,
            };
            Some(Hierarchy { options, root, mounted })
        })
        .collect()
}

/// Returns the folders of a group and of the topmost group of its hierarchy.
fn folder(hierarchies: &[Hierarchy], of: &Membership) -> Option<(PathBuf, PathBuf)> {
    let wanted = |hierarchy: &&Hierarchy| match of.controllers.as_str() {
        "" => hierarchy.options.is_empty(),
        all => all.split(',').all(|one| hierarchy.options.iter().any(|option| option == one)),
    };
    let found = hierarchies.iter().find(wanted)?;
    Some((found.mounted.join(of.group.strip_prefix(&found.root).ok()?), found.mounted.clone()))
}

fn read(path: &str) -> Result<String, Error> {
    fs::read_to_string(path).map_err(Error::io("read", Path::new(path)))
}

fn denied(folder: &Path) -> impl FnOnce(io::Error) -> Error {
    let folder = folder.display().to_string();
    move |error| Error::NoNode(format!("cannot create a control group in {folder}: {error}"))
}

/// The control groups of one node, one per hierarchy.
#[derive(Debug)]
pub(super) struct Cgroups {
    /// The folders of each group, and of the original group of this process.
    groups: Vec<(PathBuf, PathBuf)>,
}

impl Cgroups {
    pub(super) fn create() -> Result<Self, Error> {
        let hierarchies = hierarchies(&read("/proc/self/mountinfo")?);
        let memberships = memberships(&read("/proc/self/cgroup")?);
        if memberships.is_empty() {
            return Err(Error::NoNode("this machine has no control groups".to_owned()));
        }
        let mut made = Self { groups: Vec::new() };
        for membership in &memberships {
            let missing = || Error::NoNode(format!("the control groups {membership:?} are not mounted"));
            let (own, top) = folder(&hierarchies, membership).ok_or_else(missing)?;
            let parent =
                if membership.controllers.is_empty() { delegating_group(&own, &top)? } else { own.clone() };
            sweep(&parent);
            let new = parent.join(format!("{PREFIX}{}", std::process::id()));
            fs::create_dir(&new).map_err(denied(&parent))?;
            made.groups.push((new.clone(), own.clone()));
            match membership.controllers.as_str() {
                // A new group of this kind has neither setting, and accepts no process until both are set.
                controllers if controllers.split(',').any(|one| one == "cpuset") => {
                    for name in ["cpuset.cpus", "cpuset.mems"] {
                        fs::copy(own.join(name), new.join(name)).map_err(denied(&own))?;
                    }
                }
                _ => {}
            }
        }
        Ok(made)
    }

    /// Moves this process into the groups, so that its new child processes start there.
    pub(super) fn enter(&self) -> Result<(), Error> {
        self.groups.iter().try_for_each(|(new, own)| write(new, std::process::id()).map_err(denied(own)))
    }

    /// Moves a process back to the original groups. Ignores errors, because the process can have ended.
    pub(super) fn leave(&self, pid: u32) {
        for (_, own) in &self.groups {
            let _ = write(own, pid);
        }
    }
}

fn write(group: &Path, pid: u32) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), pid.to_string())
}

/// Returns a group of version 2 that delegates the required controllers to its children: `own`, or the topmost group,
/// or else `own` after enabling the delegation. The kernel rejects that for groups with processes. The topmost group is
/// never changed.
fn delegating_group(own: &Path, top: &Path) -> Result<PathBuf, Error> {
    let control = |group: &Path| group.join("cgroup.subtree_control");
    let delegates = |group: &Path| {
        let text = fs::read_to_string(control(group)).unwrap_or_default();
        ["cpu", "memory", "pids"].iter().all(|required| text.split_whitespace().any(|one| one == *required))
    };
    if delegates(own) {
        return Ok(own.to_owned());
    }
    if delegates(top) {
        return Ok(top.to_owned());
    }
    let written = fs::write(control(own), "+cpu +memory +pids");
    written.map(|()| own.to_owned()).map_err(|error| {
        Error::NoNode(format!("the control group {} cannot delegate controllers: {error}", own.display()))
    })
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        // The last processes of the node can still be exiting.
        let begin = Instant::now();
        for (new, _) in &self.groups {
            while remove(new).is_err() && begin.elapsed() < Duration::from_secs(10) {
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Removes a group and its descendants. Fails if one of them has processes.
fn remove(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the groups of killed processes. The name of a group contains the id of its process.
fn sweep(own: &Path) {
    for entry in fs::read_dir(own).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|pid| pid.parse().ok());
        if owner.and_then(Pid::from_raw).is_some_and(|pid| rustix::process::test_kill_process(pid).is_err()) {
            // A group with processes stays.
            let _ = remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        25 1 254:0 / / rw - ext4 /dev/vda rw\n\
        31 30 0:27 /docker/a /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
        32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    fn folders(cgroup: &str) -> Vec<Option<PathBuf>> {
        let folders = |found| folder(&hierarchies(MOUNTS), found).map(|(own, _)| own);
        memberships(cgroup).iter().map(folders).collect()
    }

    #[test]
    fn groups_of_both_versions_are_found() {
        let one = folders("4:cpu,cpuacct:/docker/a/b\n9:name=systemd:/\n0::/\n");
        let expected = ["/sys/fs/cgroup/cpu,cpuacct/b", "/sys/fs/cgroup/systemd/"];
        assert_eq!(one, expected.map(|path| Some(PathBuf::from(path))));
        assert_eq!(folders("0::/user.slice\n"), [Some("/sys/fs/cgroup/unified/user.slice".into())]);
        assert_eq!(folders("3:memory:/\n"), [None]);
    }

    #[test]
    fn a_group_of_version_2_that_delegates_controllers_is_chosen() -> Result<(), Box<dyn std::error::Error>> {
        let top = tempfile::tempdir()?;
        let own = top.path().join("session");
        fs::create_dir(&own)?;
        let set = |group: &Path, text: &str| fs::write(group.join("cgroup.subtree_control"), text);
        set(&own, "")?;
        set(top.path(), "cpuset cpu io memory pids\n")?;
        assert_eq!(delegating_group(&own, top.path())?, top.path());
        set(&own, "cpu memory pids\n")?;
        assert_eq!(delegating_group(&own, top.path())?, own);
        set(&own, "")?;
        set(top.path(), "memory\n")?;
        assert_eq!(delegating_group(&own, top.path())?, own);
        assert_eq!(fs::read_to_string(own.join("cgroup.subtree_control"))?, "+cpu +memory +pids");
        Ok(())
    }
}
