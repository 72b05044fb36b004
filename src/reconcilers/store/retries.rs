//! Starts the retries that may start now, after the sweep.

use kube::ResourceExt as _;

use super::observe::Observed;
use crate::api::ExecutionStore;
use crate::db::retry::{self, Pending};
use crate::db::{DbError, Ledger};
use crate::session::session::Session;

/// Starts the retries that may start now. Returns those that wait; `None`: the operator itself retries no execution of the store.
pub(super) async fn start(
    store: &ExecutionStore,
    session: &Session,
    observed: &Observed,
    may_write: bool,
) -> Result<Option<Pending>, DbError> {
    let Ledger::Tables { store_id, .. } = session.ledger else { return Ok(None) };
    if !session.mapping.retries_by_operator() {
        return Ok(None);
    }
    let read = || session.database.within(retry::pending(&session.database, store_id));
    let waiting = read().await?;
    if waiting.waiting == 0 || !may_write {
        return Ok(Some(waiting));
    }
    let predicate = observed.predicate(session);
    let started = match retry::start(&session.database, &predicate, &session.ledger).await {
        Ok(started) => started,
        // Retries are no reason to miss a deadline.
        Err(error) if error.answered() => {
            session.counters.failed(error.reason());
            tracing::warn!(store = store.name_any(), %error, "retries could not be started");
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    for started in &started {
        tracing::info!(
            namespace = store.namespace().unwrap_or_default(),
            store = store.name_any(),
            execution = started.id,
            attempt = started.attempt,
            next = started.next_id,
            reason = started.reason,
            "an execution runs again"
        );
    }
    Ok(Some(read().await?))
}
