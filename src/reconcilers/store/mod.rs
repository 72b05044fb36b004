//! The store controller: reconciles stores (`reconcile`), computes their status (`status`) and publishes it independently
//! (`mailbox`, `publisher`, `publish`).

mod adoption;
mod apply;
mod background;
mod batcher;
mod breaker;
mod connect;
mod controller;
mod counts_collector;
mod decide;
mod evidence;
mod held;
mod history;
mod mailbox;
mod notifier;
mod observe;
mod panicked;
mod publish;
mod published;
mod publisher;
mod reconcile;
mod reconciled;
mod retention;
mod retries;
mod schedule;
mod state;
mod status;
mod swept;
mod sync_rules;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Predicate as _, PredicateConfig, WatchStreamExt as _, predicates, watcher};
use kube::{Resource as _, ResourceExt as _};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::api::ExecutionStore;
use crate::boundary::{Place, caught, caught_now};
use crate::kubernetes::backoff::backoff;
use crate::kubernetes::cached::{PAGE, REMEMBERED};
use crate::kubernetes::error::ReconcileError;
use crate::kubernetes::guarded::{Guarded, usable};
use crate::kubernetes::scope::Scope;
use crate::telemetry;
pub use controller::StoreController;
pub use status::{unusable, with_counts};

/// The name of the controller in metrics and traces.
const CONTROLLER: &str = "executionstore";

/// The number of stores that are reconciled at the same time: unlimited, so that the stores of one silent server do not
/// delay others. Each has its own connections.
const CONCURRENCY: u16 = 0;

/// The pause for a store that another replica manages. A transfer enqueues the store at once.
const NOT_OWNED_REQUEUE: Duration = Duration::from_mins(5);

/// The pause for an object that cannot be decoded is that after this many failures.
const RETRY: u32 = 5;

/// The watch for stores: only those that the operator selects.
pub fn watched(scope: &Scope) -> watcher::Config {
    let config = watcher::Config::default().page_size(PAGE);
    if scope.stores.selects_all() { config } else { config.labels_from(&scope.stores) }
}

/// Runs until `stop` is cancelled and every reconcile under way has ended.
pub async fn run(
    controller: Arc<StoreController>,
    seen: impl Stream<Item = Result<watcher::Event<Guarded<ExecutionStore>>, watcher::Error>> + Send + 'static,
    stop: CancellationToken,
) {
    let reader = controller.context.stores().reader();
    let queue = controller.context.queue.stores.clone();
    let events = controller.clone();
    let stores = seen
        .inspect(move |event| {
            // One object must not end the watch for all of them. The next reconcile or list makes up for a missed event.
            if let Ok(event) = event {
                let _ = caught_now(Place::Watch, || handle_event(&events, event));
            }
        })
        .applied_objects()
        // A status written by this controller must not trigger a reconcile at once; a new spec or annotation must.
        .predicate_filter(
            predicates::generation.combine(predicates::annotations).combine(usable),
            PredicateConfig::default().ttl(REMEMBERED),
        );
    Controller::for_stream(stores, reader)
        .with_config(Config::default().concurrency(CONCURRENCY))
        .reconcile_on(queue.stream())
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(measured, failed, controller)
        // The result for each object is logged where it happens.
        .for_each(|_| async {})
        .await;
}

/// Handles the effects of a change that a reconcile does not cover.
fn handle_event(controller: &StoreController, event: &watcher::Event<Guarded<ExecutionStore>>) {
    let context = &controller.context;
    match event {
        watcher::Event::Delete(gone) => {
            controller.prune();
            let namespace = gone.namespace().unwrap_or_default();
            context.queue.enqueue_executions(&namespace, &gone.name_any());
        }
        watcher::Event::InitDone => controller.prune(),
        watcher::Event::Apply(store) | watcher::Event::InitApply(store) => {
            let key = ObjectRef::from_obj(store);
            if store.0.is_ok() && controller.known_worker(&key).is_none() && context.owns_key(&key) {
                // The filter of the controller ignores a store that is selected again by a label alone.
                context.queue.stores.add(key);
            }
        }
        watcher::Event::Init => {}
    }
}

async fn measured(
    guarded: Arc<Guarded<ExecutionStore>>,
    controller: Arc<StoreController>,
) -> Result<Action, ReconcileError> {
    let span = telemetry::reconcile(CONTROLLER, guarded.meta().namespace.as_deref(), &guarded.name_any());
    let work = async {
        // kube ends the process if a reconcile panics.
        let reconciled =
            async { caught(Place::Store, Box::pin(reconcile(guarded.clone(), &controller))).await? };
        match controller.context.metrics.measure(CONTROLLER, reconciled).await {
            Err(ReconcileError::Panicked(panicked)) => {
                Box::pin(panicked::recover(&guarded, &controller, panicked)).await
            }
            outcome => outcome,
        }
    };
    work.instrument(span).await
}

async fn reconcile(
    guarded: Arc<Guarded<ExecutionStore>>,
    controller: &StoreController,
) -> Result<Action, ReconcileError> {
    let context = &controller.context;
    let key = ObjectRef::from_obj(&*guarded);
    if !context.owns_key(&key) {
        if controller.known_worker(&key).is_some() {
            controller.transfer();
        }
        return Ok(Action::requeue(NOT_OWNED_REQUEUE));
    }
    let store = match &guarded.0 {
        Ok(store) => store,
        Err(refused) => return publish::unusable(context, refused).await,
    };
    let worker = controller.worker(&key);
    let mut state = worker.state.lock().await;
    let is_current = || controller.known_worker(&key).is_some_and(|known| Arc::ptr_eq(&known, &worker));
    if !context.owns_key(&key) || !is_current() {
        // The store was transferred or deleted while this reconcile waited.
        return Ok(Action::requeue(Duration::ZERO));
    }
    let result = Box::pin(reconcile::reconcile(context, store, &worker.handle, &mut state)).await;
    if let (Some(session), Some(rules), true) = (
        result.session(),
        state.session.effective_rules.clone(),
        result.error().is_none() && context.owns_key(&key),
    ) {
        state.notifier.go_on(&context.cluster, store, session, &rules);
    }
    let (namespace, name) = (store.namespace().unwrap_or_default(), store.name_any());
    let complete = result.complete();
    if result.is_news() || result.notified || complete.is_some_and(|complete| complete.deadlines_changed) {
        context.queue.enqueue_executions(&namespace, &name);
    }
    worker.handle.keep_governed(complete.and_then(|complete| complete.counts.governed.clone()));
    if result.opened() || complete.is_some_and(|complete| complete.rules_changed) {
        context.enqueue_policies(&namespace, &name);
    }
    let requeue_after = result.requeue_after;
    worker.publish(&context.cluster, store, result);
    Ok(Action::requeue(requeue_after))
}

#[allow(clippy::needless_pass_by_value, reason = "the signature is the controller's")]
fn failed(guarded: Arc<Guarded<ExecutionStore>>, error: &ReconcileError, _: Arc<StoreController>) -> Action {
    tracing::warn!(store = %ObjectRef::from_obj(&*guarded), %error, "the condition of an ExecutionStore that cannot be used could not be written");
    Action::requeue(backoff(RETRY))
}
