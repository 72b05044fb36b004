//! `POST /api/system/executions/{namespace}/{store}/{id}/retry`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::app::App;
use super::auth::Caller;
use super::explain::PathParams;
use super::extract::{Body, Path, Query};
use super::openapi::{Problems, RetryProblems};
use super::preflight::Preflight;
use super::problem::Problem;
use super::stores::{OpenStore, Store, StoreAccess};
use crate::db::Ledger;
use crate::db::retry::{self as db_retry, NotPossible, Request, Row, Which};
use crate::session::Context;

/// The source in audit records.
const SOURCE: &str = "HttpApi";

/// A retry that was recorded or, in a dry run, would be.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct RequestedRetry {
    /// The store: `namespace/name`.
    store: String,
    /// Whether this was a dry run, which changes nothing.
    dry_run: bool,
    /// The id of the row.
    id: String,
    /// The id of the job.
    job_id: Option<String>,
    /// The number of the execution within its job.
    execution_number: Option<i64>,
    /// The time of its end.
    completed_at: Option<DateTime<Utc>>,
    /// Why the operator ended it; null if it did not.
    reason: Option<String>,
    /// The number of the next attempt.
    attempt: Option<i64>,
    /// The time from which the next attempt may start.
    due_at: Option<DateTime<Utc>>,
    /// Whether it also waits until the worker of the ended attempt is known to be gone.
    waits: Option<bool>,
}

/// The parameters of the request.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Params {
    /// Start the next attempt at once, whether the worker of the ended one is known to be gone or not.
    #[serde(default)]
    #[param(default = false)]
    now: bool,
    /// Only report what would be done.
    #[serde(default)]
    #[param(default = false)]
    dry_run: bool,
}

/// Has a failed execution run again.
///
/// The operator starts the next attempt once the worker of the ended one is known to be gone, or as the policy says;
/// with `now`, at once. The budget of the store and the maximum number of attempts do not count. The request is
/// recorded with the name of the caller. Requires the right to create executionstores/cleanup in the namespace of the
/// store.
#[utoipa::path(
    post, path = "/api/system/executions/{namespace}/{store}/{id}/retry", tag = "system", params(PathParams, Params),
    responses(Problems, RetryProblems, (status = 200, description = "The retry.", body = RequestedRetry)),
)]
pub(super) async fn retry(
    caller: Caller,
    State(app): State<Arc<App>>,
    Path(path): Path<PathParams>,
    Query(params): Query<Params>,
    Body(body): Body<serde_json::Value>,
) -> Result<Json<RequestedRetry>, Problem> {
    if body.is_some() {
        let why = "this request has none: put now and dry_run into the query";
        return Err(Problem::InvalidBody(why.to_owned()));
    }
    let mut stores = app.cleanable_stores(&caller, Some(path.store_name()?)).await?;
    let store = stores.pop().ok_or(Problem::NotFound)?;
    let row = request(&app.context, &store, &path.id, &params, caller.0.name.clone()).await?;
    if !params.dry_run {
        start_soon(&app.context, &store);
    }
    Ok(Json(RequestedRetry {
        store: store.name.to_string(),
        dry_run: params.dry_run,
        id: row.id,
        job_id: row.job_id,
        execution_number: row.execution_number,
        completed_at: row.completed_at,
        reason: row.reason,
        attempt: row.attempt,
        due_at: row.due_at,
        waits: row.waits,
    }))
}

async fn request(
    context: &Context,
    store: &Store,
    id: &str,
    params: &Params,
    actor: String,
) -> Result<Row, Problem> {
    let open = store.open().await?;
    let id = open.canonical_id(id)?;
    let Preflight { open, .. } = open.preflight(context).await?;
    let predicate = open.session.predicate(&open.effective_rules);
    if let Some(why) = NotPossible::of(&predicate) {
        return Err(Problem::RetryNotPossible { store: open.name.to_string(), why: why.to_string() });
    }
    if matches!(open.session.ledger, Ledger::Missing(_)) {
        return Err(Problem::NothingRecorded(open.name.to_string()));
    }
    let request = Request {
        which: Which::Ids(vec![id.clone()]),
        now: params.now,
        over: TimeDelta::zero(),
        dry_run: params.dry_run,
        source: SOURCE,
        actor: Some(actor),
    };
    let database = &open.session.database;
    let rows = database.within(db_retry::request(database, &predicate, &open.session.ledger, &request)).await;
    one(&open, id, rows.map_err(|error| open.failed(error))?)
}

/// Returns the only row, if the execution is retried.
fn one(open: &OpenStore, id: String, rows: Vec<Row>) -> Result<Row, Problem> {
    let not_found = |id| Problem::ExecutionNotFound { store: open.name.to_string(), id, outside: false };
    let Some(row) = rows.into_iter().next() else { return Err(not_found(id)) };
    match row.skipped {
        None => Ok(row),
        Some(skipped) if skipped.is_not_found() => Err(not_found(id)),
        Some(skipped) => Err(Problem::NotRetried { id, why: skipped.message }),
    }
}

/// Makes the operator look for retries that are due. Another replica does so at its next look.
fn start_soon(context: &Context, store: &Store) {
    if let StoreAccess::Local(Some(handle)) = &store.access {
        handle.note_change();
        context.enqueue_store(&store.name.namespace, &store.name.name);
    }
}

/// The conversion in clients.
impl From<RequestedRetry> for Row {
    fn from(retry: RequestedRetry) -> Self {
        Self {
            id: retry.id,
            job_id: retry.job_id,
            execution_number: retry.execution_number,
            completed_at: retry.completed_at,
            reason: retry.reason,
            attempt: retry.attempt,
            due_at: retry.due_at,
            waits: retry.waits,
            skipped: None,
        }
    }
}
