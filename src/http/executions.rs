//! `GET /api/system/executions`, and the pages that `running` also returns.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::app::App;
use super::auth::Caller;
use super::duration_schema::DurationSchema;
use super::extract::Query;
use super::openapi::Problems;
use super::pagination::{self, List, Rows};
use super::phase;
use super::problem::Problem;
use super::stores::{OpenStore, Store, StoreName, Unavailable};
use crate::api::{Duration, Phase};
use crate::db::DbError;
use crate::db::running::{self as db_executions, Filter as DbFilter};

/// A page of executions.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = Executions)]
pub(crate) struct Page {
    /// The executions, the longest running first; with `which=all`, the latest start first. Those without a start are
    /// last.
    pub(crate) executions: Vec<Listed>,
    /// The `cursor` of the next page; null on the last page.
    pub(crate) next: Option<String>,
    /// The stores whose executions could not be listed, and why.
    pub(super) unavailable: Vec<Unavailable>,
}

/// An execution.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = Execution)]
pub(crate) struct Listed {
    /// The store: `namespace/name`.
    pub(super) store: String,
    /// The id of the row.
    pub(super) id: String,
    /// The id of the job.
    pub(super) job_id: Option<String>,
    /// The type of the job, if known.
    pub(super) job_type: Option<String>,
    /// The number of the execution within its job.
    pub(super) execution_number: Option<i64>,
    /// The status in the table.
    pub(super) status: String,
    /// The phase: `scheduled`, `running`, `paused`, `completed`, `failed`, `cancelled`, `ignored`, or `unmapped`.
    #[serde(with = "phase")]
    #[schema(value_type = String, example = "running")]
    pub(super) phase: Phase,
    /// The time of its start.
    pub(super) started_at: Option<DateTime<Utc>>,
    /// The time of its end.
    pub(super) completed_at: Option<DateTime<Utc>>,
    /// Its runtime so far or until its end, in seconds.
    pub(super) runtime_seconds: Option<f64>,
    /// Its timeout, in seconds, without the grace period and extensions; null if the timeout is `Never`.
    pub(super) timeout_seconds: Option<f64>,
    /// The object that sets the timeout, or the column of the row.
    pub(super) timeout_source: String,
    /// The extension of the timeout, in seconds.
    pub(super) extended_by_seconds: f64,
    /// The object that extends the timeout.
    pub(super) extend_source: Option<String>,
    /// The time at which it becomes overdue; for an ended execution, as recorded. Null while the timeout of a running
    /// execution is `Never`.
    pub(super) deadline: Option<DateTime<Utc>>,
    /// The action once it is stale: `Fail`, `Cancel` or `AlertOnly`.
    pub(super) on_stale: String,
    /// Whether it has run for longer than expected.
    pub(super) long_running: bool,
    /// Why it is stale, for example `DeadlineExceeded`; null if it is not stale.
    pub(super) stale: Option<String>,
    /// Why it is stale, or was ended, if that is recorded.
    pub(super) reason: Option<String>,
    /// The object that decided it.
    pub(super) source: Option<String>,
    /// The kind of rule that governs it instead of the store's defaults: `Governed` (its timeout), `Extended` or
    /// `AlertOnly`.
    pub(super) governed: Option<String>,
    /// The reason for which it is only suspected, for example `JobFinished`. The operator does not end it; a clean-up
    /// with this `reason` does.
    #[serde(default)]
    pub(super) suspected: Option<String>,
}

/// Selects executions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Filter {
    /// Running executions, the longest running first.
    #[default]
    Running,
    /// Running executions that are past their deadline, the longest running first.
    Overdue,
    /// Stale executions, by any evidence, the longest running first.
    Stale,
    /// All executions of any status: the latest start first, then those without a start.
    All,
}

/// The parameters of the request.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Params {
    /// Only this store: `namespace/name`.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "default/jobs")]
    pub(super) store: Option<StoreName>,
    /// Only this job.
    #[param(example = "21")]
    pub(super) job: Option<String>,
    /// Only executions that started at least this long ago, for example `1h30m`.
    #[param(value_type = Option<DurationSchema>, inline)]
    pub(super) older_than: Option<Duration>,
    /// The executions to list, by default the running ones. `all` reads the whole table if its start column has no
    /// index.
    #[param(inline)]
    pub(super) which: Option<Filter>,
    /// The maximum number of executions.
    #[param(minimum = 1, maximum = 500, default = 100)]
    pub(super) limit: Option<u32>,
    /// `next` of the previous page.
    #[param(pattern = "^[A-Za-z0-9_-]+$")]
    pub(super) cursor: Option<String>,
}

/// Lists executions, by default the running ones.
///
/// Requires the right to list jobexecutions in the namespace of the store, or, without `store`, in the namespaces of
/// all stores.
#[utoipa::path(
    get, path = "/api/system/executions", tag = "system", params(Params),
    responses(
        Problems,
        (status = 200, description = "A page of executions.", body = Page, links(
            ("next" = (operation_id = "executions", parameters(("cursor" = "$response.body#/next")))))),
    ),
)]
pub(super) async fn executions(
    caller: Caller,
    State(app): State<Arc<App>>,
    Query(params): Query<Params>,
) -> Result<Json<Page>, Problem> {
    let stores = app.readable_stores(&caller, params.store.clone()).await?;
    Ok(Json(page(&stores, &params).await?))
}

impl Params {
    /// Returns the parameters for the first `limit` executions.
    pub(super) fn at_most(limit: u32) -> Self {
        Self { limit: Some(limit), ..Self::default() }
    }
}

/// Lists executions of these stores.
pub(super) async fn page(stores: &[Store], params: &Params) -> Result<Page, Problem> {
    let pagination::Page { rows: executions, next, unavailable } = pagination::page(stores, params).await?;
    Ok(Page { executions, next, unavailable })
}

/// The sort key: whether the start is unknown, then the start in microseconds, negated if the latest start is first.
type Key = (bool, i64);

fn key(which: Filter, started_at: Option<DateTime<Utc>>) -> Key {
    let micros = started_at.map_or(0, |at| at.timestamp_micros());
    (started_at.is_none(), if which == Filter::All { micros.saturating_neg() } else { micros })
}

impl List for Params {
    type Key = Key;
    type Row = Listed;

    fn limit_and_cursor(&self) -> (Option<u32>, Option<&str>) {
        (self.limit, self.cursor.as_deref())
    }

    async fn fetch(
        &self,
        store: &Store,
        position: Option<&str>,
        limit: u32,
    ) -> Result<Rows<Key, Listed>, Problem> {
        let after = position
            .map(str::parse::<db_executions::Cursor>)
            .transpose()
            .map_err(|_| pagination::invalid_cursor())?;
        let open = store.open().await?;
        // No job of this store can have that id.
        let Some(filter) = filter(&open, self)? else { return Ok(Rows::empty()) };
        let (database, predicate) = (&open.session.database, open.session.predicate(&open.effective_rules));
        let _permit = open.read_permit().await?;
        let page =
            database.within(db_executions::page(database, &predicate, &filter, after.as_ref(), limit)).await;
        let page = page.map_err(|error| match error {
            // Only an invalid cursor contains a value that does not fit the column's type.
            DbError::Statement(_, ref code) if position.is_some() && code.starts_with("22") => {
                pagination::invalid_cursor()
            }
            error => open.failed(error),
        })?;
        let row = |execution: db_executions::Execution| {
            let position = execution.place.as_ref().map(ToString::to_string)?;
            let key = key(self.which.unwrap_or_default(), execution.started_at);
            Some((key, position, Listed::of(&store.name, execution)))
        };
        let rows = page.executions.into_iter().filter_map(row).collect();
        Ok(Rows { rows, next: page.next.map(|next| next.to_string()) })
    }
}

/// Returns the filter for one store, or `None` if no execution can match.
fn filter(open: &OpenStore, params: &Params) -> Result<Option<DbFilter>, Problem> {
    let job_id = match &params.job {
        Some(job) => match open.canonical_job_id(job, params.store.is_some())? {
            None => return Ok(None),
            job => job,
        },
        None => None,
    };
    Ok(Some(DbFilter {
        which: params.which.unwrap_or_default().into(),
        older_than: params.older_than.as_ref().map(Duration::to_chrono),
        job_id,
    }))
}

impl From<Filter> for db_executions::Which {
    fn from(which: Filter) -> Self {
        match which {
            Filter::Running => Self::Running,
            Filter::Overdue => Self::Overdue,
            Filter::Stale => Self::Stale,
            Filter::All => Self::All,
        }
    }
}

impl Listed {
    fn of(store: &StoreName, execution: db_executions::Execution) -> Self {
        let running = execution.phase == Phase::Running;
        Self {
            store: store.to_string(),
            id: execution.id,
            job_id: execution.job_id,
            job_type: execution.job_type,
            execution_number: execution.execution_number,
            status: execution.status,
            phase: execution.phase,
            started_at: execution.started_at,
            completed_at: execution.completed_at,
            runtime_seconds: execution.runtime_seconds,
            timeout_seconds: execution.timeout_seconds,
            timeout_source: execution.timeout_source,
            extended_by_seconds: execution.extended_by_seconds,
            extend_source: execution.extend_source,
            deadline: execution.deadline,
            on_stale: execution.on_stale,
            long_running: execution.long_running,
            stale: execution.reason.clone().filter(|_| running),
            reason: execution.reason,
            source: execution.source,
            governed: execution.governed,
            suspected: execution.suspected,
        }
    }
}

/// The conversion in clients.
impl From<Listed> for db_executions::Execution {
    fn from(execution: Listed) -> Self {
        Self {
            id: execution.id,
            job_id: execution.job_id,
            job_type: execution.job_type,
            execution_number: execution.execution_number,
            status: execution.status,
            phase: execution.phase,
            started_at: execution.started_at,
            completed_at: execution.completed_at,
            runtime_seconds: execution.runtime_seconds,
            timeout_seconds: execution.timeout_seconds,
            timeout_source: execution.timeout_source,
            extended_by_seconds: execution.extended_by_seconds,
            extend_source: execution.extend_source,
            deadline: execution.deadline,
            on_stale: execution.on_stale,
            long_running: execution.long_running,
            reason: execution.reason,
            source: execution.source,
            governed: execution.governed,
            suspected: execution.suspected,
            place: None,
            action: None,
        }
    }
}
