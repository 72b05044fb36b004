//! `GET /api/system/history`

use std::cmp::Reverse;
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
use crate::db::Ledger;
use crate::db::audit::{self, Filter};

/// A page of what was done.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = History)]
pub(crate) struct Page {
    /// What was done, the latest first.
    pub(crate) events: Vec<Event>,
    /// To be given as `cursor` for the next page; null: this is the last one.
    pub(crate) next: Option<String>,
    /// The stores whose history could not be read, and why.
    pub(super) unavailable: Vec<Unavailable>,
}

/// Something that was done to an execution, or told of it.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct Event {
    /// The store: `namespace/name`.
    pub(super) store: String,
    /// Its place in the records of the database: a later one has a larger one.
    #[serde(rename = "event_id")]
    pub(super) place: i64,
    /// When, by the database's clock.
    pub(super) at: DateTime<Utc>,
    /// To which execution.
    pub(super) execution_id: String,
    /// Its job, where that was recorded.
    pub(super) job_id: Option<String>,
    /// Its number within the job.
    pub(super) execution_number: Option<i64>,
    /// What: `Failed`, `Cancelled`, `Warned`, `Alerted`, `DeadlineMoved`, `StartedAgain`.
    pub(super) action: String,
    /// Why, for example `DeadlineExceeded`.
    pub(super) reason: String,
    /// The object that says so, or through what a person asked, for example `HttpApi`.
    pub(super) source: String,
    /// Who asked for it, as far as that is known.
    pub(super) actor: Option<String>,
    /// What else is to be said.
    pub(super) note: Option<String>,
    /// When the execution had started.
    pub(super) started_at: Option<DateTime<Utc>>,
    /// What its deadline was.
    pub(super) deadline: Option<DateTime<Utc>>,
}

/// What to tell of.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only of this store: `namespace/name`.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "default/jobs")]
    store: Option<StoreName>,
    /// Only of executions of this job.
    #[param(example = "21")]
    job: Option<String>,
    /// Only of the execution with this id.
    #[param(example = "39")]
    id: Option<String>,
    /// Only what was done within so long, for example `24h`.
    #[param(value_type = Option<String>, pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$", example = "24h")]
    since: Option<Duration>,
    /// How many at most.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u32>,
    /// `next` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
}

/// What was done to executions, when, why and by whom.
///
/// Takes the right to list jobexecutions in the namespace of the store; without a store in the namespaces of all stores.
#[utoipa::path(
    get, path = "/api/system/history", tag = "system", params(Wanted),
    responses(
        Problems,
        (status = 200, description = "A page of it.", body = Page, links(
            ("next" = (operation_id = "history", parameters(("cursor" = "$response.body#/next")))))),
    ),
)]
pub(super) async fn history(
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
    let pages::Page { rows: events, next, unavailable } = pages::page(stores, wanted).await?;
    Ok(Page { events, next, unavailable })
}

impl List for Wanted {
    /// The latest first.
    type Key = Reverse<DateTime<Utc>>;
    type Row = Event;

    fn asked(&self) -> (Option<u32>, Option<&str>) {
        (self.limit, self.cursor.as_deref())
    }

    async fn part(
        &self,
        store: &Store,
        place: Option<&str>,
        limit: u32,
    ) -> Result<Rows<Self::Key, Event>, Problem> {
        let before = place.map(str::parse::<i64>).transpose().map_err(|_| pages::unknown())?;
        let open = store.open().await?;
        let Ledger::Tables { store_id, .. } = open.session.ledger else {
            return Err(Problem::NothingRecorded(store.name.to_string()));
        };
        // A text that can be no id here is in no record.
        let Some(filter) = filter(&open, self, before)? else { return Ok(Rows::none()) };
        let database = &open.session.database;
        let _reading = open.turn().await?;
        let entries = database.within(audit::history(database, store_id, &filter, limit)).await;
        let entries = entries.map_err(|error| open.failed(error))?;
        let full = entries.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        let next = entries.last().filter(|_| full).map(|entry| entry.event_id.to_string());
        let row = |entry: audit::Entry| {
            (Reverse(entry.at), entry.event_id.to_string(), Event::of(&store.name, entry))
        };
        Ok(Rows { rows: entries.into_iter().map(row).collect(), next })
    }
}

/// What to look for in one store; `None`: there can be nothing. Who has named the store is told why.
fn filter(open: &Open, wanted: &Wanted, before: Option<i64>) -> Result<Option<Filter>, Problem> {
    let named = wanted.store.is_some();
    let job_id = match &wanted.job {
        Some(job) => match open.job_of(job, named)? {
            None => return Ok(None),
            job => job,
        },
        None => None,
    };
    let execution_id = match &wanted.id {
        Some(id) => match open.id(id) {
            Err(problem) if named => return Err(problem),
            Err(_) => return Ok(None),
            Ok(id) => Some(id),
        },
        None => None,
    };
    let since = wanted.since.as_ref().map(Duration::to_chrono);
    Ok(Some(Filter { execution_id, job_id, since, before }))
}

impl Event {
    fn of(store: &StoreName, entry: audit::Entry) -> Self {
        Self {
            store: store.to_string(),
            place: entry.event_id,
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

/// What a client makes of it.
impl From<Event> for audit::Entry {
    fn from(told: Event) -> Self {
        Self {
            event_id: told.place,
            at: told.at,
            execution_id: told.execution_id,
            job_id: told.job_id,
            execution_number: told.execution_number,
            action: told.action,
            reason: told.reason,
            source: told.source,
            actor: told.actor,
            note: told.note,
            started_at: told.started_at,
            deadline: told.deadline,
        }
    }
}
