//! What this process did to one store since it first saw it, whether or not it looks after it: a clean-up may be asked of any
//! replica. It is kept as long as there is the store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use crate::db::cancel::CANCEL_REQUESTED;
use crate::db::judge::Reason;

/// From a sweep that finds nothing to one of a table that was left alone for long.
const SWEEP_BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];

/// From what is promised (half a second) to what only an outage explains.
const LAG_BUCKETS: [f64; 11] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3_600.0, 86_400.0];

/// Stands for a reason that this version does not know.
const OTHER: &str = "Other";

/// The reason of a warning that comes before a deadline.
const LONG_RUNNING: &str = "LongRunning";

/// Counters of one store.
#[derive(Debug)]
pub struct Tally {
    /// By how they were ended and why. All are there from the start: a counter that appears with its first value looks to
    /// Prometheus as if it had not risen.
    ended: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    warned: Mutex<BTreeMap<&'static str, u64>>,
    errors: Mutex<BTreeMap<&'static str, u64>>,
    not_delivered: Mutex<BTreeMap<&'static str, u64>>,
    pub(super) delivered: Counter,
    pub(super) given_up: Counter,
    pub(super) retries: Counter,
    pub(super) openings: Counter,
    pub(super) late: Counter,
    pub(super) sweep_seconds: Histogram,
    pub(super) lag_seconds: Histogram,
    /// Seconds since 1970; 0: never.
    swept_at: AtomicI64,
}

/// An execution that was ended.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Why.
    pub reason: &'a str,
    /// Whether it was cancelled, else failed.
    pub cancelled: bool,
    /// How long after its deadline, if it was ended for that.
    pub lag: Option<Duration>,
}

impl Default for Tally {
    fn default() -> Self {
        let ended =
            ["failed", "cancelled"].into_iter().flat_map(|how| reasons().map(move |why| ((how, why), 0)));
        // A person may only have it cancelled.
        let ended = ended.filter(|((how, why), _)| *how == "cancelled" || *why != CANCEL_REQUESTED);
        let evidence = Reason::ALL.map(Reason::as_str);
        Self {
            ended: Mutex::new(ended.collect()),
            warned: Mutex::new(evidence.into_iter().chain([LONG_RUNNING]).map(|why| (why, 0)).collect()),
            errors: Mutex::default(),
            not_delivered: Mutex::default(),
            delivered: Counter::default(),
            given_up: Counter::default(),
            retries: Counter::default(),
            openings: Counter::default(),
            late: Counter::default(),
            sweep_seconds: Histogram::new(SWEEP_BUCKETS),
            lag_seconds: Histogram::new(LAG_BUCKETS),
            swept_at: AtomicI64::new(0),
        }
    }
}

/// Why executions are ended.
fn reasons() -> impl Iterator<Item = &'static str> {
    let clean_up = [Reason::ManualCleanup.as_str(), CANCEL_REQUESTED];
    Reason::ALL.map(Reason::as_str).into_iter().chain(clean_up)
}

/// The same word, if this version knows it.
fn known(reason: &str) -> &'static str {
    reasons().chain([LONG_RUNNING]).find(|known| *known == reason).unwrap_or(OTHER)
}

impl Tally {
    /// Counts executions that were ended.
    pub fn ended<'a>(&self, executions: impl IntoIterator<Item = End<'a>>) {
        let mut ended = lock(&self.ended);
        for End { reason, cancelled, lag } in executions {
            let how = if cancelled { "cancelled" } else { "failed" };
            *ended.entry((how, known(reason))).or_default() += 1;
            if let Some(lag) = lag {
                self.lag_seconds.observe(lag.as_secs_f64());
            }
        }
    }

    /// Counts an execution that was told of: it runs for long, or is stale and is to run on.
    pub fn warned(&self, reason: &str) {
        *lock(&self.warned).entry(known(reason)).or_default() += 1;
    }

    /// Counts something that the database did not do, by the reason of the error.
    pub fn failed(&self, reason: &'static str) {
        *lock(&self.errors).entry(reason).or_default() += 1;
    }

    /// Counts a sweep that ran to its end: when it began (seconds since 1970), how long it took, and how often it had to try
    /// a statement once more.
    pub fn swept(&self, began: i64, took: Duration, retries: u64) {
        self.swept_at.store(began, Ordering::Relaxed);
        self.sweep_seconds.observe(took.as_secs_f64());
        self.retries.inc_by(retries);
    }

    /// Counts a message that was delivered.
    pub fn delivered(&self) {
        self.delivered.inc();
    }

    /// Counts an attempt to deliver one that failed, by the reason of the error.
    pub fn not_delivered(&self, reason: &'static str) {
        *lock(&self.not_delivered).entry(reason).or_default() += 1;
    }

    /// Counts messages that were given up.
    pub fn given_up(&self, messages: u64) {
        self.given_up.inc_by(messages);
    }

    /// Counts an execution that was finished although it had been ended.
    pub fn finished_late(&self) {
        self.late.inc();
    }

    /// Counts that the breaker has opened.
    pub fn opened(&self) {
        self.openings.inc();
    }

    /// Whether an execution was ended, or the database did not do something.
    pub(super) fn any_done(&self) -> bool {
        lock(&self.ended).values().any(|count| *count > 0) || !lock(&self.errors).is_empty()
    }

    pub(super) fn all_ended(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        lock(&self.ended).clone()
    }

    pub(super) fn all_warned(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.warned).clone()
    }

    pub(super) fn all_errors(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.errors).clone()
    }

    pub(super) fn all_not_delivered(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.not_delivered).clone()
    }

    /// When the last sweep began, in seconds since 1970, if one did.
    pub(super) fn swept_at(&self) -> Option<i64> {
        Some(self.swept_at.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
