//! Stage 1, connect: the open session if it still fits the object, else a new one.

use std::sync::Arc;
use std::time::Instant;

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::adoption;
use super::reconciled::Connected;
use super::schedule::REVALIDATE_AFTER;
use super::state::{SessionState, StoreState};
use crate::api::ExecutionStore;
use crate::db::Ledger;
use crate::db::adopt::How;
use crate::session::context::Context;
use crate::session::credentials::Credentials;
use crate::session::handle::StoreHandle;
use crate::session::not_ready::NotReady;
use crate::session::records::Before;
use crate::session::session::Session;

/// The session of the store.
pub(super) async fn connect(
    context: &Context,
    store: &ExecutionStore,
    handle: &StoreHandle,
    state: &mut StoreState,
) -> Result<Connected, NotReady> {
    if state.for_object(&store.uid().unwrap_or_default()) {
        handle.forget_object();
    }
    // This comes first: an annotation that the object was created with must be recognized before any condition is
    // written.
    let adopt = adoption::asked(store, state);
    let credentials = credentials(context, store, handle).await?;
    let described = (state.uid.clone(), store.metadata.generation, credentials.clone());
    let due = adopt.as_ref().is_some_and(|request| adoption::is_due(request, state));
    let same = state.session.described.as_ref() == Some(&described) && !due;
    let connected = match handle.session().filter(|_| same) {
        Some(session) => reuse(store, session, state).await?,
        None => None,
    };
    let connected = match connected {
        Some(connected) => connected,
        None => open(context, store, handle, state, described, adopt).await?,
    };
    check_duplicate_store(context, store, connected)
}

/// The credentials, as last read. The publisher reads them again from time to time.
async fn credentials(
    context: &Context,
    store: &ExecutionStore,
    handle: &StoreHandle,
) -> Result<Arc<Credentials>, NotReady> {
    if let Some(known) = handle.credentials(&store.spec.connection) {
        return Ok(known);
    }
    let read = Arc::new(Credentials::read(&context.client, store).await?);
    handle.cache_credentials(Some(read.clone()));
    Ok(read)
}

/// The open session, unless validation finds that something has changed since it was opened.
async fn reuse(
    store: &ExecutionStore,
    session: Arc<Session>,
    state: &mut StoreState,
) -> Result<Option<Connected>, NotReady> {
    let checked = state.session.checked.is_some_and(|at| at.elapsed() < REVALIDATE_AFTER);
    // Whatever prevents rows from being changed or recorded may be repaired at any time.
    if checked && session.whole() {
        return Ok(Some(Connected { session, opened: false }));
    }
    match session.still_holds(store).await {
        Ok(true) => {
            state.session.checked = Some(Instant::now());
            Ok(Some(Connected { session, opened: false }))
        }
        Ok(false) => Ok(None),
        // All connections are in use. The next reconcile checks again.
        Err(busy) if busy.is_busy() => Ok(Some(Connected { session, opened: false })),
        Err(error) => Err(error),
    }
}

async fn open(
    context: &Context,
    store: &ExecutionStore,
    handle: &StoreHandle,
    state: &mut StoreState,
    described: (String, Option<i64>, Arc<Credentials>),
    adopt: Option<String>,
) -> Result<Connected, NotReady> {
    handle.drop_session(false, state.notifier.leave());
    let (note_change, enqueue) = (handle.change_noter(), context.queue.enqueuer(store));
    let changed = move || {
        note_change();
        enqueue();
    };
    let outage = state.outage;
    let before = Before {
        predecessor: state.predecessor.clone(),
        outage,
        recorded: state.recorded,
        adopt: adopt.as_deref().map(How::of),
    };
    let counters = handle.counters.clone();
    let opened = Session::open(&context.pools, store, before, &described.2, counters, changed).await;
    state.outage = match &opened {
        // Workers cannot write a heartbeat to a read-only database either.
        Ok(session) => session.read_only,
        Err(NotReady::Database(error)) => outage || !error.answered(),
        Err(_) => outage,
    };
    let session = Arc::new(opened?);
    handle.replace_session(Some(session.clone()));
    state.recorded |= matches!(session.ledger, Ledger::Tables { .. });
    adoption::note(state, adopt, session.adopted.as_ref());
    state.session =
        SessionState { described: Some(described), checked: Some(Instant::now()), ..SessionState::default() };
    state.notifier = state.notifier.for_new_session();
    state.breaker.ask_again();
    Ok(Connected { session, opened: true })
}

/// Rejects a table that another store of this operator manages, if no ledger records the claim.
fn check_duplicate_store(
    context: &Context,
    store: &ExecutionStore,
    connected: Connected,
) -> Result<Connected, NotReady> {
    let own = ObjectRef::new(&store.name_any()).within(&store.namespace().unwrap_or_default());
    let Ledger::Missing(_) = connected.session.ledger else { return Ok(connected) };
    match context.conflicting_store(&own, &connected.session.identity) {
        Some(other) => Err(NotReady::TableClaimed(other)),
        None => Ok(connected),
    }
}
