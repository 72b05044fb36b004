//! Progress reports, and cancellation.

use std::{
    io::{IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::Error;

/// Receives the progress of a start, at least once per step and then several times a second.
pub trait Progress {
    /// Reports that the step `what` has been running for `elapsed`.
    fn step(&mut self, what: &str, elapsed: Duration);
}

impl<F: FnMut(&str, Duration)> Progress for F {
    fn step(&mut self, what: &str, elapsed: Duration) {
        self(what, elapsed);
    }
}

/// Discards progress.
#[derive(Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn step(&mut self, _what: &str, _elapsed: Duration) {}
}

/// Prints progress to standard error: on a terminal as one line that it updates, and otherwise as a line per step and
/// every 15 seconds.
#[derive(Debug)]
pub struct Stderr {
    terminal: bool,
    last: Option<(String, Duration)>,
}

impl Stderr {
    /// Detects whether standard error is a terminal.
    pub fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), last: None }
    }

    /// Prints a line that later steps do not overwrite.
    pub fn print_line(&mut self, text: &str) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        // If standard error is closed, there is no other place to report the error to.
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

/// A request to cancel a start, which every wait of the start checks. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    requested: Arc<AtomicUsize>,
    /// Whether a concurrent part of the start has failed, so that the other parts can stop too.
    failed: Arc<AtomicBool>,
}

impl Cancel {
    /// Creates a request that takes effect when `flag` is not 0. A signal handler stores the number of the signal
    /// there.
    pub fn from_flag(flag: Arc<AtomicUsize>) -> Self {
        Self { requested: flag, failed: Arc::default() }
    }

    /// Shares this request, with a separate failure flag.
    pub(crate) fn scope(&self) -> Self {
        Self { requested: Arc::clone(&self.requested), failed: Arc::default() }
    }

    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.requested.load(Ordering::Relaxed) != 0 || self.failed.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        Ok(())
    }
}

/// The sequence of steps of a start: reports progress, and checks for cancellation.
pub(crate) struct Steps<'a> {
    progress: &'a mut dyn Progress,
    cancel: Cancel,
    what: String,
    since: Instant,
    reported: Instant,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(progress: &'a mut dyn Progress, cancel: Cancel) -> Self {
        Self { progress, cancel, what: String::new(), since: Instant::now(), reported: Instant::now() }
    }

    /// Replaces the request that cancels the steps.
    pub(crate) fn watch(&mut self, cancel: Cancel) {
        self.cancel = cancel;
    }

    /// Starts and reports the next step. Fails if the start was cancelled.
    pub(crate) fn begin(&mut self, what: impl Into<String>) -> Result<(), Error> {
        self.what = what.into();
        self.since = Instant::now();
        self.reported = self.since;
        self.progress.step(&self.what, Duration::ZERO);
        self.cancel.check()
    }

    /// Reports progress, at most five times a second. Call it regularly during a step. Fails if the start was
    /// cancelled.
    pub(crate) fn tick(&mut self) -> Result<(), Error> {
        if self.reported.elapsed() >= Duration::from_millis(200) {
            self.reported = Instant::now();
            self.progress.step(&self.what, self.since.elapsed());
        }
        self.cancel.check()
    }
}
