//! The execution controller: binds a `JobExecution` to its row and says how the row stands.

mod verdict;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::channel::mpsc;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::context::Guarded;
use super::events::publish;
use super::{Context, FIELD_MANAGER, ReconcileError, bounded, watched, wishes};
use crate::api::{JobExecution, JobExecutionStatus};
use crate::db::{DbError, execution};
use verdict::Sight;

/// How many executions are worked on at the same time, below the smallest useful pool's size times the stores.
const CONCURRENCY: u16 = 8;

/// How often a finished execution is looked at: it should not change any more.
const FINISHED_INTERVAL: Duration = Duration::from_mins(5);

/// The pause while a store has not been looked at since the operator started.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Runs until `stop` is cancelled and every reconcile under way has ended.
pub async fn run(
    context: Arc<Context>,
    writer: reflector::store::Writer<Guarded<JobExecution>>,
    nudged: mpsc::Receiver<ObjectRef<Guarded<JobExecution>>>,
    stop: CancellationToken,
) {
    let reader = writer.as_reader();
    let deletions = context.clone();
    let executions = watcher(context.api::<Guarded<JobExecution>>(), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .inspect(move |event| {
            // What an object that is gone leaves behind must go too: its failures, its rule.
            let Ok(watcher::Event::Delete(guarded)) = event else { return };
            deletions.failing.forget(&ObjectRef::from_obj(guarded));
            if let Ok(execution) = &guarded.0 {
                deletions
                    .nudge_store(&execution.namespace().unwrap_or_default(), &execution.spec.store_ref.name);
            }
        })
        .applied_objects();
    Controller::for_stream(executions, reader)
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        .reconcile_on(nudged)
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(reconcile, failed, context)
        .for_each(|outcome| async move { watched::<JobExecution>(outcome) })
        .await;
}

async fn reconcile(
    guarded: Arc<Guarded<JobExecution>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let object = match &guarded.0 {
        Ok(object) => object,
        Err(invalid) => {
            tracing::warn!(
                execution = invalid.metadata.name,
                error = invalid.error,
                "a JobExecution cannot be decoded"
            );
            let status =
                verdict::undecodable(&invalid.error, invalid.metadata.generation, chrono::Utc::now());
            write(&context, &invalid.metadata, &status).await?;
            return Ok(Action::await_change());
        }
    };
    let Some((sight, look_again)) = Box::pin(see(&context, object)).await else {
        // Nothing is known yet after a start, and that is no news.
        return Ok(Action::requeue(FIRST_LOOK));
    };
    let before = object.status.clone().unwrap_or_default();
    let status = verdict::judge(object, &sight, chrono::Utc::now());
    if before.observed_generation != status.observed_generation {
        // A new timeout may be the next deadline of its store, whether or not Kubernetes can be told.
        context.nudge_store(&object.namespace().unwrap_or_default(), &object.spec.store_ref.name);
    }
    if status != before {
        // The Event goes first: its name is made of the row's end, so that a crash in between does not double it, and
        // the status that would keep it from being sent is not there yet.
        for news in verdict::news(&before, &status) {
            match publish(&context.client, &object.object_ref(&()), news).await {
                // The status says the same.
                Err(error) if error.refused() => {
                    tracing::warn!(execution = object.name_any(), %error, "an Event could not be published");
                }
                outcome => outcome?,
            }
        }
        write(&context, &object.metadata, &status).await?;
    }
    context.failing.forget(&ObjectRef::from_obj(&*guarded));
    Ok(Action::requeue(look_again))
}

/// Observe: the row, and when to look again. `None`: the store has not been looked at since the operator started.
async fn see(context: &Context, object: &JobExecution) -> Option<(Sight, Duration)> {
    let namespace = object.namespace().unwrap_or_default();
    let name = &object.spec.store_ref.name;
    if !context.stores_seen() {
        return None;
    }
    let Some(store) = context.store(&namespace, name) else {
        return Some((Sight::StoreNotFound, FINISHED_INTERVAL));
    };
    let Ok(store) = &store.0 else { return Some((Sight::StoreNotReady, FINISHED_INTERVAL)) };
    let handle =
        context.known_handle(&ObjectRef::new(name).within(&namespace)).filter(|handle| handle.known())?;
    let poll = store.spec.poll_interval.get();
    let Some(session) = handle.session() else {
        return Some((Sight::StoreNotReady, poll));
    };
    let Some(id) = session.mapping.id_type().canonical(&object.spec.execution_id) else {
        return Some((Sight::InvalidId(session.mapping.id_type()), FINISHED_INTERVAL));
    };
    let found = Box::pin(async {
        // What it wishes is written before the status below reports it as applied.
        let wish = wishes::execution(object, session.mapping.id_type());
        let known = session.in_force().await;
        let in_force = match known.filter(|known| known.holds(&object.name_any(), &id, wish.as_ref())) {
            Some(known) => Some(known),
            None => session.bring_in_force(context, store, false).await?,
        };
        let Some(in_force) = in_force else { return Ok(None) };
        let judge = session.judge(&in_force);
        Ok::<_, DbError>(Some(execution::find(&session.database, &judge, &session.ledger, &id).await?))
    });
    Some(match session.database.within(found).await {
        Ok(Some(Some(row))) if row.phase.finished() => (Sight::Row(Box::new(row)), FINISHED_INTERVAL),
        Ok(Some(Some(row))) => (Sight::Row(Box::new(row)), poll),
        Ok(Some(None)) => (Sight::RowNotFound, poll),
        Ok(None) => (Sight::StoreNotReady, poll),
        Err(error) => {
            tracing::debug!(execution = object.name_any(), %error, "the row could not be read");
            (Sight::StoreNotReady, poll)
        }
    })
}

async fn write(
    context: &Context,
    metadata: &kube::api::ObjectMeta,
    status: &JobExecutionStatus,
) -> Result<(), ReconcileError> {
    let resource = kube::api::ApiResource::erase::<JobExecution>(&());
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &namespace, &resource);
    let patch = json!({
        "apiVersion": resource.api_version, "kind": resource.kind,
        // An object made anew under the same name must not get the status of the old one.
        "metadata": {"uid": metadata.uid},
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    bounded(api.patch_status(metadata.name.as_deref().unwrap_or_default(), &params, &Patch::Apply(patch)))
        .await?;
    Ok(())
}

#[allow(clippy::needless_pass_by_value, reason = "the signature is the controller's")]
fn failed(guarded: Arc<Guarded<JobExecution>>, error: &ReconcileError, context: Arc<Context>) -> Action {
    tracing::warn!(execution = %ObjectRef::from_obj(&*guarded), %error, "the execution's status could not be written");
    Action::requeue(context.failing.pause_after(ObjectRef::from_obj(&*guarded)))
}
