//! A control group with the memory limit of the chart, of version 1 or 2.

use std::fs;
use std::path::{Path, PathBuf};

const VALUES: &str = include_str!("../../charts/jobexec-operator/values.yaml");

/// The group, removed at the end.
pub(crate) struct Cage {
    group: Option<PathBuf>,
    mib: u64,
}

impl Cage {
    pub(crate) fn of_chart() -> Self {
        let values: serde_json::Value = serde_saphyr::from_str(VALUES).unwrap();
        let limit = values["resources"]["limits"]["memory"].as_str().unwrap();
        let mib: u64 = limit.strip_suffix("Mi").expect("a limit in Mi").parse().unwrap();
        let group = make(mib * 1_024 * 1_024);
        if let Err(error) = &group {
            eprintln!("NO LIMIT: no control group can be made here ({error}): memory is measured only");
        }
        Self { group: group.ok(), mib }
    }

    /// Moves a process into the group.
    pub(crate) fn hold(&self, pid: u32) {
        if let Some(group) = &self.group {
            fs::write(group.join("cgroup.procs"), pid.to_string()).unwrap();
        }
    }

    pub(crate) fn describe(&self) -> String {
        match self.group {
            Some(_) => format!("a memory limit of {} MiB", self.mib),
            None => format!("NO MEMORY LIMIT (the chart's is {} MiB)", self.mib),
        }
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            let _ = fs::remove_dir(group);
        }
    }
}

fn make(bytes: u64) -> std::io::Result<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let of = |controller: &str| {
        own.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, group) = rest.split_once(':')?;
            controllers.split(',').any(|one| one == controller).then(|| group.trim_matches('/').to_owned())
        })
    };
    let name = format!("jobexec-hostile-{}", std::process::id());
    if let Some(group) = of("memory") {
        let group = Path::new("/sys/fs/cgroup/memory").join(group).join(name);
        fs::create_dir(&group)?;
        fs::write(group.join("memory.limit_in_bytes"), bytes.to_string())?;
        return Ok(group);
    }
    let group = Path::new("/sys/fs/cgroup").join(of("").unwrap_or_default()).join(name);
    fs::create_dir(&group)?;
    fs::write(group.join("memory.max"), bytes.to_string()).inspect_err(|_| {
        let _ = fs::remove_dir(&group);
    })?;
    Ok(group)
}
