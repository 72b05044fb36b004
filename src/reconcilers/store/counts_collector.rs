//! The counts that only people need: counted beside enforcement, seldom, and never in its way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt as _;

use super::background::BackgroundTask;
use super::retention::RetentionTask;
use crate::api::ExecutionStore;
use crate::session::counts::{HealthCounts, Take, take};
use crate::session::rules::EffectiveRules;
use crate::session::session::Session;

/// Counting keeps the server busy for at most 5 % of the time.
const SHARE: u32 = 20;

/// How long a look waits for counts, so that those that come soon are told with what they belong to; a later look
/// tells the others.
const PATIENCE: Duration = Duration::from_millis(250);

/// How often counts are kept, at the most. The first ones are those of a session that has lasted for so long.
const SAMPLE: Duration = Duration::from_mins(1);

/// Takes the counts of one session.
#[derive(Default)]
pub(super) struct CountsCollector {
    known: HealthCounts,
    /// When they were last asked for, and when the whole table was.
    asked: Option<Instant>,
    asked_all: Option<Instant>,
    /// When counts were last kept, or their session was first counted.
    kept: Option<Instant>,
    took: Duration,
    /// Whether the table is known to have changed since.
    outdated: bool,
    /// Not looked for again and again: that would keep a server from taking them that many stores share.
    under_way: Option<BackgroundTask<(HealthCounts, Duration)>>,
    retention: RetentionTask,
}

/// What a look asks of the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ChangeKind {
    /// Nothing happened.
    None,
    /// Executions were failed, the table said that it changed, or other rules are in force.
    Changed,
    /// A person asked for a sweep, and wants to see all of it.
    Requested,
}

impl CountsCollector {
    /// What is known, after taking what is due.
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
            // What was known says nothing of now. The next ones are taken at the next poll.
            (self.known, self.took) = taken.unwrap_or_default();
        }
        self.known.clone()
    }

    /// When a look is wanted for the counts alone.
    pub(super) fn wants_reconcile_in(&self) -> Option<Duration> {
        if self.under_way.is_some() {
            return None;
        }
        self.outdated.then(|| self.rest())
    }

    fn due(&self, store: &ExecutionStore) -> bool {
        // A little less than the poll interval, so that each poll takes them.
        let every = store.spec.poll_interval.get().mul_f64(0.9);
        let waited = self.asked.is_none_or(|at| at.elapsed() >= every);
        (self.outdated || waited) && self.rest().is_zero()
    }

    /// How long the server has still to be left alone.
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
        let what = Take { all, keep: keep && !session.read_only, known: self.known.clone() };
        if what.keep {
            self.retention.go_on(store.name_any(), session, store.spec.history.retention.to_chrono());
        }
        let taking = take(store.name_any(), session.clone(), effective_rules.clone(), what);
        self.under_way = Some(BackgroundTask::begin(taking, nudge));
    }
}
