//! `GET /api/system/stats`

use std::cmp::Reverse;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::app::App;
use super::auth::Caller;
use super::duration_schema::DurationSchema;
use super::extract::Query;
use super::openapi::Problems;
use super::problem::Problem;
use super::stores::{Store, StoreName, Unavailable, for_each_store};
use super::{pagination, time_range};
use crate::api::Duration;
use crate::db::stats::{self, Question};

/// Execution statistics.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Stats)]
pub(super) struct Table {
    /// The statistics by job type or job, the most executions first.
    pub(super) stats: Vec<JobStats>,
    /// The stores that could not be read, and why.
    pub(super) unavailable: Vec<Unavailable>,
}

/// The ended executions of one job type, or of one job if the store maps no types.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobStats {
    /// The store: `namespace/name`.
    pub(super) store: String,
    /// The job type; null for executions without a type, or if the store maps no types.
    pub(super) job_type: Option<String>,
    /// The job, if the store maps no types.
    pub(super) job_id: Option<String>,
    /// The number of executions that ended.
    pub(super) executions: i64,
    /// The number of executions that completed.
    pub(super) completed: i64,
    /// The number of executions that failed.
    pub(super) failed: i64,
    /// The number of executions that were cancelled.
    pub(super) cancelled: i64,
    /// The number of executions that were ended and finished otherwise later: if there are more than a few, their
    /// timeout is too short.
    pub(super) finished_late: i64,
    /// The fraction of executions that completed, from 0 to 1.
    pub(super) success_rate: f64,
    /// The median duration of completed executions, in seconds; null if no completed execution has both a start and an
    /// end.
    pub(super) p50_seconds: Option<f64>,
    /// The 95th percentile of these durations, in seconds.
    pub(super) p95_seconds: Option<f64>,
    /// The 99th percentile of these durations, in seconds.
    pub(super) p99_seconds: Option<f64>,
}

/// The parameters of the request.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Params {
    /// Only this store: `namespace/name`.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "default/jobs")]
    store: Option<StoreName>,
    /// Only executions that ended within this time: at most 30d, by default 24h.
    #[param(value_type = Option<DurationSchema>, inline)]
    since: Option<Duration>,
    /// Only this job type. A store that maps no types has no executions of any type.
    #[serde(rename = "type")]
    #[param(rename = "type", example = "import")]
    type_: Option<String>,
    /// The maximum number of job types or jobs.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u32>,
}

/// Returns how many executions of each job type ended recently, how many of them completed, and their durations.
///
/// Requires the right to list jobexecutions in the namespace of the store, or, without `store`, in the namespaces of
/// all stores.
#[utoipa::path(
    get, path = "/api/system/stats", tag = "system", params(Params),
    responses(Problems, (status = 200, description = "The statistics.", body = Table)),
)]
pub(super) async fn stats(
    caller: Caller,
    State(app): State<Arc<App>>,
    Query(params): Query<Params>,
) -> Result<Json<Table>, Problem> {
    let (since, limit) = (time_range::parse_since(params.since.as_ref())?, pagination::limit(params.limit)?);
    // Neither a column nor a statement can hold a text with a NUL.
    if params.type_.as_ref().is_some_and(|type_| type_.contains('\0')) {
        return Err(Problem::InvalidParameter("type must not contain NUL".to_owned()));
    }
    let question = Question { since, types: params.type_.into_iter().collect(), limit };
    let stores = app.readable_stores(&caller, params.store).await?;
    Ok(Json(table(&stores, &question).await?))
}

/// Returns the statistics of these stores together.
pub(super) async fn table(stores: &[Store], question: &Question) -> Result<Table, Problem> {
    let (parts, unavailable) = for_each_store(stores, |store| part(store, question)).await?;
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
    let _permit = open.read_permit().await?;
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
