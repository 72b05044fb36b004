//! `devcluster exec --node`, the outside: makes the namespaces, and starts `exec` again in them.

use std::{env, ffi::OsString, path::PathBuf, process::ExitCode};

use devcluster::{Error, Room, Stderr};
use rustix::process::{Pid, Signal, kill_process};

use super::{exec, signals::Signals};

pub(crate) fn run(images: &[PathBuf], command: &[OsString]) -> Result<ExitCode, Error> {
    let failed = |source| Error::Spawn { program: "devcluster".into(), source };
    let signals = Signals::listen().map_err(failed)?;
    let mut progress = Stderr::new();
    let room = match Room::create(&signals.cancel(), &mut progress) {
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
    let tenant = room.start(&init)?;
    let to_first = |signal| tenant.first.map(|first: Pid| kill_process(first, signal));
    let status = exec::wait(tenant.child, &signals, |signal: Signal| {
        // If it has just ended, the next look says so.
        let _ = to_first(signal);
    });
    Ok(exec::code(exec::number(status.map_err(failed)?)))
}
