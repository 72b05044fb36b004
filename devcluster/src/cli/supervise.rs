//! The background process of `devcluster up`: starts a cluster, tells how far it is on standard output, and stays.

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
    // A session of its own, so that closing the terminal does not end it. It fails only where that is so already.
    let _ = rustix::process::setsid();
    match supervise() {
        Ok(()) | Err(Error::Cancelled) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("error {error}"));
            ExitCode::FAILURE
        }
    }
}

fn supervise() -> Result<(), Error> {
    let state = State::open()?;
    let Some(_lock) = state.try_own()? else {
        tell("busy");
        return Ok(());
    };
    let signals =
        Signals::listen().map_err(|source| Error::Spawn { program: "devcluster".into(), source })?;
    end_with_parent(signals.clone());
    let options = Options { cancel: signals.cancel(), ..Options::default() };
    let cluster = Cluster::start(&options, &mut Pipe { last: None })?;
    state.write(&cluster)?;
    tell("ready");
    while signals.take().is_none() {
        thread::sleep(Duration::from_millis(50));
    }
    state.remove();
    Ok(())
}

/// Until `up` has acknowledged, its end is ours: Ctrl-C there must not leave a build running here.
fn end_with_parent(signals: Signals) {
    thread::spawn(move || {
        let mut line = String::new();
        if !matches!(io::stdin().read_line(&mut line), Ok(count) if count > 0) {
            signals.raise(SIGTERM);
        }
    });
}

/// Nobody may be listening any more; that is learnt from standard input.
fn tell(line: &str) {
    let mut stdout = io::stdout();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Passes the steps on, once a second each.
struct Pipe {
    last: Option<(String, Instant)>,
}

impl Progress for Pipe {
    fn step(&mut self, what: &str, elapsed: Duration) {
        let told = |(last, at): &(String, Instant)| last == what && at.elapsed() < Duration::from_secs(1);
        if !self.last.as_ref().is_some_and(told) {
            tell(&format!("step {} {what}", elapsed.as_millis()));
            self.last = Some((what.to_owned(), Instant::now()));
        }
    }
}
