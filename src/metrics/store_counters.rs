//! Counters of what this process did to one store since it first saw it, even if another replica manages it: clients may ask
//! any replica for a clean-up. They exist as long as the store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use crate::db::Ending;
use crate::db::cancel::CANCEL_REQUESTED;
use crate::db::staleness::Reason;

/// From a sweep that finds nothing to the first sweep of a table after a long time.
const SWEEP_BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];

/// From the promised half second to delays that only an outage explains.
const LAG_BUCKETS: [f64; 11] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3_600.0, 86_400.0];

/// Replaces a reason that this version does not know.
const OTHER: &str = "Other";

/// The reason of a warning before a deadline.
const LONG_RUNNING: &str = "LongRunning";

/// Counters of one store.
#[derive(Debug)]
pub struct StoreCounters {
    /// By status and reason. All exist from the start: to Prometheus, a counter that appears with its first value has not risen.
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
    /// Seconds since 1970; 0 if there was no sweep.
    swept_at: AtomicI64,
}

/// An ended execution.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The reason.
    pub reason: &'a str,
    /// What became of it.
    pub ending: Ending,
    /// Time after its deadline, if it was ended for that.
    pub lag: Option<Duration>,
}

impl Default for StoreCounters {
    fn default() -> Self {
        let ended = Ending::ENDS.into_iter().flat_map(|end| reasons().map(move |why| ((end.word(), why), 0)));
        // A request can only cancel, and the last attempt can only fail.
        let possible = |how: &str, why: &str| match why {
            CANCEL_REQUESTED => how == Ending::Cancelled.word(),
            why if why == Reason::RetriesExhausted.as_str() => how == Ending::Failed.word(),
            _ => true,
        };
        let ended = ended.filter(|((how, why), _)| possible(how, why));
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

/// Returns the reasons for which executions are ended.
fn reasons() -> impl Iterator<Item = &'static str> {
    let others = [Reason::ManualCleanup.as_str(), Reason::RetriesExhausted.as_str(), CANCEL_REQUESTED];
    Reason::ALL.map(Reason::as_str).into_iter().chain(others)
}

/// Returns the same word, if this version knows it, so that labels are bounded.
fn bounded_reason(reason: &str) -> &'static str {
    reasons().chain([LONG_RUNNING]).find(|known| *known == reason).unwrap_or(OTHER)
}

impl StoreCounters {
    /// Counts ended executions.
    pub fn ended<'a>(&self, executions: impl IntoIterator<Item = End<'a>>) {
        let mut ended = lock(&self.ended);
        for End { reason, ending, lag } in executions {
            *ended.entry((ending.word(), bounded_reason(reason))).or_default() += 1;
            if let Some(lag) = lag {
                self.lag_seconds.observe(lag.as_secs_f64());
            }
        }
    }

    /// Counts an execution that was reported without being ended: it is long-running, or stale under `AlertOnly`.
    pub fn warned(&self, reason: &str) {
        *lock(&self.warned).entry(bounded_reason(reason)).or_default() += 1;
    }

    /// Counts a failed database operation, by the reason of the error.
    pub fn failed(&self, reason: &'static str) {
        *lock(&self.errors).entry(reason).or_default() += 1;
    }

    /// Counts a completed sweep: its start (seconds since 1970), its duration, and the number of retried statements.
    pub fn swept(&self, began: i64, took: Duration, retries: u64) {
        self.swept_at.store(began, Ordering::Relaxed);
        self.sweep_seconds.observe(took.as_secs_f64());
        self.retries.inc_by(retries);
    }

    /// Counts a delivered message.
    pub fn delivered(&self) {
        self.delivered.inc();
    }

    /// Counts a failed attempt to deliver a message, by the reason of the error.
    pub fn not_delivered(&self, reason: &'static str) {
        *lock(&self.not_delivered).entry(reason).or_default() += 1;
    }

    /// Counts abandoned messages.
    pub fn given_up(&self, messages: u64) {
        self.given_up.inc_by(messages);
    }

    /// Counts an execution that finished after it had been ended.
    pub fn finished_late(&self) {
        self.late.inc();
    }

    /// Counts an opening of the circuit breaker.
    pub fn opened(&self) {
        self.openings.inc();
    }

    /// Whether anything was counted that any replica may do.
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

    /// Returns the start of the last sweep, in seconds since 1970, if there was one.
    pub(super) fn swept_at(&self) -> Option<i64> {
        Some(self.swept_at.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
