//! When to look at a store, and when to sweep it. Pure, but for reading how much time has passed.

use std::time::{Duration, Instant};

use super::memory::Memory;
use crate::api::ExecutionStore;
use crate::controllers::context::until;
use crate::controllers::in_force::InForce;
use crate::db::observe::Pulse;

/// How long credentials, claim and catalog are trusted before they are looked at again.
pub(super) const RECHECK: Duration = Duration::from_mins(1);

/// The pause before another try while objects have not been seen, or where a sweep had to leave stale executions; the
/// latter doubles while nothing changes, up to the poll interval.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// The shortest pause between two looks: deadlines that come as thick as hail are met together, each well within a
/// second.
const PACE: Duration = Duration::from_millis(250);

/// At the next deadline; at the latest when an execution that starts now may be stale, when it is time to poll, to
/// sweep, or to confirm the claim on the table and the credentials.
pub(super) fn next_look(
    store: &ExecutionStore,
    memory: &Memory,
    in_force: &InForce,
    pulse: &Pulse,
    may_write: bool,
) -> Duration {
    let spec = &store.spec;
    let sweep_in = memory.swept.map(|at| spec.sweep_interval.get().saturating_sub(at.elapsed()));
    let deadline_in = pulse.next_deadline.map(|deadline| until(pulse.now, deadline));
    let poll = horizon(store, in_force);
    let retry_in =
        (may_write && pulse.stale > 0).then(|| RETRY * 2_u32.pow(memory.held.saturating_sub(1).min(10)));
    [
        sweep_in.filter(|_| may_write),
        deadline_in,
        retry_in,
        memory.counter.wants_look_in(),
        memory.bundles.closes_in(Instant::now()),
    ]
    .into_iter()
    .flatten()
    .fold(poll, Duration::min)
    .max(PACE)
}

/// When to look again at the latest, and so how far a look must see: what comes later is seen by the next one.
pub(super) fn horizon(store: &ExecutionStore, in_force: &InForce) -> Duration {
    store.spec.poll_interval.get().min(shortest(in_force)).min(RECHECK)
}

/// The shortest time within which an execution that starts now can become stale: at least a second, since looking more
/// often for executions that may not even exist costs more than their being late by as much.
fn shortest(in_force: &InForce) -> Duration {
    in_force.compiled.shortest().to_std().unwrap_or_default().max(Duration::from_secs(1))
}

/// Why a sweep is due now, if it is.
pub(super) fn due(
    store: &ExecutionStore,
    memory: &Memory,
    pulse: &Pulse,
    request: Option<&String>,
) -> Option<&'static str> {
    let told = store.status.as_ref().and_then(|s| s.observed_sweep_request.as_ref());
    if request.is_some() && request != memory.answered.as_ref() && request != told {
        return Some("Requested");
    }
    match memory.swept {
        None => Some("Startup"),
        Some(_) if pulse.stale > 0 => Some("Deadline"),
        Some(at) if at.elapsed() >= store.spec.sweep_interval.get() => Some("Interval"),
        Some(_) => None,
    }
}
