//! `devcluster exec`: a cluster for the length of a command.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitCode, ExitStatus},
    thread,
    time::Duration,
};

use devcluster::{Cluster, Error, Options, Stderr};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    signals::{self, Signals},
    watch::Watch,
};

pub(crate) fn run(command: &[OsString]) -> Result<ExitCode, Error> {
    let failed = |source| Error::Spawn { program: "COMMAND".into(), source };
    let signals = Signals::listen().map_err(failed)?;
    let options = Options { cancel: signals.cancel(), ..Options::default() };
    let mut progress = Stderr::new();
    let cluster = match Cluster::start(&options, &mut progress) {
        Err(Error::Cancelled) => return Ok(code(128 + signals.take().unwrap_or_default())),
        started => started?,
    };
    // Clears the line of the terminal before the command writes there.
    drop(progress);
    let watch = Watch::start(&cluster)?;
    let child = spawn(command, &cluster)?;
    let status = wait(child, &signals).map_err(failed)?;
    watch.finish();
    drop(cluster);
    Ok(code(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())))
}

fn spawn(command: &[OsString], cluster: &Cluster) -> Result<Child, Error> {
    // Killing this process ends the command, which has no cluster any more. This thread, the main one, lives as long
    // as the process.
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--pdeathsig", "KILL", "--"]).args(command).envs(cluster.env());
    setpriv.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::NoSetpriv,
        _ => Error::Spawn { program: "setpriv".into(), source },
    })
}

/// Waits for the command, and passes on the signals that only this process has got.
fn wait(mut child: Child, signals: &Signals) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if let Some(number) = signals.take()
            && !signals::came_from_terminal(number)
            && let Some(signal) = Signal::from_named_raw(number)
            && let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
        {
            // If it has just ended, the next look says so.
            let _ = kill_process(pid, signal);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn code(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))
}
