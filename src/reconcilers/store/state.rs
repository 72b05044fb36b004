//! The private state of a store between two reconciles. All of it can be lost: it is learnt again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::batcher::SweepBatcher;
use super::breaker::Breaker;
use super::counts_collector::CountsCollector;
use super::evidence::EvidenceCollector;
use super::history::HistoryRefresher;
use super::notifier::Notifier;
use super::swept::Swept;
use crate::db::held::Held;
use crate::db::observe::DeadlineSnapshot;
use crate::db::sweep::{Known, Refused, Trigger};
use crate::kubernetes::backoff::backoff;
use crate::session::credentials::Credentials;
use crate::session::rules::EffectiveRules;

/// The state of one store.
#[derive(Default)]
pub(super) struct StoreState {
    /// The UID of the store, and of an earlier store with the same name.
    pub(super) uid: String,
    pub(super) predecessor: Option<String>,
    /// The state that ends with the session.
    pub(super) session: SessionState,
    /// True once a session has recorded what was done.
    pub(super) recorded: bool,
    /// The number of sweeps in a row that left the same stale executions because others hold them.
    pub(super) held: u32,
    /// The stale executions that other transactions have held for long; `None`: none is recorded.
    pub(super) passed_over: Option<Vec<Held>>,
    /// True once the records of an earlier operator were read.
    pub(super) noted: bool,
    pub(super) breaker: Breaker,
    pub(super) notifier: Notifier,
    pub(super) evidence: EvidenceCollector,
    /// The time on the clock of the database at the last reconcile.
    pub(super) now: Option<DateTime<Utc>>,
    /// True if the database has been unreachable since the session was opened.
    pub(super) outage: bool,
    /// The sweeps that are announced together.
    pub(super) batcher: SweepBatcher,
    /// The time when the last sweep began.
    pub(super) swept: Option<Instant>,
    /// The request that the last sweep answered.
    pub(super) answered: Option<String>,
    /// The request to adopt that was last carried out, or that was present before the first reconcile.
    pub(super) adopted: Option<String>,
    /// The request to adopt that was last tried and not carried out.
    pub(super) unadopted: Option<FailedAdoption>,
    /// The reason why the last reconcile failed, and how many failed in a row for that reason.
    pub(super) failure: Option<(&'static str, u32)>,
}

/// A request to adopt that was not carried out.
#[derive(Debug)]
pub(super) struct FailedAdoption {
    pub(super) request: String,
    pub(super) at: Instant,
    pub(super) why: String,
}

/// The state that ends with the session.
#[derive(Default)]
pub(super) struct SessionState {
    /// The UID and generation that the session describes, and its credentials.
    pub(super) described: Option<(String, Option<i64>, Arc<Credentials>)>,
    /// The time when the session was last validated against the claim and the catalog.
    pub(super) checked: Option<Instant>,
    pub(super) counter: CountsCollector,
    pub(super) history: HistoryRefresher,
    pub(super) refused: RefusedRows,
    /// The rules in effect at the last reconcile.
    pub(super) effective_rules: Option<Arc<EffectiveRules>>,
}

/// The rows that the server does not let the operator fail. They are tried again, but so seldom that this keeps the
/// server busy for at most 5 % of the time.
#[derive(Default)]
pub(super) struct RefusedRows {
    rows: Vec<Refused>,
    until: Option<Instant>,
}

impl RefusedRows {
    /// The known rows, to be tried again if it is time or if `asked`.
    pub(super) fn known(&self, asked: bool) -> Known {
        let again = asked || self.until.is_none_or(|until| Instant::now() >= until);
        Known { rows: self.rows.clone(), again }
    }

    /// Records the result of a sweep, and how long it took.
    pub(super) fn keep(&mut self, rows: &[Refused], again: bool, took: Duration) {
        if again || self.rows.len() < rows.len() {
            self.until = Some(Instant::now() + 20 * took);
        }
        self.rows = rows.to_vec();
    }
}

impl StoreState {
    /// Switches to the object with this UID, and returns whether another object had the name before. Only state that is
    /// valid for the new object stays.
    pub(super) fn for_object(&mut self, uid: &str) -> bool {
        if self.uid == uid {
            return false;
        }
        let last = std::mem::take(&mut self.uid);
        *self = Self {
            predecessor: Some(last).filter(|last| !last.is_empty()),
            uid: uid.to_owned(),
            // A record about the table may also matter to its next object.
            recorded: self.recorded,
            ..Self::default()
        };
        true
    }

    /// Records whether stale executions are stuck after a sweep. Returns whether it was only another try at rows that
    /// others hold.
    pub(super) fn note_stuck(&mut self, swept: &Swept, pulse: &DeadlineSnapshot) -> bool {
        let again = self.held > 0 && swept.ended == 0 && swept.sweep.trigger == Trigger::Deadline;
        let stuck = pulse.stale > 0 && swept.ended == 0;
        self.held = if stuck { self.held.saturating_add(1) } else { 0 };
        again
    }

    /// The pause after a reconcile that failed. It grows, and is short again for a new reason, because then somebody is
    /// working on the problem.
    pub(super) fn pause_after(&mut self, reason: &'static str) -> Duration {
        let times = match self.failure {
            Some((last, times)) if last == reason => times.saturating_add(1),
            _ => 1,
        };
        self.failure = Some((reason, times));
        backoff(times)
    }
}
