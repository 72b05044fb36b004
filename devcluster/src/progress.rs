//! Telling what takes so long, and being told to stop.

use std::{
    io::{IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::Error;

/// Is told what a start is busy with, at least once per step and then several times a second.
pub trait Progress {
    /// `what` has been going on for `elapsed`.
    fn step(&mut self, what: &str, elapsed: Duration);
}

impl<F: FnMut(&str, Duration)> Progress for F {
    fn step(&mut self, what: &str, elapsed: Duration) {
        self(what, elapsed);
    }
}

/// Tells nobody.
#[derive(Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn step(&mut self, _what: &str, _elapsed: Duration) {}
}

/// Shows the steps on standard error: one line that changes on a terminal, else a line per step and each 15 seconds.
#[derive(Debug)]
pub struct Stderr {
    terminal: bool,
    last: Option<(String, Duration)>,
}

impl Stderr {
    /// Looks whether standard error is a terminal.
    pub fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), last: None }
    }

    /// A line of its own, not overwritten by a later step.
    pub fn say(&mut self, text: &str) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        // Nobody is left to be told when standard error is closed.
        let _ = writeln!(std::io::stderr(), "{clear}devcluster: {text}");
    }
}

impl Default for Stderr {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Stderr {
    fn step(&mut self, what: &str, elapsed: Duration) {
        const EVERY: Duration = Duration::from_secs(15);
        let due = match &self.last {
            Some((last, at)) if last == what => self.terminal || elapsed.saturating_sub(*at) >= EVERY,
            _ => true,
        };
        if !due {
            return;
        }
        let seconds = elapsed.as_secs();
        let time = if seconds == 0 { String::new() } else { format!(" ({seconds} s)") };
        let _ = if self.terminal {
            write!(std::io::stderr(), "\r\x1b[Kdevcluster: {what}{time}")
        } else {
            writeln!(std::io::stderr(), "devcluster: {what}{time}")
        };
        self.last = Some((what.to_owned(), elapsed));
    }
}

impl Drop for Stderr {
    fn drop(&mut self) {
        if self.terminal && self.last.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// A wish to stop that reaches every wait of a start; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    asked: Arc<AtomicUsize>,
    /// Set when a part that starts at the same time has failed, so that the other need not be waited for.
    failed: Arc<AtomicBool>,
}

impl Cancel {
    /// Stops once `flag` is not 0: a signal handler stores the signal's number there.
    pub fn from_flag(flag: Arc<AtomicUsize>) -> Self {
        Self { asked: flag, failed: Arc::default() }
    }

    /// The same wish, and one's own failure beside it.
    pub(crate) fn scope(&self) -> Self {
        Self { asked: Arc::clone(&self.asked), failed: Arc::default() }
    }

    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.asked.load(Ordering::Relaxed) != 0 || self.failed.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        Ok(())
    }
}

/// One step after the other: who is told, and whether to go on.
pub(crate) struct Steps<'a> {
    progress: &'a mut dyn Progress,
    cancel: Cancel,
    what: String,
    since: Instant,
    told: Instant,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(progress: &'a mut dyn Progress, cancel: Cancel) -> Self {
        Self { progress, cancel, what: String::new(), since: Instant::now(), told: Instant::now() }
    }

    /// Heeds another wish to stop from now on.
    pub(crate) fn watch(&mut self, cancel: Cancel) {
        self.cancel = cancel;
    }

    pub(crate) fn begin(&mut self, what: impl Into<String>) -> Result<(), Error> {
        self.what = what.into();
        self.since = Instant::now();
        self.told = self.since;
        self.progress.step(&self.what, Duration::ZERO);
        self.cancel.check()
    }

    /// To be called every now and then while a step goes on.
    pub(crate) fn tick(&mut self) -> Result<(), Error> {
        if self.told.elapsed() >= Duration::from_millis(200) {
            self.told = Instant::now();
            self.progress.step(&self.what, self.since.elapsed());
        }
        self.cancel.check()
    }
}
