//! The store controller: looks at a store (`look`), and apart from that (`slot`, `tell`) says what it means (`verdict`)
//! and tells Kubernetes (`report`).

mod adoption;
mod aside;
mod breaker;
mod bundle;
mod enforce;
mod figures;
mod historian;
mod look;
mod memory;
mod notifier;
mod panicked;
mod pruner;
mod report;
mod schedule;
mod slot;
mod tell;
mod verdict;
mod witness;

use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc;
use futures::{Stream, StreamExt as _};
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Predicate as _, PredicateConfig, WatchStreamExt as _, predicates, watcher};
use kube::{Resource as _, ResourceExt as _};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::cached::{PAGE, REMEMBERED};
use super::context::{Guarded, backoff};
use super::guarded::usable;
use super::{Context, ReconcileError, Scope};
use crate::api::ExecutionStore;
use crate::boundary::{Place, caught, caught_now};
use crate::telemetry;
pub(super) use figures::Figures;
pub use memory::Handle;
use slot::Untold;
pub use verdict::unusable;
pub(super) use verdict::with_figures;

/// How it is called where reconciles are counted.
const CONTROLLER: &str = "executionstore";

/// How many stores are worked on at the same time: any number, so that those of one silent server hold up no others.
/// Each has connections of its own.
const CONCURRENCY: u16 = 0;

/// The pause for a store that another replica looks after. This one is told at once when it is to take it over.
const NOT_OURS: Duration = Duration::from_mins(5);

/// How patiently an object that cannot be decoded is told so: as after this many failures.
const RETRY: u32 = 5;

/// How stores are watched: only those that the operator takes.
pub fn watched(scope: &Scope) -> watcher::Config {
    let config = watcher::Config::default().page_size(PAGE);
    if scope.stores.selects_all() { config } else { config.labels_from(&scope.stores) }
}

/// Runs until `stop` is cancelled and every reconcile under way has ended.
pub async fn run(
    context: Arc<Context>,
    seen: impl Stream<Item = Result<watcher::Event<Guarded<ExecutionStore>>, watcher::Error>> + Send + 'static,
    nudged: mpsc::Receiver<ObjectRef<Guarded<ExecutionStore>>>,
    stop: CancellationToken,
) {
    let reader = context.stores().reader();
    let pruner = context.clone();
    let stores = seen
        .inspect(move |event| {
            // One object must not end the watch of all; what is missed here the next look or list does.
            if let Ok(event) = event {
                let _ = caught_now(Place::Watch, || heard(&pruner, event));
            }
        })
        .applied_objects()
        // A status written by this controller must not bring it back at once; a new spec or annotation must.
        .predicate_filter(
            predicates::generation.combine(predicates::annotations).combine(usable),
            PredicateConfig::default().ttl(REMEMBERED),
        );
    Controller::for_stream(stores, reader)
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        .reconcile_on(nudged)
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(measured, failed, context)
        // What becomes of each object is logged where it happens.
        .for_each(|_| async {})
        .await;
}

/// What a change of an object means beside its reconcile.
fn heard(context: &Context, event: &watcher::Event<Guarded<ExecutionStore>>) {
    if matches!(event, watcher::Event::Delete(_) | watcher::Event::InitDone) {
        context.prune();
    }
    if let watcher::Event::Apply(store) | watcher::Event::InitApply(store) = event
        && store.0.is_ok()
        && context.known_handle(&ObjectRef::from_obj(store)).is_none()
        && context.owns(&store.namespace().unwrap_or_default(), &store.name_any())
    {
        // One that is back by a label alone is nothing new to the filter of the controller.
        context.nudge_store(&store.namespace().unwrap_or_default(), &store.name_any());
    }
    if let watcher::Event::Delete(gone) = event {
        let namespace = gone.namespace().unwrap_or_default();
        context.wakes.wake(&namespace, &gone.name_any());
    }
}

async fn measured(
    guarded: Arc<Guarded<ExecutionStore>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let span = telemetry::reconcile(CONTROLLER, guarded.meta().namespace.as_deref(), &guarded.name_any());
    let work = async {
        // kube ends the process for a reconcile that panics.
        let reconciled =
            async { caught(Place::Store, Box::pin(reconcile(guarded.clone(), &context))).await? };
        match context.metrics.measure(CONTROLLER, reconciled).await {
            Err(ReconcileError::Panicked(panicked)) => {
                Box::pin(panicked::recover(&guarded, &context, panicked)).await
            }
            outcome => outcome,
        }
    };
    work.instrument(span).await
}

async fn reconcile(
    guarded: Arc<Guarded<ExecutionStore>>,
    context: &Arc<Context>,
) -> Result<Action, ReconcileError> {
    let key = ObjectRef::from_obj(&*guarded);
    let owns = || context.owns(key.namespace.as_deref().unwrap_or_default(), &key.name);
    if !owns() {
        if context.known_handle(&key).is_some() {
            context.hand_over();
        }
        return Ok(Action::requeue(NOT_OURS));
    }
    let store = match &guarded.0 {
        Ok(store) => store,
        Err(refused) => return report::unusable(context, refused).await,
    };
    let handle = context.handle(&key);
    let mut memory = handle.memory.lock().await;
    if !owns() || !context.known_handle(&key).is_some_and(|known| Arc::ptr_eq(&known, &handle)) {
        // It has changed hands, or is gone, while its turn was waited for.
        return Ok(Action::requeue(Duration::ZERO));
    }
    let seen = Box::pin(look::look(context, store, &handle, &mut memory)).await;
    if let (Ok(current), Some(in_force), None, true) =
        (&seen.session, memory.in_force.clone(), &seen.error, owns())
    {
        memory.notifier.go_on(context, store, &current.session, &in_force);
    }
    if seen.worth_telling() || seen.deadlines_changed || seen.notified {
        context.wakes.wake(&store.namespace().unwrap_or_default(), &store.name_any());
    }
    handle.keep_governed(seen.figures.governed.clone());
    if seen.rules_changed || matches!(seen.session, Ok(look::Current { opened: true, .. })) {
        context.nudge_policies(&store.namespace().unwrap_or_default(), &store.name_any());
    }
    let before = store.status.clone().unwrap_or_default();
    handle.keep_latest(verdict::judge(store, &before, &seen, chrono::Utc::now()));
    let look_again = seen.look_again;
    tell::tell(context, &handle, Untold::new(store.clone(), seen));
    Ok(Action::requeue(look_again))
}

#[allow(clippy::needless_pass_by_value, reason = "the signature is the controller's")]
fn failed(guarded: Arc<Guarded<ExecutionStore>>, error: &ReconcileError, _: Arc<Context>) -> Action {
    tracing::warn!(store = %ObjectRef::from_obj(&*guarded), %error, "the object could not be told what is wrong");
    Action::requeue(backoff(RETRY))
}
