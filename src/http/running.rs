//! `GET /api/system/executions/running`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::app::App;
use super::auth::Caller;
use super::documented::Problems;
use super::extract::Query;
use super::pages::{self, List, Rows};
use super::problem::Problem;
use super::stores::{Open, Store, StoreName, Unavailable};
use crate::api::Duration;
use crate::db::DbError;
use crate::db::running::{self as listed, Filter, Which};

/// A page of running executions.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RunningExecutions)]
pub(super) struct Page {
    /// The executions, the longest running first; those without a start last.
    pub(super) executions: Vec<RunningExecution>,
    /// To be given as `cursor` for the next page; null: this is the last one.
    pub(super) next: Option<String>,
    /// The stores whose executions could not be listed, and why.
    pub(super) unavailable: Vec<Unavailable>,
}

/// A running execution.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunningExecution {
    /// The store: `namespace/name`.
    pub(super) store: String,
    /// The row's id.
    pub(super) id: String,
    /// Its job.
    pub(super) job_id: Option<String>,
    /// The type of the job, where that is known.
    pub(super) job_type: Option<String>,
    /// Its number within the job.
    pub(super) execution_number: Option<i64>,
    /// When it started.
    pub(super) started_at: Option<DateTime<Utc>>,
    /// How long it has run, in seconds.
    pub(super) runtime_seconds: Option<f64>,
    /// How long it may run, in seconds, the grace period and an extension apart.
    pub(super) timeout_seconds: f64,
    /// The object that says so.
    pub(super) timeout_source: String,
    /// What is added to that, in seconds.
    pub(super) extended_by_seconds: f64,
    /// The object that says so.
    pub(super) extend_source: Option<String>,
    /// When it is past its deadline.
    pub(super) deadline: Option<DateTime<Utc>>,
    /// What becomes of it once it is stale: `Fail`, `Cancel` or `AlertOnly`.
    pub(super) on_timeout: String,
    /// Whether it has run for longer than is expected of it.
    pub(super) long_running: bool,
    /// Why it is stale, for example `DeadlineExceeded`; null: it is not.
    pub(super) stale: Option<String>,
}

/// Which executions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only of this store: `namespace/name`.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "default/jobs")]
    store: Option<StoreName>,
    /// Only of this job.
    #[param(example = "21")]
    job: Option<String>,
    /// Only those that began so long ago or longer, for example `1h30m`.
    #[param(value_type = Option<String>, pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$", example = "1h")]
    older_than: Option<Duration>,
    /// Only those that are stale.
    stale: Option<bool>,
    /// How many at most.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u32>,
    /// `next` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
}

/// The executions that run, the longest first.
///
/// Takes the right to list jobexecutions in the namespace of the store; without a store in the namespaces of all stores.
#[utoipa::path(
    get, path = "/api/system/executions/running", tag = "system", params(Wanted),
    responses(
        Problems,
        (status = 200, description = "A page of them.", body = Page, links(
            ("next" = (operation_id = "running", parameters(("cursor" = "$response.body#/next")))))),
    ),
)]
pub(super) async fn running(
    caller: Caller,
    State(app): State<Arc<App>>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page>, Problem> {
    let stores = app.seen_by(&caller, wanted.store.clone()).await?;
    Ok(Json(page(&stores, &wanted).await?))
}

impl Wanted {
    /// The longest list that is asked for so.
    pub(super) fn at_most(limit: u32) -> Self {
        Self { limit: Some(limit), ..Self::default() }
    }
}

/// What is wanted of these stores.
pub(super) async fn page(stores: &[Store], wanted: &Wanted) -> Result<Page, Problem> {
    let pages::Page { rows: executions, next, unavailable } = pages::page(stores, wanted).await?;
    Ok(Page { executions, next, unavailable })
}

impl List for Wanted {
    /// Those without a start come last.
    type Key = (bool, Option<DateTime<Utc>>);
    type Row = RunningExecution;

    fn asked(&self) -> (Option<u32>, Option<&str>) {
        (self.limit, self.cursor.as_deref())
    }

    async fn part(
        &self,
        store: &Store,
        place: Option<&str>,
        limit: u32,
    ) -> Result<Rows<Self::Key, RunningExecution>, Problem> {
        let after = place.map(str::parse::<listed::Cursor>).transpose().map_err(|_| pages::unknown())?;
        let open = store.open().await?;
        // A text that can be no job's id.
        let Some(filter) = filter(&open, self) else { return Ok(Rows::none()) };
        let (database, judge) = (&open.session.database, open.session.judge(&open.in_force));
        let _reading = open.session.reading.lock().await;
        let page = database.within(listed::page(database, &judge, &filter, after.as_ref(), limit)).await;
        let page = page.map_err(|error| match error {
            // A value that is none of the column's type can only be from there.
            DbError::Statement(_, ref code) if place.is_some() && code.starts_with("22") => pages::unknown(),
            error => open.failed(error),
        })?;
        let row = |execution: listed::Execution| {
            let place = execution.place.as_ref().map(ToString::to_string)?;
            let key = (execution.started_at.is_none(), execution.started_at);
            Some((key, place, RunningExecution::of(&store.name, execution)))
        };
        let rows = page.executions.into_iter().filter_map(row).collect();
        Ok(Rows { rows, next: page.next.map(|next| next.to_string()) })
    }
}

fn filter(open: &Open, wanted: &Wanted) -> Option<Filter> {
    let job_id = match &wanted.job {
        Some(job) => Some(open.job(job)?),
        None => None,
    };
    Some(Filter {
        which: if wanted.stale.unwrap_or_default() { Which::Stale } else { Which::Running },
        older_than: wanted.older_than.as_ref().map(Duration::to_chrono),
        job_id,
    })
}

impl RunningExecution {
    fn of(store: &StoreName, execution: listed::Execution) -> Self {
        Self {
            store: store.to_string(),
            id: execution.id,
            job_id: execution.job_id,
            job_type: execution.job_type,
            execution_number: execution.execution_number,
            started_at: execution.started_at,
            runtime_seconds: execution.runtime_seconds,
            timeout_seconds: execution.timeout_seconds,
            timeout_source: execution.timeout_source,
            extended_by_seconds: execution.extended_by_seconds,
            extend_source: execution.extend_source,
            deadline: execution.deadline,
            on_timeout: execution.on_timeout,
            long_running: execution.long_running,
            stale: execution.reason,
        }
    }
}
