//! A small process beside `devcluster exec` that outlives it: when `exec` is killed, what COMMAND has started would
//! otherwise stay, as the kernel ends only COMMAND itself.

use std::{
    env, fs,
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use devcluster::{Cluster, Error};
use rustix::process::{Pid, Signal, kill_process};

/// The side of `exec`.
pub(crate) struct Watch(Child);

impl Watch {
    pub(crate) fn start(folder: &Path) -> Result<Self, Error> {
        let spawn = || {
            let mut command = Command::new(env::current_exe()?);
            command.arg("watch").arg(folder).current_dir("/");
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            // A group of its own, as a group may be killed at once.
            command.process_group(0).spawn()
        };
        spawn().map(Self).map_err(|source| Error::Spawn { program: "devcluster watch".into(), source })
    }

    /// COMMAND has ended by itself: what it left running is meant to run on.
    pub(crate) fn finish(mut self) {
        if let Some(mut stdin) = self.0.stdin.take() {
            let _ = stdin.write_all(b"done");
        }
        let _ = self.0.wait();
    }
}

/// The process itself: waits for `exec` to end, and cleans up if that came without a word.
pub(crate) fn run(folder: &Path) -> ExitCode {
    const PATIENCE: Duration = Duration::from_secs(10);
    let mut word = Vec::new();
    let read = io::stdin().read_to_end(&mut word);
    let begin = Instant::now();
    while matches!(read, Ok(0)) && folder.exists() && begin.elapsed() < PATIENCE {
        end_users_of(folder);
        // Does nothing yet while the last file of the killed process is being closed.
        let _ = Cluster::sweep();
        thread::sleep(Duration::from_millis(20));
    }
    ExitCode::SUCCESS
}

/// Ends every process that was told to use the cluster of `folder`.
fn end_users_of(folder: &Path) {
    let mark = format!("KUBECONFIG={}", folder.join("kubeconfig").display());
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        if let Some(pid) = pid
            && environ.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
