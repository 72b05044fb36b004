//! The first process of a node's namespaces: it starts COMMAND, forwards signals to it, reaps orphaned processes, and
//! exits with the status of COMMAND. Without a COMMAND it waits for a signal, to hold the namespaces of a Pod.

use std::{
    ffi::OsString,
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

use devcluster::Error;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};

use super::signals::Signals;

pub(crate) fn run(command: &[OsString]) -> Result<ExitCode, Error> {
    let failed = |source| Error::Spawn { program: "init".into(), source };
    let signals = Signals::listen().map_err(failed)?;
    let child = match command.split_first() {
        None => None,
        Some((program, args)) => {
            let child = Command::new(program).args(args).spawn().map_err(failed)?;
            i32::try_from(child.id()).ok().and_then(Pid::from_raw)
        }
    };
    loop {
        // Fails if there is no child.
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if Some(pid) == child {
                return Ok(super::exec::code(outcome(status)));
            }
        }
        match (signals.take().and_then(Signal::from_named_raw), child) {
            (Some(signal), Some(child)) => {
                // Fails if the process has just ended, which the next iteration notices.
                let _ = kill_process(child, signal);
            }
            (Some(_), None) => return Ok(ExitCode::SUCCESS),
            (None, _) => {}
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the exit status as a shell reports it.
fn outcome(status: WaitStatus) -> i32 {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(1)
}
