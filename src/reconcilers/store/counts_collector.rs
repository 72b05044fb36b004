//! The counts that enforcement does not need: counted beside it, seldom, and without delaying it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt as _;

use super::background::BackgroundTask;
use super::retention::RetentionTask;
use crate::api::ExecutionStore;
use crate::session::counts::{HealthCounts, Selection, take};
use crate::session::rules::EffectiveRules;
use crate::session::session::Session;

/// Counting keeps the server busy for at most 5 % of the time.
const SHARE: u32 = 20;

/// The time for which a reconcile waits for counts, so that counts that are ready soon are published with the state they
/// belong to. A later reconcile publishes the others.
const PATIENCE: Duration = Duration::from_millis(250);

/// The shortest time between two samples. The first sample is taken once the session has lasted this long.
const SAMPLE: Duration = Duration::from_mins(1);

/// Takes the counts of one session.
#[derive(Default)]
pub(super) struct CountsCollector {
    known: HealthCounts,
    /// The time when the counts were last requested, and when those of the whole table were.
    asked: Option<Instant>,
    asked_all: Option<Instant>,
    /// The time when a sample was last stored, or when this session was first counted.
    kept: Option<Instant>,
    took: Duration,
    /// True if the table is known to have changed since.
    outdated: bool,
    /// Kept until it ends: a query that is cancelled and restarted would never finish on a server that many stores share.
    under_way: Option<BackgroundTask<(HealthCounts, Duration)>>,
    retention: RetentionTask,
}

/// The reason to take counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ChangeKind {
    /// Nothing happened.
    None,
    /// Executions were failed, the table reported a change, or the rules in effect changed.
    Changed,
    /// Somebody requested a sweep, and expects complete counts.
    Requested,
}

impl CountsCollector {
    /// Takes the counts that are due, and returns the latest ones.
    pub(super) async fn counts(
        &mut self,
        store: &ExecutionStore,
        session: &Arc<Session>,
        effective_rules: &Arc<EffectiveRules>,
        change: ChangeKind,
        nudge: impl FnOnce() + Send + 'static,
    ) -> HealthCounts {
        self.outdated |= change != ChangeKind::None;
        if change == ChangeKind::Requested {
            let (known, retention) = (std::mem::take(&mut self.known), std::mem::take(&mut self.retention));
            *self = Self { known, kept: self.kept, retention, ..Self::default() };
        }
        if self.under_way.is_none() && self.due(store) {
            self.ask(store, session, effective_rules, nudge);
        }
        if let Some(under_way) = &mut self.under_way
            && let Some(taken) = under_way.wait(PATIENCE).await
        {
            self.under_way = None;
            // The previous counts do not describe the present. The next poll takes new ones.
            (self.known, self.took) = taken.unwrap_or_default();
        }
        self.known.clone()
    }

    /// The time until a reconcile is needed for the counts alone.
    pub(super) fn wants_reconcile_in(&self) -> Option<Duration> {
        if self.under_way.is_some() {
            return None;
        }
        self.outdated.then(|| self.rest())
    }

    fn due(&self, store: &ExecutionStore) -> bool {
        // Slightly less than the poll interval, so that each poll takes them.
        let every = store.spec.poll_interval.get().mul_f64(0.9);
        let waited = self.asked.is_none_or(|at| at.elapsed() >= every);
        (self.outdated || waited) && self.rest().is_zero()
    }

    /// The time for which the server must still be spared.
    fn rest(&self) -> Duration {
        self.asked.map_or(Duration::ZERO, |at| (self.took * SHARE).saturating_sub(at.elapsed()))
    }

    fn ask(
        &mut self,
        store: &ExecutionStore,
        session: &Arc<Session>,
        effective_rules: &Arc<EffectiveRules>,
        nudge: impl FnOnce() + Send + 'static,
    ) {
        let now = Instant::now();
        let every = store.spec.sweep_interval.get();
        let all = self.asked_all.is_none_or(|at| now.duration_since(at) >= every);
        self.asked = Some(now);
        self.asked_all = if all { Some(now) } else { self.asked_all };
        self.outdated = false;
        let kept = *self.kept.get_or_insert(now);
        let keep = now.duration_since(kept) >= SAMPLE;
        self.kept = Some(if keep { now } else { kept });
        let what = Selection { all, keep: keep && !session.read_only, known: self.known.clone() };
        if what.keep {
            self.retention.go_on(store.name_any(), session, store.spec.history.retention.to_chrono());
        }
        let taking = take(store.name_any(), session.clone(), effective_rules.clone(), what);
        self.under_way = Some(BackgroundTask::begin(taking, nudge));
    }
}
