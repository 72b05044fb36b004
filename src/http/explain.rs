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
use super::extract::{Path, Query};
use super::openapi::Problems;
use super::phase;
use super::problem::Problem;
use super::stores::{OpenStore, StoreName};
use crate::api::Phase;
use crate::db::explain::{self as db_explain, Explanation as DbExplanation, Record};
use crate::db::retry::{Latest, State as RetryState};
use crate::db::staleness::Reason;

/// Why an execution is stale, or is not.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct Explanation {
    /// The store: `namespace/name`.
    store: String,
    /// The id of the row.
    id: String,
    /// The id of the job.
    job_id: Option<String>,
    /// The type of the job, if known.
    job_type: Option<String>,
    /// The number of the execution within its job.
    execution_number: Option<i64>,
    /// The status in the table.
    status: String,
    /// The phase: `scheduled`, `running`, `paused`, `completed`, `failed`, `cancelled`, `ignored`, or `unmapped`.
    #[serde(with = "phase")]
    #[schema(value_type = String, example = "running")]
    phase: Phase,
    /// The time at which the row was created, if that is mapped.
    created_at: Option<DateTime<Utc>>,
    /// The time of its start.
    started_at: Option<DateTime<Utc>>,
    /// The time of its end.
    completed_at: Option<DateTime<Utc>>,
    /// The time at which its worker, or that of an earlier attempt, last wrote a checkpoint, if that is mapped.
    checkpoint_at: Option<DateTime<Utc>>,
    /// The time from which its timeout counts: the later of its start and its creation; without a start, not before
    /// the operator first saw it running in the present version of its row. Null if it has no start and was not seen
    /// running in that version.
    counts_from: Option<DateTime<Utc>>,
    /// Its runtime so far or until its end, in seconds.
    runtime_seconds: Option<f64>,
    /// The values of all rules that could govern it, for each field the most specific first.
    rules: Vec<Rule>,
    /// The time at which it becomes overdue; null if its timeout is `Never`, or if that time is unknown.
    deadline: Option<DateTime<Utc>>,
    /// The evidence that the store uses besides the deadline.
    evidence: Vec<Evidence>,
    /// Why it is stale; null if it is not stale.
    stale: Option<String>,
    /// The action of the operator: `Fail`, `Cancel` or `AlertOnly`; null if it is not stale.
    stale_action: Option<String>,
    /// The time at which it becomes stale if nothing changes, and why; null if that never happens, or if it has ended.
    stale_at: Option<Outlook>,
    /// The action once it is stale: `Fail`, `Cancel` or `AlertOnly`.
    on_stale: String,
    /// Its latest retry; null if there is none.
    retry: Option<Retry>,
    /// Its audit records, the latest last.
    records: Vec<Recorded>,
    /// The time of this answer, by the database's clock.
    timestamp: DateTime<Utc>,
}

/// The value that one rule sets for one field.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct Rule {
    /// The field, by its name in specs.
    field: Cow<'static, str>,
    /// The value; `Never` if the limit does not apply.
    value: String,
    /// The object that sets it, for example `ExecutionPolicy/nightly`.
    source: String,
    /// Whether this value applies.
    counts: bool,
    /// Why it applies, or does not.
    why: Cow<'static, str>,
}

/// Evidence that an execution is dead.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct Evidence {
    /// The kind of evidence, for example `HeartbeatLost`.
    #[schema(value_type = String)]
    reason: Reason,
    /// The observed state.
    seen: String,
    /// The time from which this evidence makes the execution stale, if nothing changes.
    stale_at: Option<DateTime<Utc>>,
}

/// The time at which an execution becomes stale if nothing changes.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct Outlook {
    /// The time.
    at: DateTime<Utc>,
    /// The reason.
    #[schema(value_type = String)]
    reason: Reason,
}

/// The latest retry of an execution.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct Retry {
    /// The number of the next attempt.
    attempt: i64,
    /// The time from which the next attempt may start.
    due_at: DateTime<Utc>,
    /// The state: `WaitsForWorker`, `Pending`, `Refused`, `Retried` or `Dropped`.
    #[schema(value_type = String, example = "WaitsForWorker")]
    state: RetryState,
    /// Why the table refused it, or why it was dropped.
    fault: Option<String>,
    /// The execution that is the next attempt, once it is there.
    next_id: Option<String>,
}

/// An action on an execution, or a notification about it.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = Record)]
struct Recorded {
    /// The time of the action.
    at: DateTime<Utc>,
    /// The action, for example `Failed`.
    action: String,
    /// The reason for the action.
    reason: String,
    /// The object that decided it.
    source: String,
    /// The user who requested it, if known.
    actor: Option<String>,
    /// Further details.
    note: Option<String>,
}

/// The execution.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct PathParams {
    /// The namespace of the store.
    #[param(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", example = "default")]
    namespace: String,
    /// The name of the store.
    #[param(pattern = "^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "jobs")]
    store: String,
    /// The id of the row. If the column of the table cannot hold it, the answer is `InvalidExecutionId`.
    #[param(example = "39")]
    pub(super) id: String,
}

impl PathParams {
    /// Returns the name of the store.
    pub(super) fn store_name(&self) -> Result<StoreName, Problem> {
        StoreName::try_from(format!("{}/{}", self.namespace, self.store)).map_err(Problem::InvalidParameter)
    }
}

/// The empty query: any parameter is an error.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParams {}

/// Explains why an execution is stale, or is not, and what happens next.
///
/// Requires the right to list jobexecutions in the namespace of the store.
#[utoipa::path(
    get, path = "/api/system/executions/{namespace}/{store}/{id}/explain", tag = "system", params(PathParams),
    responses(Problems, (status = 200, description = "The explanation.", body = Explanation)),
)]
pub(super) async fn explain(
    caller: Caller,
    State(app): State<Arc<App>>,
    Path(path): Path<PathParams>,
    Query(NoParams {}): Query<NoParams>,
) -> Result<Json<Explanation>, Problem> {
    let store = app.readable_store(&caller, &path.store_name()?).await?;
    Ok(Json(store.open().await?.explain(&path.id).await?))
}

impl OpenStore {
    /// Returns the id as the table writes it.
    ///
    /// Fails with [`Problem::InvalidExecutionId`] if the column cannot hold it.
    pub(super) fn canonical_id(&self, id: &str) -> Result<String, Problem> {
        let id_type = self.session.mapping.id_type();
        let invalid =
            || Problem::InvalidExecutionId { id: id.chars().take(100).collect(), type_: id_type.sql() };
        id_type.canonical(id).ok_or_else(invalid)
    }

    async fn explain(&self, id: &str) -> Result<Explanation, Problem> {
        let id = self.canonical_id(id)?;
        let predicate = self.session.predicate(&self.effective_rules);
        let database = &self.session.database;
        let _permit = self.read_permit().await?;
        let found = database
            .within(db_explain::explain(database, &predicate, &id))
            .await
            .map_err(|e| self.failed(e))?;
        let Some(found) = found else {
            let outside = database.within(db_explain::outside(database, &predicate, &id)).await;
            let outside = outside.map_err(|e| self.failed(e))?;
            return Err(Problem::ExecutionNotFound { store: self.name.to_string(), id, outside });
        };
        let records = database
            .within(db_explain::records(database, &predicate, &id))
            .await
            .map_err(|e| self.failed(e))?;
        Ok(Explanation::of(self.name.to_string(), found, records))
    }
}

impl Explanation {
    fn of(store: String, explanation: DbExplanation, records: Vec<Record>) -> Self {
        let ended = explanation.phase.finished();
        let outlook = explanation.stale_at().filter(|_| !ended);
        let runtime = explanation.runtime();
        let (stale, stale_action) = explanation.stale.unzip();
        Self {
            store,
            runtime_seconds: runtime.map(chrono::TimeDelta::as_seconds_f64),
            stale_at: outlook.map(|(at, reason)| Outlook { at, reason }),
            id: explanation.id,
            job_id: explanation.job_id,
            job_type: explanation.job_type,
            execution_number: explanation.number,
            status: explanation.status,
            phase: explanation.phase,
            created_at: explanation.created_at,
            started_at: explanation.started_at,
            completed_at: explanation.completed_at,
            checkpoint_at: explanation.checkpoint_at,
            counts_from: explanation.counts_from,
            rules: explanation.considered.into_iter().map(Rule::from).collect(),
            deadline: explanation.deadline,
            evidence: explanation.evidence.into_iter().map(Evidence::from).collect(),
            stale,
            stale_action,
            on_stale: explanation.action,
            retry: explanation.retry.map(Retry::from),
            records: records.into_iter().map(Recorded::from).collect(),
            timestamp: explanation.now,
        }
    }
}

/// The conversion in clients.
impl From<Explanation> for (DbExplanation, Vec<Record>) {
    fn from(explanation: Explanation) -> Self {
        let db_explanation = DbExplanation {
            now: explanation.timestamp,
            id: explanation.id,
            job_id: explanation.job_id,
            job_type: explanation.job_type,
            number: explanation.execution_number,
            phase: explanation.phase,
            status: explanation.status,
            started_at: explanation.started_at,
            created_at: explanation.created_at,
            completed_at: explanation.completed_at,
            checkpoint_at: explanation.checkpoint_at,
            counts_from: explanation.counts_from,
            considered: explanation.rules.into_iter().map(db_explain::Considered::from).collect(),
            deadline: explanation.deadline,
            evidence: explanation.evidence.into_iter().map(db_explain::Evidence::from).collect(),
            stale: explanation.stale.zip(explanation.stale_action),
            action: explanation.on_stale,
            retry: explanation.retry.map(Latest::from),
        };
        (db_explanation, explanation.records.into_iter().map(Record::from).collect())
    }
}

impl From<Latest> for Retry {
    fn from(Latest { attempt, due_at, state, fault, next_id }: Latest) -> Self {
        Self { attempt, due_at, state, fault, next_id }
    }
}

impl From<Retry> for Latest {
    fn from(Retry { attempt, due_at, state, fault, next_id }: Retry) -> Self {
        Self { attempt, due_at, state, fault, next_id }
    }
}

impl From<db_explain::Considered> for Rule {
    fn from(db_explain::Considered { field, value, source, why, counts }: db_explain::Considered) -> Self {
        Self { field, value, source, counts, why }
    }
}

impl From<db_explain::Evidence> for Evidence {
    fn from(db_explain::Evidence { reason, seen, stale_at }: db_explain::Evidence) -> Self {
        Self { reason, seen, stale_at }
    }
}

impl From<Record> for Recorded {
    fn from(Record { at, action, reason, source, actor, note }: Record) -> Self {
        Self { at, action, reason, source, actor, note }
    }
}

impl From<Rule> for db_explain::Considered {
    fn from(Rule { field, value, source, why, counts }: Rule) -> Self {
        Self { field, value, source, why, counts }
    }
}

impl From<Evidence> for db_explain::Evidence {
    fn from(Evidence { reason, seen, stale_at }: Evidence) -> Self {
        Self { reason, seen, stale_at }
    }
}

impl From<Recorded> for Record {
    fn from(Recorded { at, action, reason, source, actor, note }: Recorded) -> Self {
        Self { at, action, reason, source, actor, note }
    }
}
