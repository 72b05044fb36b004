//! Observe: the rows of a store that matter to its objects, read once the requests in those objects are in effect or
//! carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::ResourceExt as _;

use super::object::Object;
use super::status::{self, CANCELLED, CancelFailure, ONLY_OBSERVED};
use crate::api::execution::OBSERVING;
use crate::api::{ExecutionStore, JobExecution, Mode, Phase};
use crate::db::Ending;
use crate::db::cancel::{self, CANCEL_REQUESTED, Request};
use crate::db::execution::{self, Executions, Window};
use crate::db::{DbError, observe};
use crate::kubernetes::field_owner;
use crate::metrics::End;
use crate::rules::execution_source;
use crate::runtime::cluster::Cluster;
use crate::runtime::overrides;
use crate::session::rules::EffectiveRules;
use crate::session::session::Session;

/// The rows of a store, as read.
pub(super) struct Observed {
    pub(super) found: Executions,
    /// The results of requests to cancel executions, by id.
    pub(super) unable: BTreeMap<String, CancelFailure>,
    /// The number of running rows, if they should have objects.
    pub(super) running: Option<i64>,
}

/// Reads the rows after the requests in the objects are in effect or carried out. `None`: not all requests are known yet.
pub(super) async fn observe(
    cluster: &Cluster,
    store: &ExecutionStore,
    session: &Session,
    objects: &[Object],
) -> Result<Option<Observed>, DbError> {
    let Some(effective_rules) = effective_rules(cluster, store, session, objects).await? else {
        return Ok(None);
    };
    let id_type = session.mapping.id_type();
    let ids: BTreeSet<String> =
        objects.iter().filter_map(|object| id_type.canonical(&object.spec.execution_id)).collect();
    let ids: Vec<String> = ids.into_iter().collect();
    let sync = &store.spec.execution_objects;
    let limit = u32::try_from(sync.limit).unwrap_or_default();
    let window = sync.enabled.then(|| Window { limit, finished: sync.finished_ttl.to_chrono() });
    let unable = cancel(store, session, objects).await?;
    let predicate = session.predicate(&effective_rules);
    let read = async |evidence| {
        let predicate = predicate.with_evidence(evidence);
        let rows = execution::read(&session.database, &predicate, &session.ledger, &ids, window);
        session.database.within(rows).await
    };
    let found = match read(true).await {
        // The store reports evidence that is unavailable.
        Err(error) if error.answered() => read(false).await?,
        found => found?,
    };
    let picked = found.rows.iter().filter(|row| row.picked && row.phase == Phase::Running).count();
    let running = match window {
        None => None,
        Some(window) if picked <= window.limit as usize => i64::try_from(picked).ok(),
        Some(_) => {
            Some(session.database.within(observe::running(&session.database, &session.mapping)).await?)
        }
    };
    Ok(Some(Observed { found, unable, running }))
}

/// The rules in effect, including the overrides of these objects: they are written before any object reports them as
/// applied.
async fn effective_rules(
    cluster: &Cluster,
    store: &ExecutionStore,
    session: &Session,
    objects: &[Object],
) -> Result<Option<Arc<EffectiveRules>>, DbError> {
    let id_type = session.mapping.id_type();
    let holds = |known: &EffectiveRules| {
        objects.iter().all(|object| {
            let wish = overrides::execution(object, id_type);
            let Some(id) = id_type.canonical(&object.spec.execution_id) else { return true };
            known.holds(&object.name_any(), &id, wish.as_ref())
        })
    };
    match session.effective_rules().await.filter(|known| holds(known)) {
        Some(known) => Ok(Some(known)),
        None => session.sync_rules(cluster, store, false).await,
    }
}

/// Cancels the executions whose objects ask for it. Returns the result of each request, by id.
async fn cancel(
    store: &ExecutionStore,
    session: &Session,
    objects: &[Object],
) -> Result<BTreeMap<String, CancelFailure>, DbError> {
    let finished = |object: &JobExecution| {
        object.status.as_ref().and_then(|status| status.phase).is_some_and(Phase::finished)
    };
    let requests: Vec<Request> = objects
        .iter()
        // An object that is being deleted asks for nothing more, whatever delays its deletion.
        .filter(|object| object.metadata.deletion_timestamp.is_none())
        .filter(|object| status::to_cancel(object, finished(object)))
        .filter_map(|object| {
            Some(Request {
                key: session.mapping.id_type().canonical(&object.spec.execution_id)?,
                source: execution_source(&object.name_any()),
                actor: field_owner::actor(&object.metadata),
                started: status::started(object),
            })
        })
        .collect();
    if let Some(unable) = unable(store, session) {
        return Ok(requests.into_iter().map(|request| (request.key, unable.clone())).collect());
    }
    let outcome = cancel::cancel(&session.database, &session.mapping, &session.ledger, &requests);
    let outcome = match session.database.within(outcome).await {
        // That is no reason to read no rows.
        Err(error) if error.answered() => {
            tracing::warn!(store = store.name_any(), %error, "executions could not be cancelled");
            let unable = (error.reason(), format!("it could not be cancelled and is tried again: {error}"));
            return Ok(requests.into_iter().map(|request| (request.key, unable.clone())).collect());
        }
        outcome => outcome?,
    };
    session.note_fault(outcome.fault);
    let asked = End { reason: CANCEL_REQUESTED, ending: Ending::Cancelled, lag: None };
    session.counters.ended(outcome.cancelled.iter().map(|_| asked));
    for cancelled in &outcome.cancelled {
        tracing::info!(
            namespace = store.namespace().unwrap_or_default(),
            store = store.name_any(),
            execution = cancelled.id,
            job = cancelled.job_id,
            source = cancelled.source,
            "cancelled an execution as a person asked"
        );
    }
    let told =
        |why: String| ("ExecutionRefused", format!("the database does not let it be cancelled: {why}"));
    let refused = outcome.refused.into_iter().map(|(id, why)| (id, told(why)));
    let cancelled = outcome.cancelled.into_iter().map(|row| (row.id, (CANCELLED, String::new())));
    Ok(refused.chain(cancelled).collect())
}

/// The reason why no execution of this store can be cancelled.
fn unable(store: &ExecutionStore, session: &Session) -> Option<CancelFailure> {
    if store.spec.mode == Mode::Observe {
        return Some((OBSERVING, ONLY_OBSERVED.to_owned()));
    }
    if !session.mapping.can_cancel() {
        let message = "table.statuses.cancelled of the ExecutionStore is empty or too long for the column";
        return Some(("NotSupported", message.to_owned()));
    }
    if session.read_only {
        return Some(("DatabaseReadOnly", "the database is read-only".to_owned()));
    }
    session.unwritable.as_ref().map(|problem| (problem.reason(), problem.to_string()))
}
