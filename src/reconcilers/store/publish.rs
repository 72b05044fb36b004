//! Writes the status if it has changed, and publishes Events about the changes.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::mailbox::{StatusUpdate, Unrecorded};
use super::published::PublishedState;
use super::status;
use super::swept::SAMPLE;
use crate::api::conditions::{ConditionType, find};
use crate::api::{ExecutionStore, ExecutionStoreStatus};
use crate::db::{Ledger, ledger};
use crate::kubernetes::backoff::backoff;
use crate::kubernetes::error::{ReconcileError, bounded};
use crate::kubernetes::events::{self, News};
use crate::kubernetes::guarded::{Named, Refused};
use crate::kubernetes::managers::{FIELD_MANAGER, REFUSAL_MANAGER};
use crate::runtime::cluster::Cluster;

/// The age that counts in the status may reach while nothing else changes.
const REFRESH: Duration = Duration::from_mins(1);

/// The shortest time between two statuses that differ in counts only. Everything else is written at once.
const MIN_INTERVAL: Duration = Duration::from_secs(2);

/// The conditions whose changes are published as Events.
const TOLD: [ConditionType; 4] = [
    ConditionType::Ready,
    ConditionType::Healthy,
    ConditionType::EnforcementPaused,
    ConditionType::Consistent,
];

/// Writes the status if it has news, then publishes the changes; or returns how long to wait with that. An error concerns
/// the status: refused Events, for example by a quota, stop nothing else.
pub(super) async fn publish(
    cluster: &Cluster,
    update: &mut StatusUpdate,
    published: &mut PublishedState,
) -> Result<Option<Duration>, ReconcileError> {
    published.unannounced |= update.announce;
    published.close(&mut update.closed);
    published.unrecorded = Unrecorded::sum(published.unrecorded.take(), update.unrecorded.take());
    let (store, status) = (&update.store, &update.status);
    let before = published.status(cluster, store);
    // The replica that owns the store writes its status. Sweeps are announced here in any case, since no other replica
    // knows of them as soon.
    if cluster.owns_store(store) && worth_writing(&before, status) {
        let wait = published.wrote.map_or(Duration::ZERO, |at| MIN_INTERVAL.saturating_sub(at.elapsed()));
        if !wait.is_zero() && only_counts(&before, status) && !cluster.stop.is_cancelled() {
            return Ok(Some(wait));
        }
        let written = write(cluster, store, status).await?;
        published.wrote = Some(Instant::now());
        published.written = Some((written.metadata.resource_version, status.clone()));
        for news in changes(&before, status) {
            // The status holds the same information.
            if let Err(error) = events::publish(&cluster.client, &store.object_ref(&()), news).await {
                tracing::warn!(store = store.name_any(), %error, "an Event could not be published");
            }
        }
    }
    announce_if_due(cluster, update, published).await;
    Ok(None)
}

/// Announces sweeps, unless the last try failed a moment ago.
async fn announce_if_due(cluster: &Cluster, update: &StatusUpdate, published: &mut PublishedState) {
    if !published.unannounced || published.refused.is_some_and(|(_, again)| Instant::now() < again) {
        return;
    }
    match announce(cluster, update, published).await {
        Ok(all) => (published.unannounced, published.refused) = (!all, None),
        Err(error) => {
            let times = published.refused.map_or(0, |(times, _)| times).saturating_add(1);
            published.refused = Some((times, Instant::now() + backoff(times)));
            tracing::warn!(store = update.store.name_any(), %error, times, "a sweep could not be announced yet");
        }
    }
}

/// True if two statuses differ in counts only.
fn only_counts(before: &ExecutionStoreStatus, after: &ExecutionStoreStatus) -> bool {
    let rest = |s: &ExecutionStoreStatus| {
        let reasons: Vec<_> =
            s.conditions.iter().map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone())).collect();
        (s.observed_generation, s.observed_sweep_request.clone(), s.last_sweep.is_some(), reasons)
    };
    rest(before) == rest(after)
}

async fn write(
    cluster: &Cluster,
    store: &ExecutionStore,
    status: &ExecutionStoreStatus,
) -> Result<ExecutionStore, ReconcileError> {
    let namespace = store.namespace().unwrap_or_default();
    let api: Api<ExecutionStore> = Api::namespaced(cluster.client.clone(), &namespace);
    let patch = json!({
        "apiVersion": ExecutionStore::api_version(&()), "kind": ExecutionStore::kind(&()),
        // An object created again under the same name must not get the status of the old one.
        "metadata": {"uid": store.uid()},
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    bounded(api.patch_status(&store.name_any(), &params, &Patch::Apply(patch))).await
}

/// True for any change but that of the counts' timestamp; for the timestamp alone once it is old.
fn worth_writing(before: &ExecutionStoreStatus, after: &ExecutionStoreStatus) -> bool {
    let timestamp = |s: &ExecutionStoreStatus| s.metrics.as_ref().and_then(|m| m.timestamp.clone());
    let undated = |s: &ExecutionStoreStatus| {
        let mut s = s.clone();
        s.metrics.iter_mut().for_each(|m| m.timestamp = None);
        s
    };
    if undated(before) != undated(after) {
        return true;
    }
    match (timestamp(before), timestamp(after)) {
        (Some(old), Some(new)) => new.0.duration_since(old.0).unsigned_abs() >= REFRESH,
        (old, new) => old != new,
    }
}

/// One Event for each condition whose status or reason changed; for a first status, only if it is bad.
fn changes(before: &ExecutionStoreStatus, after: &ExecutionStoreStatus) -> Vec<News> {
    let news = |(type_, condition): (ConditionType, &Condition)| {
        let old = find(&before.conditions, type_);
        let same = old.is_some_and(|o| o.status == condition.status && o.reason == condition.reason);
        let bad = if type_ == ConditionType::EnforcementPaused { "True" } else { "False" };
        let warning = condition.status == bad && condition.reason != "Observing";
        if same || condition.status == "Unknown" || (old.is_none_or(|o| o.status == "Unknown") && !warning) {
            return None;
        }
        Some(News {
            key: format!(
                "{}-{}",
                condition.type_.to_lowercase(),
                &uuid::Uuid::new_v4().simple().to_string()[..10]
            ),
            warning,
            reason: condition.reason.clone(),
            action: "Observe",
            note: format!("{}: {}", condition.type_, condition.message),
        })
    };
    TOLD.into_iter()
        .filter_map(|type_| Some((type_, find(&after.conditions, type_)?)))
        .filter_map(news)
        .collect()
}

/// Announces every sweep that changed something and is not announced yet: this one, and those that an earlier operator
/// did not announce. Returns whether none is left.
async fn announce(
    cluster: &Cluster,
    update: &StatusUpdate,
    published: &mut PublishedState,
) -> Result<bool, ReconcileError> {
    let about = update.store.object_ref(&());
    if let Some(Unrecorded { sweep, failed, first }) = &published.unrecorded {
        events::publish(&cluster.client, &about, swept_news(*sweep, *failed, first)).await?;
        published.unrecorded = None;
    }
    let Some(session) = &update.session else { return Ok(false) };
    let Ledger::Tables { store_id, .. } = session.ledger else {
        published.announced();
        return Ok(true);
    };
    let database = &session.database;
    let closed = published.closed();
    let listed = ledger::announcements::unannounced(database, store_id, &closed, i64::from(SAMPLE));
    let sweeps = database.within(listed).await?;
    let all = sweeps.len() < ledger::announcements::AT_ONCE && sweeps.iter().all(|sweep| sweep.ended);
    for sweep in sweeps.into_iter().filter(|sweep| sweep.ended) {
        let failed = u64::try_from(sweep.failed).unwrap_or_default();
        events::publish(&cluster.client, &about, swept_news(sweep.id, failed, &sweep.sample)).await?;
        database.within(ledger::announcements::announced(database, sweep.id)).await?;
    }
    if all {
        published.announced();
    }
    Ok(all)
}

fn swept_news(sweep: uuid::Uuid, failed: u64, first: &[String]) -> News {
    let (noun, more) =
        (if failed == 1 { "execution" } else { "executions" }, failed.saturating_sub(first.len() as u64));
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    News {
        key: sweep.simple().to_string(),
        warning: true,
        reason: "StaleExecutionsFailed".to_owned(),
        action: "Sweep",
        note: format!("failed {failed} stale {noun}: {}{rest}", first.join(", ")),
    }
}

/// Reports in the status why an object cannot be used. Its next change triggers a reconcile.
pub(super) async fn unusable(cluster: &Cluster, refused: &Refused) -> Result<Action, ReconcileError> {
    let ObjectMeta { name, namespace, uid, .. } = refused.metadata.clone();
    tracing::warn!(store = name, error = %refused.cause, "an ExecutionStore cannot be used");
    let conditions = status::unusable(refused);
    let api: Api<Named<ExecutionStore>> =
        Api::namespaced(cluster.client.clone(), &namespace.unwrap_or_default());
    let patch = json!({
        "apiVersion": ExecutionStore::api_version(&()), "kind": ExecutionStore::kind(&()),
        "metadata": {"uid": uid}, "status": {"conditions": conditions},
    });
    let params = PatchParams::apply(REFUSAL_MANAGER).force();
    bounded(api.patch_status(&name.unwrap_or_default(), &params, &Patch::Apply(patch))).await?;
    Ok(Action::await_change())
}
