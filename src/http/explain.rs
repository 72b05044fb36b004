//! `GET /api/system/executions/{namespace}/{store}/{id}/explain`

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::app::App;
use super::auth::Caller;
use super::documented::Problems;
use super::extract::{Path, Query};
use super::phase;
use super::problem::Problem;
use super::stores::{Open, StoreName};
use crate::api::Phase;
use crate::db::explain::{self as told, Explanation as Told, Record};
use crate::db::judge::Reason;

/// Why an execution is stale, or is not.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct Explanation {
    /// The store: `namespace/name`.
    store: String,
    /// The row's id.
    id: String,
    /// Its job.
    job_id: Option<String>,
    /// The type of the job, where that is known.
    job_type: Option<String>,
    /// Its number within the job.
    execution_number: Option<i64>,
    /// The status as the table has it.
    status: String,
    /// Where it stands: `scheduled`, `running`, `paused`, `completed`, `failed`, `cancelled`, `ignored`, or
    /// `unmapped`.
    #[serde(with = "phase")]
    #[schema(value_type = String, example = "running")]
    phase: Phase,
    /// When the row was made, where that is mapped.
    created_at: Option<DateTime<Utc>>,
    /// When it started.
    started_at: Option<DateTime<Utc>>,
    /// When it ended.
    completed_at: Option<DateTime<Utc>>,
    /// From when its time counts: the later of its start and its creation, and without a start not before it was first seen
    /// running in the present version of its row; null: it has no start, and was not seen running in that version.
    counts_from: Option<DateTime<Utc>>,
    /// How long it has run, or ran, in seconds.
    runtime_seconds: Option<f64>,
    /// What every rule says that could govern it, for each field the most specific first.
    rules: Vec<Rule>,
    /// When it is past its deadline.
    deadline: Option<DateTime<Utc>>,
    /// The evidence of death that the store knows beside the deadline.
    evidence: Vec<Evidence>,
    /// Why it is stale; null: it is not.
    stale: Option<String>,
    /// What the operator does about it: `Fail`, `Cancel` or `AlertOnly`; null: it is not stale.
    stale_action: Option<String>,
    /// When it will be stale if nothing changes, and why; null: never, or it has ended.
    stale_at: Option<Outlook>,
    /// What the operator does once it is stale: `Fail`, `Cancel` or `AlertOnly`.
    on_stale: String,
    /// What is recorded of it, the latest last.
    records: Vec<Recorded>,
    /// The moment of all this, by the database's clock.
    timestamp: DateTime<Utc>,
}

/// What one rule says of one field.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct Rule {
    /// The field, as specs call it.
    field: Cow<'static, str>,
    /// What it says.
    value: String,
    /// The object that says so, for example `ExecutionPolicy/nightly`.
    source: String,
    /// Whether it counts.
    counts: bool,
    /// Why it does, or does not.
    why: Cow<'static, str>,
}

/// Evidence of death.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct Evidence {
    /// Of what, for example `HeartbeatLost`.
    #[schema(value_type = String)]
    reason: Reason,
    /// What is seen.
    seen: String,
    /// From when on the execution is stale by it, if nothing changes.
    stale_at: Option<DateTime<Utc>>,
}

/// What happens if nothing changes.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct Outlook {
    /// When.
    at: DateTime<Utc>,
    /// Why.
    #[schema(value_type = String)]
    reason: Reason,
}

/// Something that was done to an execution, or told of it.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = Record)]
struct Recorded {
    /// When.
    at: DateTime<Utc>,
    /// What, for example `Failed`.
    action: String,
    /// Why.
    reason: String,
    /// The object that says so.
    source: String,
    /// Who asked for it, as far as that is known.
    actor: Option<String>,
    /// What else is to be said.
    note: Option<String>,
}

/// Which execution.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct Which {
    /// The namespace of the store.
    #[param(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", example = "default")]
    namespace: String,
    /// The name of the store.
    #[param(pattern = "^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "jobs")]
    store: String,
    /// The row's id. One that the column of the table cannot hold is told `InvalidExecutionId`.
    #[param(example = "39")]
    id: String,
}

/// Nothing: a parameter is a mistake.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Why an execution is stale, or is not, and what happens next.
///
/// Takes the right to list jobexecutions in the namespace of the store.
#[utoipa::path(
    get, path = "/api/system/executions/{namespace}/{store}/{id}/explain", tag = "system", params(Which),
    responses(Problems, (status = 200, description = "All that is known of it.", body = Explanation)),
)]
pub(super) async fn explain(
    caller: Caller,
    State(app): State<Arc<App>>,
    Path(which): Path<Which>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Explanation>, Problem> {
    let name = StoreName::try_from(format!("{}/{}", which.namespace, which.store))
        .map_err(Problem::InvalidParameter)?;
    let store = app.one_seen_by(&caller, &name).await?;
    Ok(Json(store.open().await?.explain(&which.id).await?))
}

impl Open {
    /// The id in the words of the table.
    pub(super) fn id(&self, id: &str) -> Result<String, Problem> {
        let id_type = self.session.mapping.id_type();
        let invalid =
            || Problem::InvalidExecutionId { id: id.chars().take(100).collect(), type_: id_type.sql() };
        id_type.canonical(id).ok_or_else(invalid)
    }

    async fn explain(&self, id: &str) -> Result<Explanation, Problem> {
        let id = self.id(id)?;
        let judge = self.session.judge(&self.in_force);
        let database = &self.session.database;
        let _reading = self.turn().await?;
        let found =
            database.within(told::explain(database, &judge, &id)).await.map_err(|e| self.failed(e))?;
        let Some(found) = found else {
            let outside = database.within(told::outside(database, &judge, &id)).await;
            let outside = outside.map_err(|e| self.failed(e))?;
            return Err(Problem::ExecutionNotFound { store: self.name.to_string(), id, outside });
        };
        let records =
            database.within(told::records(database, &judge, &id)).await.map_err(|e| self.failed(e))?;
        Ok(Explanation::of(self.name.to_string(), found, records))
    }
}

impl Explanation {
    fn of(store: String, told: Told, records: Vec<Record>) -> Self {
        let ended = told.phase.finished();
        let outlook = told.stale_at().filter(|_| !ended);
        let runtime = told.runtime();
        let (stale, stale_action) = told.stale.unzip();
        Self {
            store,
            runtime_seconds: runtime.map(chrono::TimeDelta::as_seconds_f64),
            stale_at: outlook.map(|(at, reason)| Outlook { at, reason }),
            id: told.id,
            job_id: told.job_id,
            job_type: told.job_type,
            execution_number: told.number,
            status: told.status,
            phase: told.phase,
            created_at: told.created_at,
            started_at: told.started_at,
            completed_at: told.completed_at,
            counts_from: told.counts_from,
            rules: told.considered.into_iter().map(Rule::from).collect(),
            deadline: told.deadline,
            evidence: told.evidence.into_iter().map(Evidence::from).collect(),
            stale,
            stale_action,
            on_stale: told.action,
            records: records.into_iter().map(Recorded::from).collect(),
            timestamp: told.now,
        }
    }
}

/// What a client makes of it.
impl From<Explanation> for (Told, Vec<Record>) {
    fn from(told: Explanation) -> Self {
        let explanation = Told {
            now: told.timestamp,
            id: told.id,
            job_id: told.job_id,
            job_type: told.job_type,
            number: told.execution_number,
            phase: told.phase,
            status: told.status,
            started_at: told.started_at,
            created_at: told.created_at,
            completed_at: told.completed_at,
            counts_from: told.counts_from,
            considered: told.rules.into_iter().map(told::Considered::from).collect(),
            deadline: told.deadline,
            evidence: told.evidence.into_iter().map(told::Evidence::from).collect(),
            stale: told.stale.zip(told.stale_action),
            action: told.on_stale,
        };
        (explanation, told.records.into_iter().map(Record::from).collect())
    }
}

impl From<told::Considered> for Rule {
    fn from(told::Considered { field, value, source, why, counts }: told::Considered) -> Self {
        Self { field, value, source, counts, why }
    }
}

impl From<told::Evidence> for Evidence {
    fn from(told::Evidence { reason, seen, stale_at }: told::Evidence) -> Self {
        Self { reason, seen, stale_at }
    }
}

impl From<Record> for Recorded {
    fn from(Record { at, action, reason, source, actor, note }: Record) -> Self {
        Self { at, action, reason, source, actor, note }
    }
}

impl From<Rule> for told::Considered {
    fn from(Rule { field, value, source, why, counts }: Rule) -> Self {
        Self { field, value, source, why, counts }
    }
}

impl From<Evidence> for told::Evidence {
    fn from(Evidence { reason, seen, stale_at }: Evidence) -> Self {
        Self { reason, seen, stale_at }
    }
}

impl From<Recorded> for Record {
    fn from(Recorded { at, action, reason, source, actor, note }: Recorded) -> Self {
        Self { at, action, reason, source, actor, note }
    }
}
