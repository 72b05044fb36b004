//! Decides when to reconcile a store again, and when to sweep it. Pure, except for reading the elapsed time.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use super::state::StoreState;
use crate::api::ExecutionStore;
use crate::db::observe::DeadlineSnapshot;
use crate::db::sweep::Trigger;
use crate::session::rules::EffectiveRules;

/// The time for which credentials, claim and catalog are trusted before they are validated again.
pub(super) const REVALIDATE_AFTER: Duration = Duration::from_mins(1);

/// The pause before another try while the caches have not synced, or after a sweep that had to leave stale executions.
/// The latter doubles while nothing changes, up to the poll interval.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// The shortest pause between two reconciles: deadlines in quick succession are handled together, each well within a
/// second.
const MIN_INTERVAL: Duration = Duration::from_millis(250);

/// The time until the next deadline; at the latest until an execution that starts now may be stale, or until a poll, a
/// sweep, or the validation of the claim and the credentials is due.
pub(super) fn requeue_after(
    store: &ExecutionStore,
    state: &StoreState,
    effective_rules: &EffectiveRules,
    pulse: &DeadlineSnapshot,
    may_write: bool,
) -> Duration {
    let spec = &store.spec;
    let sweep_in = state.swept.map(|at| spec.sweep_interval.get().saturating_sub(at.elapsed()));
    let deadline_in = pulse.next_deadline.map(|deadline| until(pulse.now, deadline));
    let poll = horizon(store, effective_rules);
    let retry_in =
        (may_write && pulse.stale > 0).then(|| RETRY * 2_u32.pow(state.held.saturating_sub(1).min(10)));
    [
        sweep_in.filter(|_| may_write),
        deadline_in,
        retry_in,
        state.session.counter.wants_reconcile_in(),
        state.batcher.closes_in(Instant::now()),
    ]
    .into_iter()
    .flatten()
    .fold(poll, Duration::min)
    .max(MIN_INTERVAL)
}

/// The longest pause before the next reconcile, and so how far ahead deadlines are read: the next reconcile reads later
/// ones.
pub(super) fn horizon(store: &ExecutionStore, effective_rules: &EffectiveRules) -> Duration {
    store.spec.poll_interval.get().min(shortest(effective_rules)).min(REVALIDATE_AFTER)
}

/// The shortest time in which an execution that starts now can become stale: at least a second, since reading more often
/// for executions that may not exist costs more than a delay of that length.
fn shortest(effective_rules: &EffectiveRules) -> Duration {
    effective_rules.compiled.shortest().to_std().unwrap_or_default().max(Duration::from_secs(1))
}

/// The trigger of a sweep that is due now.
pub(super) fn due(
    store: &ExecutionStore,
    state: &StoreState,
    pulse: &DeadlineSnapshot,
    request: Option<&String>,
) -> Option<Trigger> {
    let told = store.status.as_ref().and_then(|s| s.observed_sweep_request.as_ref());
    if request.is_some() && request != state.answered.as_ref() && request != told {
        return Some(Trigger::Requested);
    }
    match state.swept {
        None => Some(Trigger::Startup),
        Some(_) if pulse.stale > 0 => Some(Trigger::Deadline),
        Some(at) if at.elapsed() >= store.spec.sweep_interval.get() => Some(Trigger::Interval),
        Some(_) => None,
    }
}

/// The time from `now` until `then`, both on the clock of the database; zero if it has passed.
fn until(now: DateTime<Utc>, then: DateTime<Utc>) -> Duration {
    (then - now).max(TimeDelta::zero()).to_std().unwrap_or(Duration::ZERO)
}
