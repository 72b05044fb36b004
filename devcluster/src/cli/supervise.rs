//! The background process of `devcluster up`: starts a cluster, reports progress on standard output, and keeps the
//! cluster running.

use std::{
    io::{self, Write},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use devcluster::{Cluster, Error, Options, Progress};
use signal_hook::consts::SIGTERM;

use super::{signals::Signals, state::State};

pub(crate) fn run() -> ExitCode {
    // A new session, so that closing the terminal does not end this process. Fails only if it already has one.
    let _ = rustix::process::setsid();
    match supervise() {
        Ok(()) | Err(Error::Cancelled) => ExitCode::SUCCESS,
        Err(error) => {
            send(&format!("error {error}"));
            ExitCode::FAILURE
        }
    }
}

fn supervise() -> Result<(), Error> {
    let state = State::open()?;
    let Some(_lock) = state.try_own()? else {
        send("busy");
        return Ok(());
    };
    let signals =
        Signals::listen().map_err(|source| Error::Spawn { program: "devcluster".into(), source })?;
    end_with_parent(signals.clone());
    let options = Options { cancel: signals.cancel(), ..Options::default() };
    let cluster = Cluster::start(&options, &mut Pipe { last: None })?;
    state.write(&cluster)?;
    send("ready");
    while signals.take().is_none() {
        thread::sleep(Duration::from_millis(50));
    }
    state.remove();
    Ok(())
}

/// Ends this process with `up` until `up` has acknowledged, so that Ctrl-C there does not leave a build running here.
fn end_with_parent(signals: Signals) {
    thread::spawn(move || {
        let mut line = String::new();
        if !matches!(io::stdin().read_line(&mut line), Ok(count) if count > 0) {
            signals.raise(SIGTERM);
        }
    });
}

/// Sends a line to `up`. Ignores errors: if `up` has ended, standard input reports it.
fn send(line: &str) {
    let mut stdout = io::stdout();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Forwards each step to `up`, at most once a second.
struct Pipe {
    last: Option<(String, Instant)>,
}

impl Progress for Pipe {
    fn step(&mut self, what: &str, elapsed: Duration) {
        let is_recent =
            |(last, at): &(String, Instant)| last == what && at.elapsed() < Duration::from_secs(1);
        if !self.last.as_ref().is_some_and(is_recent) {
            send(&format!("step {} {what}", elapsed.as_millis()));
            self.last = Some((what.to_owned(), Instant::now()));
        }
    }
}
