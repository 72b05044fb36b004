//! Retries that a person asks for. They are recorded as those of a sweep are, and started in the same way, except that the budget of
//! the store and the maximum number of attempts do not count.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::{SHOWN_DUE, same_end};
use crate::api::retry::RetryMethod;
use crate::db::audit;
use crate::db::cleanup::{NOT_FOUND, Skipped};
use crate::db::decode;
use crate::db::ending::Ending;
use crate::db::ids::id_of;
use crate::db::mapping::clamp_timestamp;
use crate::db::staleness::attempts_before;
use crate::db::{Database, DbError, Ledger, StalenessPredicate};

/// The action that is recorded.
const REQUESTED: &str = "RetryRequested";

/// The reason that is recorded for an execution of which it is not known why it ended.
const MANUAL: &str = "ManualRetry";

/// The executions that a person wants retried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those with these ids, in canonical form.
    Ids(Vec<String>),
    /// Those that the operator failed for this reason.
    FailedFor {
        /// The reason, for example `HeartbeatLost`.
        reason: String,
        /// Only those that were failed within this time before now.
        since: TimeDelta,
        /// Only those of this job type.
        job_type: Option<String>,
    },
}

/// A person's request to retry executions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The executions.
    pub which: Which,
    /// True to start them at once, whether their workers are known to be gone or not.
    pub now: bool,
    /// The time over which their starts are spread.
    pub over: TimeDelta,
    /// True to change nothing.
    pub dry_run: bool,
    /// The tool that makes the request, for the record, for example `CommandLine`.
    pub source: &'static str,
    /// The person who makes the request, for the record.
    pub actor: Option<String>,
}

/// An execution whose retry was recorded or, in a dry run, would be; or one that is not retried, with the reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The row's id.
    pub id: String,
    /// Its job.
    pub job_id: Option<String>,
    /// Its number within the job.
    pub execution_number: Option<i64>,
    /// Its end.
    pub completed_at: Option<DateTime<Utc>>,
    /// Why the operator ended it, if it did.
    pub reason: Option<String>,
    /// The number of the next attempt.
    pub attempt: Option<i64>,
    /// When the next attempt may start.
    pub due_at: Option<DateTime<Utc>>,
    /// True if it also waits until the worker of the ended attempt is known to be gone.
    pub waits: Option<bool>,
    /// Why it is not retried.
    pub skipped: Option<Skipped>,
}

/// Why no execution of a store can be retried at a person's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPossible {
    /// The mapping does not say how.
    #[error("the table does not say how an execution runs again: set spec.table.retry of the ExecutionStore")]
    NoMethod,
    /// The job system does it.
    #[error(
        "the job system of this table decides when an execution runs again (table.retry.method Trigger): use its own tools"
    )]
    JobSystem,
}

impl NotPossible {
    /// Returns why no execution of this store can be retried at a person's request, if that is so.
    pub fn of(predicate: &StalenessPredicate<'_>) -> Option<Self> {
        match predicate.mapping.retry_method() {
            None => Some(Self::NoMethod),
            Some(RetryMethod::Trigger) => Some(Self::JobSystem),
            Some(RetryMethod::InPlace | RetryMethod::NewExecution) => None,
        }
    }
}

/// Records the retries that a person asks for, or reads what that would do. The operator starts them once they are due. Returns a row
/// for each execution: of those that are named also the ones that are not retried. Where the mapping has no way to retry them
/// ([`NotPossible`]) or nothing is recorded, nothing is done.
///
/// # Errors
/// Returns the errors of the database; then nothing was recorded.
pub async fn request(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    ledger: &Ledger,
    request: &Request,
) -> Result<Vec<Row>, DbError> {
    let (Ledger::Tables { .. }, None) = (ledger, NotPossible::of(predicate)) else { return Ok(Vec::new()) };
    let (ids, reason, since, job_type) = match &request.which {
        Which::Ids(ids) => (Some(ids.clone()), None, TimeDelta::zero(), None),
        Which::FailedFor { reason, since, job_type } => {
            (None, Some(reason.clone()), *since, job_type.clone())
        }
    };
    let sql = statement(predicate, request.dry_run);
    let mut query = predicate
        .bind(sqlx::query(AssertSqlSafe(sql)))
        .bind(ids)
        .bind(since)
        .bind(reason)
        .bind(job_type)
        .bind(request.now)
        .bind(request.over);
    if !request.dry_run {
        query = query.bind(request.source).bind(request.actor.clone());
    }
    let mut tx = if request.dry_run { database.read().await? } else { database.write().await? };
    let rows = query.persistent(false).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    let mut rows = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    if let Which::Ids(ids) = &request.which {
        let found: HashSet<String> = rows.iter().map(|row| row.id.clone()).collect();
        let missing = ids.iter().filter(|id| !found.contains(*id));
        let why = || Skipped::new(NOT_FOUND, "the table has no such execution");
        rows.extend(missing.map(|id| Row::skipped(id, why())));
    }
    Ok(rows)
}

impl Row {
    /// An execution of which nothing is known except why it is not retried.
    pub(crate) fn skipped(id: &str, why: Skipped) -> Self {
        Self {
            id: id.to_owned(),
            job_id: None,
            execution_number: None,
            completed_at: None,
            reason: None,
            attempt: None,
            due_at: None,
            waits: None,
            skipped: Some(why),
        }
    }
}

fn read(row: &PgRow) -> Result<Row, sqlx::Error> {
    let requested: bool = row.try_get("requested")?;
    let attempt: i32 = row.try_get("attempt")?;
    let waits: bool = row.try_get("waits")?;
    let due_at = decode::at(row, "due_at")?;
    Ok(Row {
        id: row.try_get("execution_id")?,
        job_id: row.try_get("job_id")?,
        execution_number: row.try_get("number")?,
        completed_at: decode::maybe_at(row, "ended_at")?,
        reason: row.try_get("reason")?,
        attempt: requested.then_some(i64::from(attempt) + 1),
        due_at: requested.then_some(due_at),
        waits: requested.then_some(waits),
        skipped: if requested { None } else { Some(skipped(row)?) },
    })
}

/// Returns why an execution is not retried.
fn skipped(row: &PgRow) -> Result<Skipped, sqlx::Error> {
    let status: Option<String> = row.try_get("status")?;
    if !row.try_get::<bool, _>("failed")? {
        let status = status.unwrap_or_else(|| "NULL".to_owned());
        let message = format!("its status is {status}, and only a failed execution is retried");
        return Ok(Skipped::new("NotFailed", message));
    }
    if row.try_get::<bool, _>("possible")? {
        return Ok(Skipped::new("Late", "it was retried at the same moment"));
    }
    let (attempt, next): (Option<i32>, Option<String>) =
        (row.try_get("latest_attempt")?, row.try_get("latest_next_id")?);
    let message = format!(
        "it was retried: execution {} is attempt {}",
        next.unwrap_or_default(),
        attempt.unwrap_or_default().saturating_add(1)
    );
    Ok(Skipped::new("AlreadyRetried", message))
}

/// Returns the statement. $1 to $4: the rules; the others as in request.sql.
fn statement(predicate: &StalenessPredicate<'_>, dry_run: bool) -> String {
    let (m, life) = (predicate.mapping, predicate.life());
    let completed_at = clamp_timestamp(&m.completed_at());
    let retried = Ending::Retried.as_str();
    // A row that runs again itself is another attempt each time.
    let was_retried = match m.retry_method() {
        Some(RetryMethod::InPlace) => "false".to_owned(),
        _ => format!("(same_run AND latest_outcome = '{retried}') IS TRUE"),
    };
    let requested = if dry_run {
        ", requested AS (SELECT execution_id FROM planned WHERE possible)".to_owned()
    } else {
        format!(
            include_str!("requested.sql"),
            as_retried = retried,
            requested = REQUESTED,
            shown_due = SHOWN_DUE,
        )
    };
    format!(
        include_str!("request.sql"),
        rules = predicate.rules(),
        as_failed = Ending::Failed.as_str(),
        id = m.id(),
        job_id = m.job_shown(),
        number = m.number(),
        status = m.status_shown(),
        failed = m.failed(),
        same_end = same_end("latest", &completed_at),
        completed_at = completed_at,
        started_at = clamp_timestamp(&m.started_at()),
        recorded_attempt = attempts_before(&m.id(), "$4"),
        settings = predicate.retry_settings_of_row(),
        alive_at = life.alive_at,
        silence = life.silence,
        table = m.table(),
        rules_of_row = predicate.joined(),
        beats = life.joins,
        recorded = audit::end_of_row(m, "true", Some("$4")),
        picked_id = id_of("picked.execution_id", m.id_type()),
        exists = m.exists(),
        job_type = m.type_shown(),
        retried = was_retried,
        as_retried = retried,
        reason = MANUAL,
        requested = requested,
    )
}
