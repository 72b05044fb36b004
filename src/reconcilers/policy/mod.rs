//! The policy controller: reports the status of each `ExecutionPolicy`. The controller of its store puts it into effect,
//! because that reads all policies of the store together.

mod observe;
mod publish;
mod status;

use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Predicate as _, PredicateConfig, WatchStreamExt as _, predicates, watcher};
use kube::{Resource as _, ResourceExt as _};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::api::ExecutionPolicy;
use crate::boundary::{Panicked, Place, caught, caught_now};
use crate::kubernetes::cached::{PAGE, REMEMBERED};
use crate::kubernetes::error::ReconcileError;
use crate::kubernetes::failures::Failures;
use crate::kubernetes::guarded::{Guarded, usable};
use crate::session::context::Context;
use crate::telemetry;
use observe::{SOON, observe};
use publish::publish;
use status::PolicyState;
pub use status::refused;

/// The name of the controller in metrics and traces.
const CONTROLLER: &str = "executionpolicy";

/// The number of policies that are reconciled at the same time.
const CONCURRENCY: u16 = 4;

/// The watch for policies.
pub fn watched() -> watcher::Config {
    watcher::Config::default().page_size(PAGE)
}

/// The policy controller.
struct PolicyController {
    context: Arc<Context>,
    failures: Failures<Guarded<ExecutionPolicy>>,
}

/// Runs until `stop` is cancelled and every reconcile under way has ended.
pub async fn run(
    context: Arc<Context>,
    seen: impl Stream<Item = Result<watcher::Event<Guarded<ExecutionPolicy>>, watcher::Error>> + Send + 'static,
    stop: CancellationToken,
) {
    let reader = context.policies().reader();
    let queue = context.queue.policies.clone();
    let controller = Arc::new(PolicyController { context, failures: Failures::default() });
    let events = controller.clone();
    let policies = seen
        .inspect(move |event| {
            let Ok(watcher::Event::Delete(guarded)) = event else { return };
            // One object must not end the watch for all of them.
            let _ = caught_now(Place::Watch, || handle_deletion(&events, guarded));
        })
        .applied_objects()
        // A status written by this controller must not trigger a reconcile; an object that becomes usable or unusable
        // must.
        .predicate_filter(predicates::generation.combine(usable), PredicateConfig::default().ttl(REMEMBERED));
    Controller::for_stream(policies, reader)
        .with_config(Config::default().concurrency(CONCURRENCY))
        .reconcile_on(queue.stream())
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(measured, failed, controller)
        .for_each(|_| async {})
        .await;
}

/// Handles the deletion of a policy.
fn handle_deletion(controller: &PolicyController, guarded: &Guarded<ExecutionPolicy>) {
    controller.failures.forget(&ObjectRef::from_obj(guarded));
    if let Ok(policy) = &guarded.0 {
        let namespace = policy.namespace().unwrap_or_default();
        controller.context.enqueue_store(&namespace, &policy.spec.store_ref.name);
    }
}

async fn measured(
    guarded: Arc<Guarded<ExecutionPolicy>>,
    controller: Arc<PolicyController>,
) -> Result<Action, ReconcileError> {
    let span = telemetry::reconcile(CONTROLLER, guarded.meta().namespace.as_deref(), &guarded.name_any());
    let work = async {
        // kube ends the process if a reconcile panics.
        let reconciled =
            async { caught(Place::Policy, Box::pin(reconcile(guarded.clone(), &controller))).await? };
        match controller.context.metrics.measure(CONTROLLER, reconciled).await {
            Err(ReconcileError::Panicked(panicked)) => {
                caught(Place::Policy, Box::pin(recover(&guarded, &controller, panicked))).await?
            }
            outcome => outcome,
        }
    };
    work.instrument(span).await
}

/// Reports that a panic ended the work on the status of a policy. Its rules stay in effect: the store controller handles
/// them.
async fn recover(
    guarded: &Guarded<ExecutionPolicy>,
    controller: &PolicyController,
    panicked: Panicked,
) -> Result<Action, ReconcileError> {
    let Ok(object) = &guarded.0 else { return Err(panicked.into()) };
    let status = status::compute(object, &PolicyState::Internal, chrono::Utc::now());
    if Some(&status) != object.status.as_ref() {
        publish(&controller.context.client, &object.metadata, &status).await?;
    }
    Ok(Action::requeue(controller.failures.pause_after(ObjectRef::from_obj(guarded))))
}

async fn reconcile(
    guarded: Arc<Guarded<ExecutionPolicy>>,
    controller: &PolicyController,
) -> Result<Action, ReconcileError> {
    let PolicyController { context, failures } = controller;
    let (key, namespace) = (ObjectRef::from_obj(&*guarded), guarded.namespace().unwrap_or_default());
    if !context.owns(&namespace, store_of(&guarded)) {
        return Ok(Action::await_change());
    }
    let object = match &guarded.0 {
        Ok(object) => object,
        Err(refused) => {
            tracing::warn!(policy = refused.metadata.name, error = %refused.cause, "an ExecutionPolicy cannot be used");
            publish::unusable(&context.client, refused).await?;
            return Ok(Action::await_change());
        }
    };
    if !context.stores().unseen_in(&namespace) && context.is_for_others(&namespace, store_of(&guarded)) {
        // A store that this operator selects later enqueues its policies.
        failures.forget(&key);
        return Ok(Action::await_change());
    }
    let Some((state, requeue_after)) = observe(context, object).await else {
        // Nothing is known yet after a start, so nothing is written.
        return Ok(Action::requeue(SOON));
    };
    let before = object.status.clone().unwrap_or_default();
    let status = status::compute(object, &state, chrono::Utc::now());
    if status != before {
        publish(&context.client, &object.metadata, &status).await?;
    }
    failures.forget(&key);
    Ok(Action::requeue(requeue_after))
}

/// The store that a policy is for; empty: the policy cannot be decoded.
pub(super) fn store_of(policy: &Guarded<ExecutionPolicy>) -> &str {
    policy.0.as_ref().map_or("", |policy| &policy.spec.store_ref.name)
}

#[allow(clippy::needless_pass_by_value, reason = "the signature is the controller's")]
fn failed(
    guarded: Arc<Guarded<ExecutionPolicy>>,
    error: &ReconcileError,
    controller: Arc<PolicyController>,
) -> Action {
    tracing::warn!(policy = %ObjectRef::from_obj(&*guarded), %error, "the policy's status could not be written");
    Action::requeue(controller.failures.pause_after(ObjectRef::from_obj(&*guarded)))
}
