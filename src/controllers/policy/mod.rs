//! The policy controller: says of each `ExecutionPolicy` what became of it. That it is in force is the work of its store's
//! controller, which reads all policies of the store together.

mod verdict;

use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc;
use futures::{Stream, StreamExt as _};
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Predicate as _, PredicateConfig, WatchStreamExt as _, predicates, watcher};
use kube::{Resource as _, ResourceExt as _};
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::cached::{PAGE, REMEMBERED};
use super::context::Guarded;
use super::guarded::{Named, usable};
use super::wishes::{Problem, Read};
use super::{Context, FIELD_MANAGER, REFUSAL_MANAGER, ReconcileError, bounded};
use crate::api::{ExecutionPolicy, ExecutionPolicyStatus};
use crate::boundary::{Panicked, Place, caught, caught_now};
use crate::db::history::Figures;
use crate::rules::policy_source;
use crate::telemetry;
pub use verdict::refused;
use verdict::{Sight, Standing};

/// How it is called where reconciles are counted.
const CONTROLLER: &str = "executionpolicy";

/// How many policies are worked on at the same time.
const CONCURRENCY: u16 = 4;

/// How often the figures of a policy are brought up to date.
const REFRESH: Duration = Duration::from_mins(1);

/// The pause while its store has not said yet what became of it.
const SOON: Duration = Duration::from_secs(1);

/// How policies are watched.
pub fn watched() -> watcher::Config {
    watcher::Config::default().page_size(PAGE)
}

/// Runs until `stop` is cancelled and every reconcile under way has ended.
pub async fn run(
    context: Arc<Context>,
    seen: impl Stream<Item = Result<watcher::Event<Guarded<ExecutionPolicy>>, watcher::Error>> + Send + 'static,
    nudged: mpsc::Receiver<ObjectRef<Guarded<ExecutionPolicy>>>,
    stop: CancellationToken,
) {
    let reader = context.policies().reader();
    let nudger = context.clone();
    let policies = seen
        .inspect(move |event| {
            let Ok(watcher::Event::Delete(guarded)) = event else { return };
            // One object must not end the watch of all.
            let _ = caught_now(Place::Watch, || gone(&nudger, guarded));
        })
        .applied_objects()
        // A status written by this controller must not bring it back; that it can be used, or cannot any more, must.
        .predicate_filter(predicates::generation.combine(usable), PredicateConfig::default().ttl(REMEMBERED));
    Controller::for_stream(policies, reader)
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        .reconcile_on(nudged)
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(measured, failed, context)
        .for_each(|_| async {})
        .await;
}

/// What it means that a policy is gone.
fn gone(context: &Context, guarded: &Guarded<ExecutionPolicy>) {
    context.failing_policies.forget(&ObjectRef::from_obj(guarded));
    if let Ok(policy) = &guarded.0 {
        context.nudge_store(&policy.namespace().unwrap_or_default(), &policy.spec.store_ref.name);
    }
}

async fn measured(
    guarded: Arc<Guarded<ExecutionPolicy>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let span = telemetry::reconcile(CONTROLLER, guarded.meta().namespace.as_deref(), &guarded.name_any());
    let work = async {
        // kube ends the process for a reconcile that panics.
        let reconciled =
            async { caught(Place::Policy, Box::pin(reconcile(guarded.clone(), &context))).await? };
        match context.metrics.measure(CONTROLLER, reconciled).await {
            Err(ReconcileError::Panicked(panicked)) => {
                caught(Place::Policy, Box::pin(told(&guarded, &context, panicked))).await?
            }
            outcome => outcome,
        }
    };
    work.instrument(span).await
}

/// Says of a policy that a panic ended the work on its status. What the policy says stays in force: that is its store's work.
async fn told(
    guarded: &Guarded<ExecutionPolicy>,
    context: &Context,
    panicked: Panicked,
) -> Result<Action, ReconcileError> {
    let Ok(object) = &guarded.0 else { return Err(panicked.into()) };
    let status = verdict::judge(object, &Sight::Internal, chrono::Utc::now());
    if Some(&status) != object.status.as_ref() {
        write(context, &object.metadata, &status).await?;
    }
    Ok(Action::requeue(context.failing_policies.pause_after(ObjectRef::from_obj(guarded))))
}

async fn reconcile(
    guarded: Arc<Guarded<ExecutionPolicy>>,
    context: &Context,
) -> Result<Action, ReconcileError> {
    if !context.owns(&guarded.namespace().unwrap_or_default(), store_of(&guarded)) {
        return Ok(Action::await_change());
    }
    let object = match &guarded.0 {
        Ok(object) => object,
        Err(refused) => {
            tracing::warn!(
                policy = refused.metadata.name,
                error = %refused.cause,
                "an ExecutionPolicy cannot be used"
            );
            let conditions =
                verdict::refused(&refused.cause, refused.metadata.generation, chrono::Utc::now());
            let status = json!({"observedGeneration": refused.metadata.generation, "conditions": conditions});
            apply(context, &refused.metadata, REFUSAL_MANAGER, &status).await?;
            return Ok(Action::await_change());
        }
    };
    let namespace = object.namespace().unwrap_or_default();
    if !context.stores().unseen_in(&namespace)
        && context.is_for_others(&namespace, &object.spec.store_ref.name)
    {
        // A store that this operator takes later has its policies looked at.
        context.failing_policies.forget(&ObjectRef::from_obj(&*guarded));
        return Ok(Action::await_change());
    }
    let Some((sight, look_again)) = see(context, object).await else {
        // Nothing is known yet after a start, and that is no news.
        return Ok(Action::requeue(SOON));
    };
    let before = object.status.clone().unwrap_or_default();
    let status = verdict::judge(object, &sight, chrono::Utc::now());
    if status != before {
        write(context, &object.metadata, &status).await?;
    }
    context.failing_policies.forget(&ObjectRef::from_obj(&*guarded));
    Ok(Action::requeue(look_again))
}

/// The store that a policy is for; empty: it cannot be read.
pub(super) fn store_of(policy: &Guarded<ExecutionPolicy>) -> &str {
    policy.0.as_ref().map_or("", |policy| &policy.spec.store_ref.name)
}

/// Observe: what its store made of the policy, and when to look again. `None`: the store has not been looked at since the
/// operator started, or has not seen this policy as it is now.
async fn see(context: &Context, object: &ExecutionPolicy) -> Option<(Sight, Duration)> {
    let namespace = object.namespace().unwrap_or_default();
    let name = &object.spec.store_ref.name;
    if context.stores().unseen_in(&namespace) {
        return None;
    }
    if context.store(&namespace, name).is_none() {
        return Some((Sight::StoreNotFound, REFRESH));
    }
    let store = ObjectRef::new(name).within(&namespace);
    let handle = context.known_handle(&store).filter(|handle| handle.known())?;
    let Some(session) = handle.session() else { return Some((Sight::StoreNotReady, SOON)) };
    let in_force = session.in_force().await?;
    let uid = object.uid().unwrap_or_default();
    let read = in_force.policies.iter().find(|read| read.uid == uid);
    let Some(read) = read.filter(|read| Some(read.generation) == object.metadata.generation) else {
        context.nudge_store(&namespace, name);
        return None;
    };
    let source = policy_source(&object.name_any());
    // What was counted by other rules says nothing of this policy.
    let counted = handle.governed().filter(|governed| governed.in_force == in_force);
    let governed = counted.map(|governed| governed.counts.get(&source).copied().unwrap_or_default());
    let history = session.history().get(&uid).filter(|_| read.question.is_some()).cloned();
    let answered = |figures: &Figures| figures.generation == read.generation;
    let pending = read.question.is_some() && !history.as_ref().is_some_and(answered);
    let mut problems = read.problems.clone();
    problems.extend(mail(context, &namespace, name, read));
    let mut conflicts = in_force.compiled.conflicts.get(&read.policy.name).cloned().unwrap_or_default();
    conflicts.extend(in_force.routes.conflict(&read.policy.name).cloned());
    let standing = Standing {
        problems,
        conflicts,
        look_again: if governed.is_none() || pending { SOON } else { REFRESH },
        governed,
        pending,
        history,
    };
    let look_again = standing.look_again;
    Some((Sight::Standing(Box::new(standing)), look_again))
}

/// What keeps e-mail from being sent.
fn mail(context: &Context, namespace: &str, store: &str, read: &Read) -> Option<Problem> {
    let mails = read.channels.iter().any(|channel| channel.email.is_some());
    let store = context.store(namespace, store).filter(|_| mails)?;
    let notifications = store.0.as_ref().ok()?.spec.notifications.as_ref();
    notifications.and_then(|notifications| notifications.smtp.as_ref()).is_none().then_some(Problem::Mail)
}

async fn write(
    context: &Context,
    metadata: &ObjectMeta,
    status: &ExecutionPolicyStatus,
) -> Result<(), ReconcileError> {
    apply(context, metadata, FIELD_MANAGER, status).await
}

async fn apply(
    context: &Context,
    metadata: &ObjectMeta,
    manager: &str,
    status: &(impl Serialize + Sync),
) -> Result<(), ReconcileError> {
    let resource = kube::api::ApiResource::erase::<ExecutionPolicy>(&());
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let api: Api<Named<ExecutionPolicy>> = Api::namespaced(context.client.clone(), &namespace);
    let patch = json!({
        "apiVersion": resource.api_version, "kind": resource.kind,
        // An object made anew under the same name must not get the status of the old one.
        "metadata": {"uid": metadata.uid},
        "status": status,
    });
    let params = PatchParams::apply(manager).force();
    bounded(api.patch_status(metadata.name.as_deref().unwrap_or_default(), &params, &Patch::Apply(patch)))
        .await?;
    Ok(())
}

#[allow(clippy::needless_pass_by_value, reason = "the signature is the controller's")]
fn failed(guarded: Arc<Guarded<ExecutionPolicy>>, error: &ReconcileError, context: Arc<Context>) -> Action {
    tracing::warn!(policy = %ObjectRef::from_obj(&*guarded), %error, "the policy's status could not be written");
    Action::requeue(context.failing_policies.pause_after(ObjectRef::from_obj(&*guarded)))
}
