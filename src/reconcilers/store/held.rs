//! The stale executions that other transactions hold: since when, and which sessions hold them.

use super::state::StoreState;
use crate::db::held::{self, Held};
use crate::db::observe::DeadlineSnapshot;
use crate::db::sweep::Refused;
use crate::db::{Ledger, StalenessPredicate};
use crate::session::session::Session;

/// Records the stale executions that this sweep and those of the last minutes have passed over because another
/// transaction holds them. Returns `None` if nothing is recorded. A failure to record them stops nothing else.
pub(super) async fn note_held(
    session: &Session,
    state: &StoreState,
    predicate: &StalenessPredicate<'_>,
    pulse: &DeadlineSnapshot,
    refused: &[Refused],
) -> Option<Vec<Held>> {
    let Ledger::Tables { store_id, .. } = session.ledger else { return None };
    let database = &session.database;
    let left = usize::try_from(pulse.stale).unwrap_or_default() > refused.len();
    let noted = if left {
        let refused = refused.iter().map(|row| row.id.clone()).collect();
        database.within(held::update(database, predicate, refused)).await.map(Some)
    } else if state.passed_over.is_some() || !state.noted {
        database.within(held::forget(database, store_id)).await.map(|()| None)
    } else {
        return None;
    };
    noted.unwrap_or_else(|error| {
        session.counters.failed(error.reason());
        tracing::info!(%error, "who holds stale executions is not known");
        state.passed_over.clone()
    })
}

/// Deletes the records of held executions: nothing is stale, or the store is not swept.
pub(super) async fn forget_held(session: &Session, state: &StoreState) -> Option<Vec<Held>> {
    let Ledger::Tables { store_id, .. } = session.ledger else { return None };
    if state.passed_over.is_none() && state.noted || session.read_only || session.is_follower() {
        return None;
    }
    if let Err(error) = session.database.within(held::forget(&session.database, store_id)).await {
        session.counters.failed(error.reason());
        tracing::info!(%error, "who held stale executions could not be forgotten");
        return state.passed_over.clone();
    }
    None
}
