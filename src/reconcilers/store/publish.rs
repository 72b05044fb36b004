//! Report: one status write where something changed, and Events of what changed.

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

/// How old the counts in the status may become while nothing else changes.
const REFRESH: Duration = Duration::from_mins(1);

/// The shortest time between two statuses that differ in counts only. Everything else is written at once.
const MIN_INTERVAL: Duration = Duration::from_secs(2);

/// The conditions whose change is an Event.
const TOLD: [ConditionType; 4] = [
    ConditionType::Ready,
    ConditionType::Healthy,
    ConditionType::EnforcementPaused,
    ConditionType::Consistent,
];

/// Writes the status if it says anything new, then publishes what changed; or returns how long that should wait. An error is about
/// the status: that Events are refused, for example by a quota, is no reason not to go on.
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
    // The replica that manages the store writes its status; of the sweeps that were made here nobody else knows as soon.
    if cluster.owns_store(store) && worth_writing(&before, status) {
        let wait = published.wrote.map_or(Duration::ZERO, |at| MIN_INTERVAL.saturating_sub(at.elapsed()));
        if !wait.is_zero() && only_counts(&before, status) && !cluster.stop.is_cancelled() {
            return Ok(Some(wait));
        }
        let written = write(cluster, store, status).await?;
        published.wrote = Some(Instant::now());
        published.written = Some((written.metadata.resource_version, status.clone()));
        for news in changes(&before, status) {
            // The status says the same.
            if let Err(error) = events::publish(&cluster.client, &store.object_ref(&()), news).await {
                tracing::warn!(store = store.name_any(), %error, "an Event could not be published");
            }
        }
    }
    announce_if_due(cluster, update, published).await;
    Ok(None)
}

/// Announces sweeps, unless that failed a moment ago.
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

/// Whether nothing but counts tells two statuses apart.
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
        // An object made anew under the same name must not get the status of the old one.
        "metadata": {"uid": store.uid()},
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    bounded(api.patch_status(&store.name_any(), &params, &Patch::Apply(patch))).await
}

/// Everything but the counts' timestamp counts at once; that alone only once it is old.
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

/// One piece of news for each condition whose truth or reason changed; the first one ever only where it is bad.
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

/// Tells of every sweep that changed something and was not told of yet: this one, and any that an operator made and
/// did not live to announce. Returns whether none is left.
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

/// Says of an object that cannot be used what is wrong with it. It is looked at again when it changes.
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
