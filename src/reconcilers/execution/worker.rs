//! The worker for the objects of one store: it repeatedly observes rows and objects, and applies the differences.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;
use tracing::Instrument as _;

use super::apply::{self, Applied, Written};
use super::object::Object;
use super::plan::{self, Plan, PlanInput, Step};
use super::rows::observe;
use super::status::RowState;
use super::undecodable;
use crate::api::ExecutionStore;
use crate::api::store::ObjectsStatus;
use crate::boundary::{self, Place, caught};
use crate::kubernetes::backoff::backoff;
use crate::kubernetes::guarded::newer;
use crate::kubernetes::queue::StoreKey as Key;
use crate::session::context::Context;
use crate::session::handle::{StoreHandle, SyncStatus};
use crate::session::session::Session;
use crate::telemetry;

/// The name of the controller in metrics and traces. One reconcile is a pass over the objects of a store.
const CONTROLLER: &str = "jobexecution";

/// The shortest pause between two passes.
const PACE: Duration = Duration::from_millis(250);

/// Reading rows keeps the server busy for at most 5 % of the time.
const SHARE: u32 = 20;

/// The pause while the store was not reconciled since the operator started or its spec changed.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// The interval at which objects without a store are checked.
const WITHOUT_STORE: Duration = Duration::from_mins(5);

/// The time for which a store may be unavailable before the objects that the operator created report it: only the store
/// reports a short outage, which saves a write for each of its executions.
const HOLD: Duration = Duration::from_mins(1);

/// The time for which a write is trusted while the watch has not delivered it.
const BELIEVED: Duration = Duration::from_secs(30);

/// The time for which a name that another object has taken is not tried again.
const TAKEN: Duration = Duration::from_mins(10);

/// The shortest pause between two passes while objects cannot be written, even on request.
const HURT: Duration = Duration::from_secs(5);

/// The worker for the objects of one store.
pub(super) struct Worker {
    key: Key,
    woken: Notify,
    /// True if other work should not wait for a long plan.
    urgent: AtomicBool,
}

/// The state that one pass leaves for the next.
#[derive(Default)]
struct WorkerState {
    /// The writes that the watch has not delivered yet, and their times.
    written: BTreeMap<String, (Instant, Written)>,
    /// Names that are taken by objects for other rows, and since when that is known.
    taken: BTreeMap<String, Instant>,
    failures: u32,
    /// True if the last pass failed.
    failed: bool,
    /// The time since which the store is unavailable.
    away: Option<Instant>,
    told: undecodable::Told,
}

/// The result of a pass.
enum PassResult {
    /// Another pass is due after this time, or on request.
    Next(Duration),
    /// There is neither a store nor an object, or another replica manages them.
    Nothing,
}

impl Worker {
    pub(super) fn new(key: Key) -> Self {
        Self { key, woken: Notify::new(), urgent: AtomicBool::new(false) }
    }

    /// Requests a pass.
    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }

    /// Interrupts a long plan for work that should not wait.
    pub(super) fn interrupt(&self) {
        self.urgent.store(true, Ordering::Release);
    }

    /// Takes a pending request for a pass, and reports whether there was one.
    pub(super) fn has_pending(&self) -> bool {
        taken(&self.woken)
    }

    /// Works until nothing is left to do, or the operator is asked to stop.
    pub(super) async fn run(self: Arc<Self>, context: Arc<Context>) -> Key {
        let mut state = WorkerState::default();
        while !context.stop.is_cancelled() {
            let begun = Instant::now();
            state.failed = false;
            // This pass answers all requests so far. A leftover request would restart a worker that has ended, again and
            // again.
            taken(&self.woken);
            let span = telemetry::reconcile(CONTROLLER, Some(&self.key.namespace), &self.key.store);
            let pass =
                caught(Place::Executions, Box::pin(self.pass(&context, &mut state)).instrument(span)).await;
            let (pass, read) =
                pass.unwrap_or_else(|_| (self.after_panic(&context, &mut state), Duration::ZERO));
            context.metrics.reconciled(CONTROLLER, !state.failed, begun.elapsed());
            let PassResult::Next(next) = pass else { break };
            let pace = if state.failures > 1 { HURT } else { PACE };
            let pause = pace.max(read * SHARE).saturating_sub(begun.elapsed().saturating_sub(read));
            tokio::select! {
                () = context.stop.cancelled() => {}
                () = async {
                    tokio::time::sleep(pause).await;
                    let _ = tokio::time::timeout(next.saturating_sub(pause), self.woken.notified()).await;
                } => {}
            }
        }
        self.key.clone()
    }

    /// Discards everything that the pass may have left half changed: the next one reads all of it, after a pause.
    fn after_panic(&self, context: &Context, state: &mut WorkerState) -> PassResult {
        let failures = state.failures.saturating_add(1);
        let told = std::mem::take(&mut state.told);
        *state = WorkerState { failures, failed: true, told, ..WorkerState::default() };
        let store = ObjectRef::new(&self.key.store).within(&self.key.namespace);
        if let Some(handle) = context.known_handle(&store) {
            let status = handle.sync_status().map(|last| last.status).unwrap_or_default();
            let trouble = Some((boundary::REASON, boundary::MESSAGE.to_owned()));
            if handle.keep_sync_status(SyncStatus { status, trouble }) {
                context.enqueue_store(&self.key.namespace, &self.key.store);
            }
        }
        PassResult::Next(backoff(failures))
    }

    /// Runs one pass. Also returns how long it read from the database.
    async fn pass(&self, context: &Context, state: &mut WorkerState) -> (PassResult, Duration) {
        let Key { namespace, store } = &self.key;
        if !context.owns(namespace, store) {
            return (PassResult::Nothing, Duration::ZERO);
        }
        if store.is_empty() {
            let again = undecodable::tell(context, namespace, &mut state.told).await;
            let nothing = again.is_none() && state.told.is_empty();
            let pass =
                if nothing { PassResult::Nothing } else { PassResult::Next(again.unwrap_or(WITHOUT_STORE)) };
            return (pass, Duration::ZERO);
        }
        let Some(objects) =
            state.objects(context, &self.key).filter(|_| !context.stores().unseen_in(namespace))
        else {
            return (PassResult::Next(FIRST_LOOK), Duration::ZERO);
        };
        self.urgent.store(false, Ordering::Release);
        let Some(guarded) = context.store(namespace, store) else {
            state.away = None;
            if context.is_for_others(namespace, store) {
                return (PassResult::Nothing, Duration::ZERO);
            }
            // Objects that the operator created are garbage collected with the store.
            let theirs: Vec<_> =
                objects.into_iter().filter(|object| !plan::is_operator_owned(object)).collect();
            if theirs.is_empty() {
                return (PassResult::Nothing, Duration::ZERO);
            }
            let steps = unseen(&theirs, RowState::StoreNotFound);
            return (self.apply(context, state, steps, WITHOUT_STORE).await.0, Duration::ZERO);
        };
        let handle = context.known_handle(&ObjectRef::new(store).within(namespace));
        let Some(handle) = handle.filter(|handle| handle.is_reconciled()) else {
            // A store that cannot be decoded is never reconciled.
            let next = if guarded.0.is_ok() { FIRST_LOOK } else { HOLD };
            return (self.away(context, state, &objects, guarded.0.is_err(), next).await, Duration::ZERO);
        };
        let (Ok(spec), Some(session)) = (&guarded.0, handle.session()) else {
            let next = guarded.0.as_ref().map_or(HOLD, |store| store.spec.poll_interval.get());
            return (self.away(context, state, &objects, true, next).await, Duration::ZERO);
        };
        if !session.describes(spec) {
            // The rows may be those of another table: the reconcile that opens the right one is in progress.
            return (PassResult::Next(FIRST_LOOK), Duration::ZERO);
        }
        self.seen(context, state, spec, &handle, &session, objects).await
    }

    /// Handles a store that is unavailable at present.
    async fn away(
        &self,
        context: &Context,
        state: &mut WorkerState,
        objects: &[Object],
        tell: bool,
        next: Duration,
    ) -> PassResult {
        if !tell {
            return PassResult::Next(next);
        }
        let since = state.away.get_or_insert_with(Instant::now).elapsed();
        let held = |object: &&Object| since < HOLD && plan::is_operator_owned(object);
        let told: Vec<_> = objects.iter().filter(|object| !held(object)).cloned().collect();
        let next = if since < HOLD { next.min(HOLD.saturating_sub(since)) } else { next };
        self.apply(context, state, unseen(&told, RowState::StoreNotReady), next).await.0
    }

    /// Handles a store whose rows can be read.
    async fn seen(
        &self,
        context: &Context,
        state: &mut WorkerState,
        store: &ExecutionStore,
        handle: &StoreHandle,
        session: &Session,
        objects: Vec<Object>,
    ) -> (PassResult, Duration) {
        let begun = Instant::now();
        let poll = store.spec.poll_interval.get();
        let observed = match observe(context, store, session, &objects).await {
            Ok(Some(observed)) => observed,
            Ok(None) => return (PassResult::Next(FIRST_LOOK), begun.elapsed()),
            Err(error) => {
                session.counters.failed(error.reason());
                state.failed = true;
                tracing::warn!(store = store.name_any(), %error, "the rows of objects could not be read");
                let read = begun.elapsed();
                let status = handle.sync_status().map(|last| last.status).unwrap_or_default();
                let trouble = Some((error.reason(), format!("the rows could not be read: {error}")));
                if handle.keep_sync_status(SyncStatus { status, trouble }) {
                    context.enqueue_store(&self.key.namespace, &self.key.store);
                }
                return (self.away(context, state, &objects, true, poll).await, read);
            }
        };
        let read = begun.elapsed();
        state.away = None;
        state.taken.retain(|_, since| since.elapsed() < TAKEN);
        let taken = state.taken.keys().cloned().collect();
        let full = context.executions_are_over_budget(&self.key.namespace);
        let view = PlanInput {
            store,
            id_type: session.mapping.id_type(),
            found: &observed.found,
            objects: &objects,
            taken: &taken,
            full,
            unable: &observed.unable,
            now: chrono::Utc::now(),
        };
        let Plan { steps, objects: all, running } = plan::plan(&view);
        if steps.iter().any(is_news) {
            // A new timeout may be the next deadline of the store, whether or not Kubernetes can be updated.
            context.enqueue_store(&self.key.namespace, &self.key.store);
        }
        let (pass, trouble) = self.apply(context, state, steps, poll).await;
        let trouble = trouble.or_else(|| (full && store.spec.execution_objects.enabled).then(over_budget));
        let executions_without_object = observed.running.map_or(0, |count| (count - running).max(0));
        let status = ObjectsStatus { objects: all, executions_without_object };
        // If there are no objects and none are wanted, nobody waits for the status.
        if handle.keep_sync_status(SyncStatus { status, trouble })
            && (store.spec.execution_objects.enabled || all > 0)
        {
            context.enqueue_store(&self.key.namespace, &self.key.store);
        }
        (pass, read)
    }

    async fn apply(
        &self,
        context: &Context,
        state: &mut WorkerState,
        steps: Vec<Step>,
        next: Duration,
    ) -> (PassResult, Option<(&'static str, String)>) {
        let applied = apply::apply(context, &self.key, steps, &self.urgent).await;
        let Applied { written, taken, error, failures, complete } = applied;
        let now = Instant::now();
        state.written.extend(written.into_iter().map(|(name, written)| (name, (now, written))));
        state.taken.extend(taken.iter().map(|name| (name.clone(), now)));
        let Some(error) = error else {
            state.failures = 0;
            let at_once = !complete || !taken.is_empty();
            return (PassResult::Next(if at_once { Duration::ZERO } else { next }), None);
        };
        state.failures = state.failures.saturating_add(1);
        state.failed = true;
        tracing::warn!(store = self.key.store, failures, %error, "objects of executions could not be written");
        if state.failures == 1 {
            // A single lost response is not reported.
            return (PassResult::Next(backoff(1)), None);
        }
        let reason = match error.code() {
            Some(403) => "Forbidden",
            Some(_) => "Refused",
            None => "APIUnavailable",
        };
        let message = format!(
            "{failures} JobExecution objects could not be written: {error}. See that the operator's ServiceAccount may \
             create, patch and delete jobexecutions, and that no quota or admission policy forbids it; it is tried again"
        );
        (PassResult::Next(backoff(state.failures)), Some((reason, message)))
    }
}

/// Takes a pending notification without waiting for it.
fn taken(notify: &tokio::sync::Notify) -> bool {
    notify.notified().now_or_never().is_some()
}

/// The reason and the message for executions that get no object.
fn over_budget() -> (&'static str, String) {
    let message = "the JobExecution objects of this namespace take more of the operator's memory than EXECUTION_BUDGET allows: \
                   none is made until there is room. Delete some, lower spec.executionObjects.limit, or raise EXECUTION_BUDGET of the operator";
    ("BudgetExceeded", message.to_owned())
}

/// The steps for objects that all share this state.
fn unseen(objects: &[Object], sight: RowState<'_>) -> Vec<Step> {
    let now = chrono::Utc::now();
    objects.iter().filter_map(|object| plan::update(object, &sight, now)).collect()
}

/// Reports whether a step acknowledges a request in the spec for the first time.
fn is_news(step: &Step) -> bool {
    match step {
        Step::Update { object, status: Some(status), .. } => {
            let before = object.status.as_ref().and_then(|before| before.observed_generation);
            object.spec.asks() && before != status.observed_generation
        }
        _ => false,
    }
}

impl WorkerState {
    /// The objects of a store, from the watch or the last writes, whichever is newer.
    fn objects(&mut self, context: &Context, key: &Key) -> Option<Vec<Object>> {
        let guarded = context.executions(&key.namespace, &key.store)?;
        let written = &mut self.written;
        written.retain(|_, (at, _)| at.elapsed() < BELIEVED);
        let mut objects = Vec::with_capacity(guarded.len());
        for guarded in guarded {
            let Some(cached) = Object::readable(guarded) else { continue };
            match written.remove(&cached.name_any()) {
                Some((at, Written::Put(put)))
                    if newer(
                        put.metadata.resource_version.as_ref(),
                        cached.metadata.resource_version.as_ref(),
                    ) =>
                {
                    objects.push(put.clone());
                    written.insert(put.name_any(), (at, Written::Put(put)));
                }
                Some((at, Written::Gone(uid))) if uid == cached.uid() => {
                    written.insert(cached.name_any(), (at, Written::Gone(uid)));
                }
                _ => objects.push(cached),
            }
        }
        Some(objects)
    }
}
