//! `GET /api/system/executions`, and the pages that `running` gives too.

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
use super::phase;
use super::problem::Problem;
use super::stores::{Open, Store, StoreName, Unavailable};
use crate::api::{Duration, Phase};
use crate::db::DbError;
use crate::db::running::{self as listed, Filter};

/// A page of executions.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = Executions)]
pub(crate) struct Page {
    /// The executions, the longest running first, or of all the latest start first; those without a start last.
    pub(crate) executions: Vec<Listed>,
    /// To be given as `cursor` for the next page; null: this is the last one.
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
    /// The row's id.
    pub(super) id: String,
    /// Its job.
    pub(super) job_id: Option<String>,
    /// The type of the job, where that is known.
    pub(super) job_type: Option<String>,
    /// Its number within the job.
    pub(super) execution_number: Option<i64>,
    /// The status as the table has it.
    pub(super) status: String,
    /// Where it stands: `scheduled`, `running`, `paused`, `completed`, `failed`, `cancelled`, `ignored`, or
    /// `unmapped`.
    #[serde(with = "phase")]
    #[schema(value_type = String, example = "running")]
    pub(super) phase: Phase,
    /// When it started.
    pub(super) started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub(super) completed_at: Option<DateTime<Utc>>,
    /// How long it has run, or ran, in seconds.
    pub(super) runtime_seconds: Option<f64>,
    /// How long it may run, in seconds, the grace period and an extension apart.
    pub(super) timeout_seconds: f64,
    /// The object that says so.
    pub(super) timeout_source: String,
    /// What is added to that, in seconds.
    pub(super) extended_by_seconds: f64,
    /// The object that says so.
    pub(super) extend_source: Option<String>,
    /// When it is past its deadline; of one that has ended, what was recorded.
    pub(super) deadline: Option<DateTime<Utc>>,
    /// What becomes of it once it is stale: `Fail`, `Cancel` or `AlertOnly`.
    pub(super) on_stale: String,
    /// Whether it has run for longer than is expected of it.
    pub(super) long_running: bool,
    /// Why it is stale, for example `DeadlineExceeded`; null: it is not.
    pub(super) stale: Option<String>,
    /// The same, or why it was ended, where that is recorded.
    pub(super) reason: Option<String>,
    /// The object that says so.
    pub(super) source: Option<String>,
    /// What governs it beside the store's default: `Governed` (its timeout), `Extended` or `AlertOnly`.
    pub(super) governed: Option<String>,
    /// What it is suspected of without being stale, for example `JobFinished`: only a person has it ended for that, with
    /// `reason` of the clean-up.
    #[serde(default)]
    pub(super) suspected: Option<String>,
}

/// Which executions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Which {
    /// Those that run, the longest first.
    #[default]
    Running,
    /// Those that run past their deadline, the longest first.
    Overdue,
    /// Those that are stale by any evidence, the longest first.
    Stale,
    /// All, whatever their status: the latest start first, then those without a start.
    All,
}

/// Which executions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only of this store: `namespace/name`.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "default/jobs")]
    pub(super) store: Option<StoreName>,
    /// Only of this job.
    #[param(example = "21")]
    pub(super) job: Option<String>,
    /// Only those that began so long ago or longer, for example `1h30m`.
    #[param(value_type = Option<String>, pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$", example = "1h")]
    pub(super) older_than: Option<Duration>,
    /// Which of them: those that run, unless something else is said. `all` reads the whole table where its start has no
    /// index.
    #[param(inline)]
    pub(super) which: Option<Which>,
    /// How many at most.
    #[param(minimum = 1, maximum = 500, default = 100)]
    pub(super) limit: Option<u32>,
    /// `next` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]+$")]
    pub(super) cursor: Option<String>,
}

/// Executions, by default those that run.
///
/// Takes the right to list jobexecutions in the namespace of the store; without a store in the namespaces of all stores.
#[utoipa::path(
    get, path = "/api/system/executions", tag = "system", params(Wanted),
    responses(
        Problems,
        (status = 200, description = "A page of them.", body = Page, links(
            ("next" = (operation_id = "executions", parameters(("cursor" = "$response.body#/next")))))),
    ),
)]
pub(super) async fn executions(
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

/// Those without a start come last; before them is what an earlier moment, or of all executions a later one, puts first.
type Key = (bool, i64);

fn key(which: Which, started_at: Option<DateTime<Utc>>) -> Key {
    let micros = started_at.map_or(0, |at| at.timestamp_micros());
    (started_at.is_none(), if which == Which::All { micros.saturating_neg() } else { micros })
}

impl List for Wanted {
    type Key = Key;
    type Row = Listed;

    fn asked(&self) -> (Option<u32>, Option<&str>) {
        (self.limit, self.cursor.as_deref())
    }

    async fn part(
        &self,
        store: &Store,
        place: Option<&str>,
        limit: u32,
    ) -> Result<Rows<Key, Listed>, Problem> {
        let after = place.map(str::parse::<listed::Cursor>).transpose().map_err(|_| pages::unknown())?;
        let open = store.open().await?;
        // A text that can be no job's id here.
        let Some(filter) = filter(&open, self)? else { return Ok(Rows::none()) };
        let (database, judge) = (&open.session.database, open.session.judge(&open.in_force));
        let _reading = open.turn().await?;
        let page = database.within(listed::page(database, &judge, &filter, after.as_ref(), limit)).await;
        let page = page.map_err(|error| match error {
            // A value that is none of the column's type can only be from there.
            DbError::Statement(_, ref code) if place.is_some() && code.starts_with("22") => pages::unknown(),
            error => open.failed(error),
        })?;
        let row = |execution: listed::Execution| {
            let place = execution.place.as_ref().map(ToString::to_string)?;
            let key = key(self.which.unwrap_or_default(), execution.started_at);
            Some((key, place, Listed::of(&store.name, execution)))
        };
        let rows = page.executions.into_iter().filter_map(row).collect();
        Ok(Rows { rows, next: page.next.map(|next| next.to_string()) })
    }
}

/// What to look for in one store; `None`: there can be nothing.
fn filter(open: &Open, wanted: &Wanted) -> Result<Option<Filter>, Problem> {
    let job_id = match &wanted.job {
        Some(job) => match open.job_of(job, wanted.store.is_some())? {
            None => return Ok(None),
            job => job,
        },
        None => None,
    };
    Ok(Some(Filter {
        which: wanted.which.unwrap_or_default().into(),
        older_than: wanted.older_than.as_ref().map(Duration::to_chrono),
        job_id,
    }))
}

impl From<Which> for listed::Which {
    fn from(which: Which) -> Self {
        match which {
            Which::Running => Self::Running,
            Which::Overdue => Self::Overdue,
            Which::Stale => Self::Stale,
            Which::All => Self::All,
        }
    }
}

impl Listed {
    fn of(store: &StoreName, execution: listed::Execution) -> Self {
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

/// What a client makes of it.
impl From<Listed> for listed::Execution {
    fn from(told: Listed) -> Self {
        Self {
            id: told.id,
            job_id: told.job_id,
            job_type: told.job_type,
            execution_number: told.execution_number,
            status: told.status,
            phase: told.phase,
            started_at: told.started_at,
            completed_at: told.completed_at,
            runtime_seconds: told.runtime_seconds,
            timeout_seconds: told.timeout_seconds,
            timeout_source: told.timeout_source,
            extended_by_seconds: told.extended_by_seconds,
            extend_source: told.extend_source,
            deadline: told.deadline,
            on_stale: told.on_stale,
            long_running: told.long_running,
            reason: told.reason,
            source: told.source,
            governed: told.governed,
            suspected: told.suspected,
            place: None,
            action: None,
        }
    }
}
