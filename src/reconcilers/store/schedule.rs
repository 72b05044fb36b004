//! When to reconcile a store again, and when to sweep it. Pure, but for reading how much time has passed.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use super::state::StoreState;
use crate::api::ExecutionStore;
use crate::db::observe::Pulse;
use crate::db::sweep::Trigger;
use crate::session::rules::EffectiveRules;

/// How long credentials, claim and catalog are trusted before they are validated again.
pub(super) const REVALIDATE_AFTER: Duration = Duration::from_mins(1);

/// The pause before another try while objects have not been seen, or where a sweep had to leave stale executions; the
/// latter doubles while nothing changes, up to the poll interval.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// The shortest pause between two reconciles: deadlines that come as thick as hail are met together, each well within a
/// second.
const MIN_INTERVAL: Duration = Duration::from_millis(250);

/// At the next deadline; at the latest when an execution that starts now may be stale, when it is time to poll, to
/// sweep, or to confirm the claim on the table and the credentials.
pub(super) fn requeue_after(
    store: &ExecutionStore,
    state: &StoreState,
    effective_rules: &EffectiveRules,
    pulse: &Pulse,
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

/// When to look again at the latest, and so how far a look must see: what comes later is seen by the next one.
pub(super) fn horizon(store: &ExecutionStore, effective_rules: &EffectiveRules) -> Duration {
    store.spec.poll_interval.get().min(shortest(effective_rules)).min(REVALIDATE_AFTER)
}

/// The shortest time within which an execution that starts now can become stale: at least a second, since looking more
/// often for executions that may not even exist costs more than their being late by as much.
fn shortest(effective_rules: &EffectiveRules) -> Duration {
    effective_rules.compiled.shortest().to_std().unwrap_or_default().max(Duration::from_secs(1))
}

/// Why a sweep is due now, if it is.
pub(super) fn due(
    store: &ExecutionStore,
    state: &StoreState,
    pulse: &Pulse,
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

/// The time from `now` until `then`, both on the database's clock; zero if it has passed.
fn until(now: DateTime<Utc>, then: DateTime<Utc>) -> Duration {
    (then - now).max(TimeDelta::zero()).to_std().unwrap_or(Duration::ZERO)
}
