//! The outer part of `devcluster exec --node`: creates the namespaces, and starts `exec` again inside them.

use std::{env, ffi::OsString, path::PathBuf, process::ExitCode};

use devcluster::{Error, Sandbox, Stderr};
use rustix::process::{Pid, Signal, kill_process};

use super::{exec, signals::Signals};

pub(crate) fn run(images: &[PathBuf], command: &[OsString]) -> Result<ExitCode, Error> {
    let failed = |source| Error::Spawn { program: "devcluster".into(), source };
    let signals = Signals::listen().map_err(failed)?;
    let mut progress = Stderr::new();
    let sandbox = match Sandbox::create(&signals.cancel(), &mut progress) {
        Err(Error::Cancelled) => return Ok(exec::code(128 + signals.take().unwrap_or_default())),
        made => made?,
    };
    drop(progress);
    let own = env::current_exe().map_err(failed)?.into_os_string();
    let mut init = vec![own.clone(), "init".into(), own, "exec".into(), "--node".into(), "--inside".into()];
    for image in images {
        let image = image.canonicalize().map_err(|source| Error::Io {
            action: "read",
            path: image.clone(),
            source,
        })?;
        init.extend(["--image".into(), image.into_os_string()]);
    }
    init.push("--".into());
    init.extend(command.iter().cloned());
    let workload = sandbox.start(&init)?;
    let forward = |signal| workload.first.map(|first: Pid| kill_process(first, signal));
    let status = exec::wait(workload.child, &signals, |signal: Signal| {
        // Fails if the process has just ended, which the next iteration notices.
        let _ = forward(signal);
    });
    Ok(exec::code(exec::number(status.map_err(failed)?)))
}
