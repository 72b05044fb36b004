//! Cleans up servers and shared memory that can survive a killed process.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Ends the servers of a cluster whose owner is gone, and frees their shared memory. The parent-death signal already
/// ends them, unless the owner was killed between starting a server and setting that signal.
pub(crate) fn end_servers(run_dir: &Path) {
    // Postgres and initdb clean up on SIGQUIT; kube-apiserver and etcd just exit.
    for signal in [Signal::QUIT, Signal::KILL] {
        let all = servers(run_dir);
        for pid in &all {
            let _ = kill_process(*pid, signal);
        }
        wait_while(|| !servers(run_dir).is_empty());
    }
    // The folder contains the id of the segment, so the segment must be freed before the folder is removed.
    wait_while(|| match segment(run_dir) {
        Segment::InUse => true,
        Segment::None => false,
        Segment::Orphaned(id) => {
            let mut ipcrm = Command::new("ipcrm");
            ipcrm.args(["-m", &id]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let _ = ipcrm.status();
            false
        }
    });
}

fn wait_while(mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while condition() && begin.elapsed() < Duration::from_secs(6) {
        thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the servers of a cluster: processes that work in its folder and have files of it as arguments. Other
/// processes can mention the folder too.
fn servers(run_dir: &Path) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(run_dir)))
        .filter(|process| {
            let cmdline = fs::read(process.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&cmdline).contains(&*run_dir.to_string_lossy())
        })
        .filter_map(|process| process.file_name().to_str()?.parse().ok().and_then(Pid::from_raw))
        .collect()
}

/// The System V shared memory segment (56 bytes, an interlock) that a Postgres killed by SIGKILL leaves behind.
#[derive(Debug, PartialEq, Eq)]
enum Segment {
    None,
    InUse,
    Orphaned(String),
}

fn segment(run_dir: &Path) -> Segment {
    let pid_file = fs::read_to_string(run_dir.join("postgres/data/postmaster.pid")).unwrap_or_default();
    let segments = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    parse_segment(&pid_file, &segments).unwrap_or(Segment::None)
}

/// Finds the segment that the pid file of Postgres names, if it exists with the same key.
fn parse_segment(pid_file: &str, segments: &str) -> Option<Segment> {
    let mut fields = pid_file.lines().nth(6)?.split_whitespace();
    let (key, id) = (fields.next()?, fields.next()?);
    let mut lines = segments.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|line| line.first() == Some(&key) && line.get(1) == Some(&id))?;
    Some(if line.get(6) == Some(&"0") { Segment::Orphaned(id.to_owned()) } else { Segment::InUse })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENTS: &str = "       key      shmid perms                  size  cpid  lpid nattch   uid\n\
         2753541          7   600                    56  1234  1300      0   101\n\
         2753542          8   600                    56  1235  1301      6   101\n";

    fn pid_file(key: u32, id: u32) -> String {
        format!("99\n/data\n1700000000\n5432\n\n127.0.0.1\n  {key}         {id}\nready   \n")
    }

    #[test]
    fn only_an_unused_segment_of_that_key_is_orphaned() {
        assert_eq!(parse_segment(&pid_file(2_753_541, 7), SEGMENTS), Some(Segment::Orphaned("7".into())));
        assert_eq!(parse_segment(&pid_file(2_753_542, 8), SEGMENTS), Some(Segment::InUse));
        assert_eq!(parse_segment(&pid_file(2_753_549, 7), SEGMENTS), None, "a segment with another key");
        assert_eq!(parse_segment("99\n/data\n", SEGMENTS), None);
    }
}
