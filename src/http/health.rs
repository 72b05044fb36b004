//! `GET /api/system/health`, from the last status of each store, without SQL.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::app::App;
use super::auth::{Caller, Permission};
use super::extract::Query;
use super::openapi::Problems;
use super::problem::Problem;
use super::stores::{Store, StoreName};
use crate::api::conditions::{ConditionType, find};
use crate::api::store::Metrics as StoreCounts;
use crate::db::health as db_health;

/// The path of the endpoint. Without a store, a request requires the right to get it.
const PATH: &str = "/api/system/health";

/// The health of stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, ToSchema)]
#[schema(as = Verdict)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HealthStatus {
    /// Stale executions are ended, and few executions are long-running.
    Healthy,
    /// Many executions are long-running, or stale ones are not ended.
    Warning,
    /// The state of the executions is unknown.
    Unhealthy,
}

/// The health of one store, or of all stores together.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct Health {
    /// The worst health of all stores.
    pub(crate) status: HealthStatus,
    /// The counts of one store, or the totals of all stores.
    pub(crate) metrics: Counts,
    /// The number of stores.
    pub(super) stores: usize,
    /// Only for a single store that is not healthy: why, in one word, for example the reason of its condition `Ready`
    /// or `Healthy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Only for a single store that is not healthy: why, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

/// The counts of executions at one time.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[schema(as = Metrics)]
pub(crate) struct Counts {
    /// The number of running executions.
    pub(super) running_executions: i64,
    /// The number of executions that wait for their start.
    pub(super) scheduled_executions: i64,
    /// The number of executions that have run for longer than expected.
    pub(super) long_running_executions: i64,
    /// The number of executions that are running although they are stale.
    pub(super) stale_executions: i64,
    /// The number of executions that started within the last 24 hours.
    pub(super) recent_executions_24h: i64,
    /// The start of the longest-running execution.
    pub(super) oldest_running_started_at: Option<DateTime<Utc>>,
    /// The time at which the executions were counted, by the database's clock; for several stores, the oldest. The
    /// counts are at most as old as the pollInterval of the store, unless counting a large table takes longer.
    pub(super) timestamp: DateTime<Utc>,
}

/// The conversion in clients.
impl From<Counts> for db_health::Metrics {
    fn from(counts: Counts) -> Self {
        Self {
            running_executions: counts.running_executions,
            scheduled_executions: counts.scheduled_executions,
            long_running_executions: counts.long_running_executions,
            stale_executions: counts.stale_executions,
            recent_executions_24h: counts.recent_executions_24h,
            oldest_running_started_at: counts.oldest_running_started_at,
            timestamp: counts.timestamp,
        }
    }
}

/// The parameters of the request.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Params {
    /// Only this store: `namespace/name`. Requires the right to list jobexecutions in its namespace.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "default/jobs")]
    store: Option<StoreName>,
}

/// Returns the health of one store, or of all stores together.
///
/// The status is 200 for healthy and warning, and 503 for unhealthy. The counts are at most five seconds old, unless a
/// request is about more than ten stores or counting takes too long. They are taken once for all clients.
#[utoipa::path(
    get, path = PATH, tag = "system", params(Params), security(("token" = []), ()),
    responses(
        Problems,
        (status = 200, description = "Healthy or warning.", body = Health),
        (status = 503, description = "Unhealthy, or a problem if the health is unknown.", content(
            (Health = "application/json"), (super::problem::Details = "application/problem+json"))),
    ),
)]
pub(super) async fn health(
    caller: Caller,
    State(app): State<Arc<App>>,
    Query(params): Query<Params>,
) -> Result<Response, Problem> {
    let health = if let Some(name) = params.store {
        let store = app.readable_store(&caller, &name).await?;
        store_health(&app.with_fresh_count(store).await, Utc::now())
    } else {
        app.authorizer.authorize(&caller.0, &Permission::Path(PATH)).await?;
        total_health(&app.with_fresh_counts(app.stores()?).await, Utc::now())
    };
    let code = if health.status == HealthStatus::Unhealthy {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    Ok((code, Json(health)).into_response())
}

/// Returns the health of these stores together, without reasons: callers who may only see totals must not learn which
/// stores exist, or what their databases report.
pub(super) fn total_health(stores: &[Store], now: DateTime<Utc>) -> Health {
    let worst = stores.iter().map(|store| health_of(store).0).max();
    let counts = stores.iter().filter_map(|store| store.status.as_ref()?.metrics.as_ref());
    let (status, metrics) = (worst.unwrap_or(HealthStatus::Healthy), total(counts, now));
    Health { status, metrics, stores: stores.len(), reason: None, message: None }
}

/// Returns the health of a store with its reason, for callers who may see its executions.
pub(super) fn store_health(store: &Store, now: DateTime<Utc>) -> Health {
    let (reason, message) = health_of(store).1.unzip();
    Health { reason, message, ..total_health(std::slice::from_ref(store), now) }
}

/// Returns the health of a store with its reason and message, from its conditions and counts.
fn health_of(store: &Store) -> (HealthStatus, Option<(String, String)>) {
    let Some(status) = &store.status else { return (HealthStatus::Unhealthy, None) };
    let bad =
        |type_: ConditionType| find(&status.conditions, type_).filter(|condition| condition.status != "True");
    let why = |condition: &Condition| (condition.reason.clone(), condition.message.clone());
    let ready = find(&status.conditions, ConditionType::Ready);
    let lost = [ConditionType::DatabaseReachable, ConditionType::SchemaValid].into_iter().find_map(bad);
    match (lost, ready, &status.metrics) {
        (None, Some(_), Some(counts)) => {
            match bad(ConditionType::Ready).or_else(|| bad(ConditionType::Healthy)) {
                Some(condition) => (HealthStatus::Warning, Some(why(condition))),
                None if counts.stale_executions > 0 => {
                    (HealthStatus::Warning, Some(stale(counts.stale_executions)))
                }
                None => (HealthStatus::Healthy, None),
            }
        }
        (lost, ready, _) => (HealthStatus::Unhealthy, lost.or(ready).map(why)),
    }
}

/// Returns the reason and message of the warning about stale executions. They are a warning even if the operator works
/// as configured.
fn stale(count: i64) -> (String, String) {
    let message = format!(
        "{count} executions are running although they are stale: see GET /api/system/executions/running?stale=true"
    );
    ("StaleExecutions".to_owned(), message)
}

fn total<'a>(all: impl Iterator<Item = &'a StoreCounts>, now: DateTime<Utc>) -> Counts {
    let (mut sum, mut oldest, mut taken) = (StoreCounts::default(), None, None);
    for store in all {
        sum.running_executions = sum.running_executions.saturating_add(store.running_executions);
        sum.scheduled_executions = sum.scheduled_executions.saturating_add(store.scheduled_executions);
        sum.long_running_executions =
            sum.long_running_executions.saturating_add(store.long_running_executions);
        sum.stale_executions = sum.stale_executions.saturating_add(store.stale_executions);
        sum.recent_executions_24h = sum.recent_executions_24h.saturating_add(store.recent_executions_24h);
        oldest = earlier(oldest, store.oldest_running_started_at.as_ref());
        taken = earlier(taken, store.timestamp.as_ref());
    }
    Counts {
        running_executions: sum.running_executions,
        scheduled_executions: sum.scheduled_executions,
        long_running_executions: sum.long_running_executions,
        stale_executions: sum.stale_executions,
        recent_executions_24h: sum.recent_executions_24h,
        oldest_running_started_at: oldest,
        timestamp: taken.unwrap_or(now),
    }
}

fn earlier(a: Option<DateTime<Utc>>, b: Option<&Time>) -> Option<DateTime<Utc>> {
    [a, b.and_then(utc)].into_iter().flatten().min()
}

/// Converts a Kubernetes time.
fn utc(time: &Time) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.0.as_second(), 0)
}
