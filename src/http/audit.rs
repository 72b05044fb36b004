//! `GET /api/system/history`: the audit log.

use std::cmp::Reverse;
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
use super::problem::Problem;
use super::stores::{OpenStore, Store, StoreName, Unavailable};
use crate::api::Duration;
use crate::db::Ledger;
use crate::db::audit::{self, Filter};

/// A page of the audit log.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = History)]
pub(crate) struct Page {
    /// The actions, the latest first.
    pub(crate) events: Vec<AuditRecord>,
    /// The `cursor` of the next page; null on the last page.
    pub(crate) next: Option<String>,
    /// The stores whose audit log could not be read, and why.
    pub(super) unavailable: Vec<Unavailable>,
}

/// An action on an execution, or a notification about it.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = Event)]
pub(crate) struct AuditRecord {
    /// The store: `namespace/name`.
    pub(super) store: String,
    /// The id of the record within its database; later records have larger ids.
    pub(super) event_id: i64,
    /// The time of the action, by the database's clock.
    pub(super) at: DateTime<Utc>,
    /// The id of the execution.
    pub(super) execution_id: String,
    /// The id of the job, if recorded.
    pub(super) job_id: Option<String>,
    /// The number of the execution within its job.
    pub(super) execution_number: Option<i64>,
    /// The action: `Failed`, `Cancelled`, `Warned`, `Alerted`, `DeadlineMoved`, `StartedAgain`.
    pub(super) action: String,
    /// The reason, for example `DeadlineExceeded`.
    pub(super) reason: String,
    /// The object that decided it, or the interface that a user used, for example `HttpApi`.
    pub(super) source: String,
    /// The user who requested it, if known.
    pub(super) actor: Option<String>,
    /// Further details.
    pub(super) note: Option<String>,
    /// The start of the execution at that time.
    pub(super) started_at: Option<DateTime<Utc>>,
    /// The deadline of the execution at that time.
    pub(super) deadline: Option<DateTime<Utc>>,
}

/// The parameters of the request.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Params {
    /// Only this store: `namespace/name`.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "default/jobs")]
    store: Option<StoreName>,
    /// Only executions of this job.
    #[param(example = "21")]
    job: Option<String>,
    /// Only the execution with this id.
    #[param(example = "39")]
    id: Option<String>,
    /// Only actions within this time, for example `24h`.
    #[param(value_type = Option<DurationSchema>, inline)]
    since: Option<Duration>,
    /// The maximum number of actions.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u32>,
    /// `next` of the previous page.
    #[param(pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
}

/// Lists actions on executions, with time, reason and actor.
///
/// Requires the right to list jobexecutions in the namespace of the store, or, without `store`, in the namespaces of
/// all stores.
#[utoipa::path(
    get, path = "/api/system/history", tag = "system", params(Params),
    responses(
        Problems,
        (status = 200, description = "A page of actions.", body = Page, links(
            ("next" = (operation_id = "history", parameters(("cursor" = "$response.body#/next")))))),
    ),
)]
pub(super) async fn history(
    caller: Caller,
    State(app): State<Arc<App>>,
    Query(params): Query<Params>,
) -> Result<Json<Page>, Problem> {
    let stores = app.readable_stores(&caller, params.store.clone()).await?;
    Ok(Json(page(&stores, &params).await?))
}

impl Params {
    /// Returns the parameters for the latest `limit` actions.
    pub(super) fn at_most(limit: u32) -> Self {
        Self { limit: Some(limit), ..Self::default() }
    }
}

/// Lists actions in these stores.
pub(super) async fn page(stores: &[Store], params: &Params) -> Result<Page, Problem> {
    let pagination::Page { rows: events, next, unavailable } = pagination::page(stores, params).await?;
    Ok(Page { events, next, unavailable })
}

impl List for Params {
    /// The latest first.
    type Key = Reverse<DateTime<Utc>>;
    type Row = AuditRecord;

    fn limit_and_cursor(&self) -> (Option<u32>, Option<&str>) {
        (self.limit, self.cursor.as_deref())
    }

    async fn fetch(
        &self,
        store: &Store,
        position: Option<&str>,
        limit: u32,
    ) -> Result<Rows<Self::Key, AuditRecord>, Problem> {
        let before = position.map(str::parse::<i64>).transpose().map_err(|_| pagination::invalid_cursor())?;
        let open = store.open().await?;
        let Ledger::Tables { store_id, .. } = open.session.ledger else {
            return Err(Problem::NothingRecorded(store.name.to_string()));
        };
        // No record can have an id that the table cannot hold.
        let Some(filter) = filter(&open, self, before)? else { return Ok(Rows::empty()) };
        let database = &open.session.database;
        let _permit = open.read_permit().await?;
        let entries = database.within(audit::history(database, store_id, &filter, limit)).await;
        let entries = entries.map_err(|error| open.failed(error))?;
        let full = entries.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        let next = entries.last().filter(|_| full).map(|entry| entry.event_id.to_string());
        let row = |entry: audit::Entry| {
            (Reverse(entry.at), entry.event_id.to_string(), AuditRecord::of(&store.name, entry))
        };
        Ok(Rows { rows: entries.into_iter().map(row).collect(), next })
    }
}

/// Returns the filter for one store, or `None` if no record can match. If the request names the store, an invalid id
/// is an error.
fn filter(open: &OpenStore, params: &Params, before: Option<i64>) -> Result<Option<Filter>, Problem> {
    let named = params.store.is_some();
    let job_id = match &params.job {
        Some(job) => match open.canonical_job_id(job, named)? {
            None => return Ok(None),
            job => job,
        },
        None => None,
    };
    let execution_id = match &params.id {
        Some(id) => match open.canonical_id(id) {
            Err(problem) if named => return Err(problem),
            Err(_) => return Ok(None),
            Ok(id) => Some(id),
        },
        None => None,
    };
    let since = params.since.as_ref().map(Duration::to_chrono);
    Ok(Some(Filter { execution_id, job_id, since, before }))
}

impl AuditRecord {
    fn of(store: &StoreName, entry: audit::Entry) -> Self {
        Self {
            store: store.to_string(),
            event_id: entry.event_id,
            at: entry.at,
            execution_id: entry.execution_id,
            job_id: entry.job_id,
            execution_number: entry.execution_number,
            action: entry.action,
            reason: entry.reason,
            source: entry.source,
            actor: entry.actor,
            note: entry.note,
            started_at: entry.started_at,
            deadline: entry.deadline,
        }
    }
}

/// The conversion in clients.
impl From<AuditRecord> for audit::Entry {
    fn from(record: AuditRecord) -> Self {
        Self {
            event_id: record.event_id,
            at: record.at,
            execution_id: record.execution_id,
            job_id: record.job_id,
            execution_number: record.execution_number,
            action: record.action,
            reason: record.reason,
            source: record.source,
            actor: record.actor,
            note: record.note,
            started_at: record.started_at,
            deadline: record.deadline,
        }
    }
}
