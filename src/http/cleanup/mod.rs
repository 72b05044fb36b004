//! `POST /api/system/cleanup/stale-executions`

mod wanted;

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
use super::cleaner::{self, Order};
use super::documented::{Busy, Problems};
use super::extract::{Body, Query};
use super::problem::Problem;
use super::stores::{Store, StoreName, Unavailable, some};
use crate::db::cleanup as done;
pub(crate) use wanted::{IDS, Wanted};

/// What a clean-up came to.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = CleanUpReport)]
pub(crate) struct Report {
    /// Whether nothing was changed.
    pub(super) dry_run: bool,
    /// How many executions were ended or, in a dry run, would be.
    pub(crate) cleaned: u64,
    /// How many were left as they are, although they are stale or have run for so long.
    pub(crate) skipped: u64,
    /// The same in a sentence.
    pub(super) message: String,
    /// The first 1,000 of each store, each with what was done and why, or why not.
    pub(crate) executions: Vec<Row>,
    /// How many more there are than `executions` tells of.
    pub(crate) omitted: u64,
    /// The stores that could not be cleaned up, and why.
    pub(crate) unavailable: Vec<Unavailable>,
}

/// An execution that was ended or, in a dry run, would be; or one that is not, and why.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = CleanedExecution)]
pub(crate) struct Row {
    /// The store: `namespace/name`.
    pub(super) store: String,
    /// The row's id.
    pub(super) id: String,
    /// Its job.
    pub(super) job_id: Option<String>,
    /// Its number within the job.
    pub(super) execution_number: Option<i64>,
    /// When it started.
    pub(super) started_at: Option<DateTime<Utc>>,
    /// How long it has run, in seconds.
    pub(super) runtime_seconds: Option<f64>,
    /// When it should have ended.
    pub(super) deadline: Option<DateTime<Utc>>,
    /// When it was ended, by the database's clock; null in a dry run.
    pub(super) completed_at: Option<DateTime<Utc>>,
    /// What was or would be done: `Failed` or `Cancelled`; null: nothing.
    pub(super) action: Option<Cow<'static, str>>,
    /// Why: evidence such as `DeadlineExceeded`, or `ManualCleanup` where the caller decided.
    pub(super) reason: Option<String>,
    /// The object that says so, or `HttpApi`.
    pub(super) source: Option<String>,
    /// Why nothing is done about it.
    pub(super) skipped: Option<Skipped>,
}

/// Why a row is left as it is.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct Skipped {
    /// In one word, for example `Governed`, `Extended`, `AlertOnly`, `Locked`, `Late`, `Refused`, `NotFound`.
    pub(super) reason: Cow<'static, str>,
    /// For a person.
    pub(super) message: String,
}

/// Fails what is stale, or what has run for longer than given.
///
/// By the policies it is what a sweep of the operator does; the breaker does not apply. One at a time for each store in each
/// replica of the operator; those of several replicas pass over what another one holds. It goes on when the client hangs
/// up. Each execution that is ended is recorded with the name of the caller. Takes the right to create
/// executionstores/cleanup in the namespace of the store; without a store for all stores.
#[utoipa::path(
    post, path = "/api/system/cleanup/stale-executions", tag = "system", params(Wanted),
    request_body(content = Option<Wanted>, description = "Instead of the query."),
    responses(Problems, Busy, (status = 200, description = "What was done, or would be.", body = Report)),
)]
pub(super) async fn cleanup(
    caller: Caller,
    State(app): State<Arc<App>>,
    Query(query): Query<Wanted>,
    Body(body): Body<Wanted>,
) -> Result<Json<Report>, Problem> {
    let wanted = query.with(body.unwrap_or_default())?;
    let stores = app.cleaned_by(&caller, wanted.store.clone()).await?;
    let order = wanted.order(&caller)?;
    Ok(Json(clean(&app, &stores, &order).await?))
}

/// Refuses a caller who may clean up nothing, before the body is read. That may still name a store that the caller may not
/// clean up.
pub(super) async fn may_begin(app: &App, caller: &Caller, parts: &mut Parts) -> Result<(), Problem> {
    let Query(query) = Query::<Wanted>::from_request_parts(parts, &()).await?;
    match query.store {
        None => may_some(app, caller).await,
        named => app.cleaned_by(caller, named).await.map(drop),
    }
}

/// Refuses a caller who may clean up none of the stores.
pub(super) async fn may_some(app: &App, caller: &Caller) -> Result<(), Problem> {
    if app.cleans_some(caller).await? {
        return Ok(());
    }
    // It says which right is missing.
    app.cleaned_by(caller, None).await.map(drop)
}

/// Cleans these stores up.
pub(super) async fn clean(app: &App, stores: &[Store], order: &Order) -> Result<Report, Problem> {
    // All turns before anything is done.
    let turns =
        stores.iter().map(|store| if order.dry_run { Ok(None) } else { app.turn(&store.name).map(Some) });
    let turns = turns.collect::<Result<Vec<_>, _>>()?;
    let outcomes = join_all(stores.iter().zip(turns).map(async |(store, turn)| {
        let open = store.open().await?;
        let order = order.in_words_of(&open)?;
        cleaner::run(app, open, store.door.clone(), order, turn).await
    }));
    let outcomes = outcomes.await;
    let (told, mut unavailable) = some(stores.iter().zip(outcomes))?;
    let mut report = Report::none(order.dry_run);
    for (store, outcome) in told {
        report.cleaned += outcome.cleaned;
        report.skipped += outcome.skipped;
        report.omitted += outcome.omitted;
        report.executions.extend(outcome.rows.into_iter().map(|row| Row::of(&store, row)));
        // It did something before it failed.
        unavailable.extend(outcome.broken.map(|problem| Unavailable::new(&store, &problem)));
    }
    report.unavailable = unavailable;
    report.message = report.sentence();
    Ok(report)
}

impl Report {
    fn none(dry_run: bool) -> Self {
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
    fn of(store: &StoreName, row: done::Row) -> Self {
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
            skipped: row.skipped.map(|done::Skipped { reason, message }| Skipped { reason, message }),
        }
    }
}

/// What a client makes of it.
impl From<Row> for done::Row {
    fn from(told: Row) -> Self {
        Self {
            id: told.id,
            job_id: told.job_id,
            execution_number: told.execution_number,
            started_at: told.started_at,
            runtime_seconds: told.runtime_seconds,
            deadline: told.deadline,
            completed_at: told.completed_at,
            action: told.action,
            reason: told.reason,
            source: told.source,
            skipped: told.skipped.map(|Skipped { reason, message }| done::Skipped { reason, message }),
        }
    }
}
