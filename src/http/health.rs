//! `GET /api/system/health`: from what the operator has seen last, without any SQL.

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
use super::auth::{Access, Caller};
use super::documented::Problems;
use super::extract::Query;
use super::problem::Problem;
use super::stores::{Store, StoreName};
use crate::api::conditions::{ConditionType, find};
use crate::api::store::Metrics as Seen;
use crate::db::health as figures;

/// The path, which is what an unfiltered request needs the right to get.
const PATH: &str = "/api/system/health";

/// Whether all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// Stale executions are ended, and few run for long.
    Healthy,
    /// Many executions run for long, or stale ones are left as they are.
    Warning,
    /// Nothing is known of the executions at present.
    Unhealthy,
}

/// How the stores are.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct Health {
    /// The worst of all stores.
    pub(crate) status: Verdict,
    /// The totals over all stores, or the figures of one.
    pub(crate) metrics: Metrics,
    /// How many stores these are.
    pub(super) stores: usize,
    /// Where a store was named that is not healthy: why, in one word, for example the reason of its condition `Ready` or
    /// `Healthy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Where a store was named that is not healthy: why, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

/// The executions at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
pub(crate) struct Metrics {
    /// Executions that run.
    pub(super) running_executions: i64,
    /// Executions that wait to be started.
    pub(super) scheduled_executions: i64,
    /// Executions that run for longer than is expected of them.
    pub(super) long_running_executions: i64,
    /// Executions that run although they are stale.
    pub(super) stale_executions: i64,
    /// Executions that started within the last 24 hours.
    pub(super) recent_executions_24h: i64,
    /// When the longest-running execution started.
    pub(super) oldest_running_started_at: Option<DateTime<Utc>>,
    /// When these figures were taken, by the database's clock: the oldest of all stores. They are no older than the store's
    /// pollInterval, unless the table is so large that counting it takes longer.
    pub(super) timestamp: DateTime<Utc>,
}

/// What a client makes of them.
impl From<Metrics> for figures::Metrics {
    fn from(told: Metrics) -> Self {
        Self {
            running_executions: told.running_executions,
            scheduled_executions: told.scheduled_executions,
            long_running_executions: told.long_running_executions,
            stale_executions: told.stale_executions,
            recent_executions_24h: told.recent_executions_24h,
            oldest_running_started_at: told.oldest_running_started_at,
            timestamp: told.timestamp,
        }
    }
}

/// What to tell of.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only this store: `namespace/name`. It takes the right to list jobexecutions in its namespace.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "default/jobs")]
    store: Option<StoreName>,
}

/// The health of all stores, or of one.
///
/// Healthy and warning are told with 200, unhealthy with 503. The figures are at most five seconds old, unless more
/// than ten stores are asked for or counting takes too long, and are taken once for all who ask.
#[utoipa::path(
    get, path = PATH, tag = "system", params(Wanted), security(("token" = []), ()),
    responses(
        Problems,
        (status = 200, description = "Healthy, or a warning.", body = Health),
        (status = 503, description = "Unhealthy; as a problem, nobody knows.", content(
            (Health = "application/json"), (super::problem::Details = "application/problem+json"))),
    ),
)]
pub(super) async fn health(
    caller: Caller,
    State(app): State<Arc<App>>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let health = if let Some(name) = wanted.store {
        let store = app.one_seen_by(&caller, &name).await?;
        one(&app.freshened(store).await, Utc::now())
    } else {
        app.gate.require(&caller.0, &Access::Path(PATH)).await?;
        sum(&app.fresh(app.stores()?).await, Utc::now())
    };
    let code =
        if health.status == Verdict::Unhealthy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    Ok((code, Json(health)).into_response())
}

/// The health of these together, for who may only see totals: not why, which would say what stores there are, and what their
/// databases say.
pub(super) fn sum(stores: &[Store], now: DateTime<Utc>) -> Health {
    let worst = stores.iter().map(|store| verdict(store).0).max();
    let seen = stores.iter().filter_map(|store| store.status.as_ref()?.metrics.as_ref());
    let (status, metrics) = (worst.unwrap_or(Verdict::Healthy), total(seen, now));
    Health { status, metrics, stores: stores.len(), reason: None, message: None }
}

/// The health of a store, and why it is so, for who may see its executions.
pub(super) fn one(store: &Store, now: DateTime<Utc>) -> Health {
    let (reason, message) = verdict(store).1.unzip();
    Health { reason, message, ..sum(std::slice::from_ref(store), now) }
}

/// What the status of a store says, and why.
fn verdict(store: &Store) -> (Verdict, Option<(String, String)>) {
    let Some(status) = &store.status else { return (Verdict::Unhealthy, None) };
    let bad =
        |type_: ConditionType| find(&status.conditions, type_).filter(|condition| condition.status != "True");
    let why = |condition: &Condition| (condition.reason.clone(), condition.message.clone());
    let ready = find(&status.conditions, ConditionType::Ready);
    let lost = [ConditionType::DatabaseReachable, ConditionType::SchemaValid].into_iter().find_map(bad);
    match (lost, ready, &status.metrics) {
        (None, Some(_), Some(seen)) => {
            match bad(ConditionType::Ready).or_else(|| bad(ConditionType::Healthy)) {
                Some(condition) => (Verdict::Warning, Some(why(condition))),
                None if seen.stale_executions > 0 => (Verdict::Warning, Some(stale(seen.stale_executions))),
                None => (Verdict::Healthy, None),
            }
        }
        (lost, ready, _) => (Verdict::Unhealthy, lost.or(ready).map(why)),
    }
}

/// Why stale executions are a warning also where the operator does all that it should.
fn stale(count: i64) -> (String, String) {
    let message = format!(
        "{count} executions run although they are stale: see GET /api/system/executions/running?stale=true"
    );
    ("StaleExecutions".to_owned(), message)
}

fn total<'a>(seen: impl Iterator<Item = &'a Seen>, now: DateTime<Utc>) -> Metrics {
    let (mut sum, mut oldest, mut taken) = (Seen::default(), None, None);
    for one in seen {
        sum.running_executions = sum.running_executions.saturating_add(one.running_executions);
        sum.scheduled_executions = sum.scheduled_executions.saturating_add(one.scheduled_executions);
        sum.long_running_executions = sum.long_running_executions.saturating_add(one.long_running_executions);
        sum.stale_executions = sum.stale_executions.saturating_add(one.stale_executions);
        sum.recent_executions_24h = sum.recent_executions_24h.saturating_add(one.recent_executions_24h);
        oldest = earlier(oldest, one.oldest_running_started_at.as_ref());
        taken = earlier(taken, one.timestamp.as_ref());
    }
    Metrics {
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

/// A time of Kubernetes.
fn utc(time: &Time) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.0.as_second(), 0)
}
