//! Stage 4, decide: whether to sweep now, and why.

use kube::ResourceExt as _;

use super::breaker::{self, Verdict};
use super::observe::Observed;
use super::schedule::due;
use super::state::StoreState;
use crate::api::{ExecutionStore, SWEEP_REQUESTED};
use crate::db::DbError;
use crate::db::sweep::Trigger;
use crate::session::session::Session;

/// The action to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Sweep, for this reason.
    Sweep(Trigger),
    /// Nothing is due.
    Wait,
    /// Nothing may be ended, since the circuit breaker is open, for this reason.
    BreakerOpen(String),
}

/// Decides. `may_write`: stale executions may be ended.
pub(super) async fn decide(
    store: &ExecutionStore,
    session: &Session,
    state: &mut StoreState,
    observed: &Observed,
    may_write: bool,
) -> Result<Decision, DbError> {
    if !may_write {
        return Ok(Decision::Wait);
    }
    let due = due(store, state, &observed.pulse, store.annotations().get(SWEEP_REQUESTED));
    let sweep = |trigger: Option<Trigger>| trigger.map_or(Decision::Wait, Decision::Sweep);
    Ok(match breaker::check(store, session, &mut state.breaker, &observed.pulse).await? {
        Verdict::Closed => sweep(due),
        Verdict::Resumed => sweep(Some(Trigger::Resumed)),
        Verdict::JustOpened(why) => {
            session.counters.opened();
            Decision::BreakerOpen(why)
        }
        Verdict::Open(why) => Decision::BreakerOpen(why),
    })
}
