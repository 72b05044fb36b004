//! `GET /api/system/stats`

use std::cmp::Reverse;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::app::App;
use super::auth::Caller;
use super::documented::Problems;
use super::extract::Query;
use super::problem::Problem;
use super::stores::{Store, StoreName, Unavailable, each};
use super::{pages, period};
use crate::api::Duration;
use crate::db::stats::{self, Question};

/// Execution statistics.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Stats)]
pub(super) struct Table {
    /// Those of the most executions first.
    pub(super) stats: Vec<JobStats>,
    /// The stores that could not be asked, and why.
    pub(super) unavailable: Vec<Unavailable>,
}

/// The executions of one job type that have ended, or of one job where the store knows no types.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobStats {
    /// The store: `namespace/name`.
    pub(super) store: String,
    /// The type; null: these have none, or no types are known.
    pub(super) job_type: Option<String>,
    /// The job, where no types are known.
    pub(super) job_id: Option<String>,
    /// How many executions have ended.
    pub(super) executions: i64,
    /// How many of them well.
    pub(super) completed: i64,
    /// How many failed.
    pub(super) failed: i64,
    /// How many were cancelled.
    pub(super) cancelled: i64,
    /// How many of those that were ended lived and were finished otherwise after all: with more than a few their timeout is too
    /// short.
    pub(super) finished_late: i64,
    /// The share of those that ended well, from 0 to 1.
    pub(super) success_rate: f64,
    /// In how many seconds half of the completed ones were done; null: of none both times are known.
    pub(super) p50_seconds: Option<f64>,
    /// 95 of 100.
    pub(super) p95_seconds: Option<f64>,
    /// 99 of 100.
    pub(super) p99_seconds: Option<f64>,
}

/// Of what, and how far back.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only of this store: `namespace/name`.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "default/jobs")]
    store: Option<StoreName>,
    /// Of what ended within so long: at most 720h; 24h unless it is said.
    #[param(value_type = Option<String>, pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$", example = "24h")]
    since: Option<Duration>,
    /// Only of this job type. A store that knows no types has none of it.
    #[serde(rename = "type")]
    #[param(rename = "type", example = "import")]
    type_: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u32>,
}

/// How many executions of each job type ended lately, how many of them well, and how long those took.
///
/// Takes the right to list jobexecutions in the namespace of the store; without a store in the namespaces of all stores.
#[utoipa::path(
    get, path = "/api/system/stats", tag = "system", params(Wanted),
    responses(Problems, (status = 200, description = "The stats.", body = Table)),
)]
pub(super) async fn stats(
    caller: Caller,
    State(app): State<Arc<App>>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Table>, Problem> {
    let (since, limit) = (period::since(wanted.since.as_ref())?, pages::limit(wanted.limit)?);
    // What has a NUL in it no column can hold, and no statement.
    if wanted.type_.as_ref().is_some_and(|type_| type_.contains('\0')) {
        return Err(Problem::InvalidParameter("type must be a text without NUL".to_owned()));
    }
    let question = Question { since, types: wanted.type_.into_iter().collect(), limit };
    let stores = app.seen_by(&caller, wanted.store).await?;
    Ok(Json(table(&stores, &question).await?))
}

/// The stats of these stores together.
pub(super) async fn table(stores: &[Store], question: &Question) -> Result<Table, Problem> {
    let (parts, unavailable) = each(stores, |store| part(store, question)).await?;
    let mut stats: Vec<JobStats> = parts.into_iter().flatten().collect();
    stats.sort_by_key(|job| Reverse(job.executions));
    stats.truncate(usize::try_from(question.limit).unwrap_or(usize::MAX));
    Ok(Table { stats, unavailable })
}

async fn part(store: &Store, question: &Question) -> Result<Vec<JobStats>, Problem> {
    let open = store.open().await?;
    let (database, mapping) = (&open.session.database, &open.session.mapping);
    if !question.types.is_empty() && !mapping.knows_types() {
        return Ok(Vec::new());
    }
    let _reading = open.turn().await?;
    let found = database.within(stats::ask(database, mapping, &open.session.ledger, question)).await;
    let found = found.map_err(|error| open.failed(error))?;
    Ok(found.into_iter().map(|job| JobStats::of(&store.name, job)).collect())
}

impl JobStats {
    fn of(store: &StoreName, job: stats::JobStats) -> Self {
        Self {
            store: store.to_string(),
            job_type: job.job_type,
            job_id: job.job_id,
            executions: job.executions,
            completed: job.completed,
            failed: job.failed,
            cancelled: job.cancelled,
            finished_late: job.finished_late,
            success_rate: job.success_rate,
            p50_seconds: job.p50_seconds,
            p95_seconds: job.p95_seconds,
            p99_seconds: job.p99_seconds,
        }
    }
}
