//! `POST /api/system/cleanup/stale-executions`

mod params;

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts as _, State};
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::app::App;
use super::auth::Caller;
use super::cleanup_service::{self, CleanupRequest};
use super::extract::{Body, Query};
use super::openapi::{CleanupProblems, Problems};
use super::problem::Problem;
use super::stores::{Store, StoreName, Unavailable, partition_results};
use crate::db::cleanup as db_cleanup;
pub(crate) use params::{MAX_IDS, Params};

/// The report of a clean-up.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = CleanUpReport)]
pub(crate) struct Report {
    /// Whether this was a dry run, which changes nothing.
    pub(super) dry_run: bool,
    /// The number of executions that were ended or, in a dry run, would be.
    pub(crate) cleaned: u64,
    /// The number of executions that were left unchanged, although they are stale or older than requested.
    pub(crate) skipped: u64,
    /// A summary in one sentence.
    pub(super) message: String,
    /// The first 1,000 executions of each store, with the action and its reason, or why they were skipped.
    pub(crate) executions: Vec<Row>,
    /// The number of executions that are not in `executions`.
    pub(crate) omitted: u64,
    /// The stores that could not be cleaned up, and why.
    pub(crate) unavailable: Vec<Unavailable>,
}

/// An execution that was ended, would be ended in a dry run, or was skipped.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = CleanedExecution)]
pub(crate) struct Row {
    /// The store: `namespace/name`.
    pub(super) store: String,
    /// The id of the row.
    pub(super) id: String,
    /// The id of the job.
    pub(super) job_id: Option<String>,
    /// The number of the execution within its job.
    pub(super) execution_number: Option<i64>,
    /// The time of its start.
    pub(super) started_at: Option<DateTime<Utc>>,
    /// Its runtime, in seconds.
    pub(super) runtime_seconds: Option<f64>,
    /// The time by which it should have ended.
    pub(super) deadline: Option<DateTime<Utc>>,
    /// The time at which it was ended, by the database's clock; null in a dry run.
    pub(super) completed_at: Option<DateTime<Utc>>,
    /// The action that was taken or would be: `Failed` or `Cancelled`; null if none.
    pub(super) action: Option<Cow<'static, str>>,
    /// The reason: evidence such as `DeadlineExceeded`, or `ManualCleanup` if the caller decided.
    pub(super) reason: Option<String>,
    /// The object that decided it, or `HttpApi`.
    pub(super) source: Option<String>,
    /// Why it was skipped.
    pub(super) skipped: Option<Skipped>,
}

/// Why an execution was skipped.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct Skipped {
    /// The reason in one word, for example `Governed`, `Extended`, `AlertOnly`, `Locked`, `Late`, `Refused`,
    /// `NotFound`.
    pub(super) reason: Cow<'static, str>,
    /// The explanation.
    pub(super) message: String,
}

/// Fails stale executions, or those that have run for longer than a threshold.
///
/// Without a threshold or ids, this does the same as a sweep of the operator; the circuit breaker does not apply. Each
/// replica of the operator runs one clean-up of a store at a time; clean-ups of several replicas skip rows that
/// another one has locked. The clean-up continues when the client disconnects. Each ended execution is recorded with
/// the name of the caller. Requires the right to create executionstores/cleanup in the namespace of the store, or,
/// without `store`, for all stores.
#[utoipa::path(
    post, path = "/api/system/cleanup/stale-executions", tag = "system", params(Params),
    request_body(content = Option<Params>, description = "The parameters, instead of in the query."),
    responses(Problems, CleanupProblems, (status = 200, description = "The report of the clean-up.", body = Report)),
)]
pub(super) async fn cleanup(
    caller: Caller,
    State(app): State<Arc<App>>,
    Query(query): Query<Params>,
    Body(body): Body<Params>,
) -> Result<Json<Report>, Problem> {
    let params = query.with(body.unwrap_or_default())?;
    let stores = app.cleanable_stores(&caller, params.store.clone()).await?;
    let request = params.to_request(&caller)?;
    Ok(Json(clean(&app, &stores, &request).await?))
}

/// Rejects callers who may not clean up any store, before the body is read. The body can still name a store that the
/// caller may not clean up.
pub(super) async fn authorize_body(app: &App, caller: &Caller, parts: &mut Parts) -> Result<(), Problem> {
    let Query(query) = Query::<Params>::from_request_parts(parts, &()).await?;
    match query.store {
        None => authorize_any_store(app, caller).await,
        named => app.cleanable_stores(caller, named).await.map(drop),
    }
}

/// Rejects callers who may not clean up any store.
pub(super) async fn authorize_any_store(app: &App, caller: &Caller) -> Result<(), Problem> {
    if app.can_clean_any(caller).await? {
        return Ok(());
    }
    // This returns the error that names the missing right.
    app.cleanable_stores(caller, None).await.map(drop)
}

/// Cleans up the stores.
pub(super) async fn clean(app: &App, stores: &[Store], request: &CleanupRequest) -> Result<Report, Problem> {
    // Take all locks before anything is changed.
    let locks = stores
        .iter()
        .map(|store| if request.dry_run { Ok(None) } else { app.lock_cleanup(&store.name).map(Some) });
    let locks = locks.collect::<Result<Vec<_>, _>>()?;
    let outcomes = join_all(stores.iter().zip(locks).map(async |(store, lock)| {
        let open = store.open().await?;
        let request = request.canonicalize_ids(&open)?;
        cleanup_service::run(app, open, store.access.clone(), request, lock).await
    }));
    let outcomes = outcomes.await;
    let (outcomes, mut unavailable) = partition_results(stores.iter().zip(outcomes))?;
    let mut report = Report::empty(request.dry_run);
    for (store, outcome) in outcomes {
        report.cleaned += outcome.cleaned;
        report.skipped += outcome.skipped;
        report.omitted += outcome.omitted;
        report.executions.extend(outcome.rows.into_iter().map(|row| Row::of(&store, row)));
        // It changed rows before it failed.
        unavailable.extend(outcome.stopped_by.map(|problem| Unavailable::new(&store, &problem)));
    }
    report.unavailable = unavailable;
    report.message = report.sentence();
    Ok(report)
}

impl Report {
    fn empty(dry_run: bool) -> Self {
        Self {
            dry_run,
            cleaned: 0,
            skipped: 0,
            message: String::new(),
            executions: Vec::new(),
            omitted: 0,
            unavailable: Vec::new(),
        }
    }

    fn sentence(&self) -> String {
        let noun = if self.cleaned == 1 { "execution" } else { "executions" };
        let done = if self.dry_run { "Would clean up" } else { "Successfully cleaned up" };
        format!("{done} {} stale {noun}", self.cleaned)
    }
}

impl Row {
    fn of(store: &StoreName, row: db_cleanup::Row) -> Self {
        Self {
            store: store.to_string(),
            id: row.id,
            job_id: row.job_id,
            execution_number: row.execution_number,
            started_at: row.started_at,
            runtime_seconds: row.runtime_seconds,
            deadline: row.deadline,
            completed_at: row.completed_at,
            action: row.action,
            reason: row.reason,
            source: row.source,
            skipped: row.skipped.map(|db_cleanup::Skipped { reason, message }| Skipped { reason, message }),
        }
    }
}

/// The conversion in clients.
impl From<Row> for db_cleanup::Row {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            job_id: row.job_id,
            execution_number: row.execution_number,
            started_at: row.started_at,
            runtime_seconds: row.runtime_seconds,
            deadline: row.deadline,
            completed_at: row.completed_at,
            action: row.action,
            reason: row.reason,
            source: row.source,
            skipped: row.skipped.map(|Skipped { reason, message }| db_cleanup::Skipped { reason, message }),
        }
    }
}
