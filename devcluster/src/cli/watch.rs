//! A watchdog process that outlives `devcluster exec`. If `exec` is killed, the kernel ends only COMMAND itself; the
//! watchdog ends the processes that COMMAND started.

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

/// The handle that `exec` holds.
pub(crate) struct Watch(Child);

impl Watch {
    pub(crate) fn start(folder: &Path) -> Result<Self, Error> {
        let spawn = || {
            let mut command = Command::new(env::current_exe()?);
            command.arg("watch").arg(folder).current_dir("/");
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            // A separate process group, because users can kill the whole group of `exec` at once.
            command.process_group(0).spawn()
        };
        spawn().map(Self).map_err(|source| Error::Spawn { program: "devcluster watch".into(), source })
    }

    /// Ends the watchdog after COMMAND has exited by itself. Processes that it left running keep running.
    pub(crate) fn finish(mut self) {
        if let Some(mut stdin) = self.0.stdin.take() {
            let _ = stdin.write_all(b"done");
        }
        let _ = self.0.wait();
    }
}

/// Runs the watchdog: waits for `exec` to end, and cleans up if `exec` did not call [`Watch::finish`].
pub(crate) fn run(folder: &Path) -> ExitCode {
    const TIMEOUT: Duration = Duration::from_secs(10);
    let mut message = Vec::new();
    let read = io::stdin().read_to_end(&mut message);
    let begin = Instant::now();
    while matches!(read, Ok(0)) && folder.exists() && begin.elapsed() < TIMEOUT {
        end_users_of(folder);
        // Has no effect until the kernel has closed the last file of the killed process.
        let _ = Cluster::sweep();
        thread::sleep(Duration::from_millis(20));
    }
    ExitCode::SUCCESS
}

/// Ends all processes whose environment points to the cluster of `folder`.
fn end_users_of(folder: &Path) {
    let kubeconfig = format!("KUBECONFIG={}", folder.join("kubeconfig").display());
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        if let Some(pid) = pid
            && environ.split(|byte| *byte == 0).any(|variable| variable == kubeconfig.as_bytes())
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
