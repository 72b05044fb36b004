//! Executions that the operator or a person ended and that were finished with another result later: their worker was alive. Each is
//! reported once as `FinishedLate`, because the earlier report was wrong and their timeout was too short.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Row as _};

use super::again::STARTED_AGAIN;
use super::cancel::CANCEL_REQUESTED;
use super::decode;
use super::ids::id_of;
use super::mapping::clamp_timestamp;
use super::{Database, DbError, Ledger, Mapping, outbox};

/// The action that is recorded for such an execution.
pub const FINISHED_LATE: &str = "FinishedLate";

/// The number of records that one step checks, both of the newest and of the next ones. It costs a few milliseconds.
const STEP: i64 = 500;

/// An execution that was finished after it had been ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Late {
    /// The id of the row.
    pub id: String,
    /// Its job.
    pub job_id: Option<String>,
    /// The time at which the operator or a person ended it.
    pub ended_at: DateTime<Utc>,
    /// Its present status in the table.
    pub status: String,
}

/// The result of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The executions that were found and recorded.
    pub found: Vec<Late>,
    /// The record before which the next step continues; `None` to start from the latest.
    pub before: Option<i64>,
}

/// Checks the latest `STEP` records and the next `STEP` before `before`, and records which of their executions were finished with
/// another result since. Most finish soon after they were ended, so each step checks the latest; the steps walk through all others
/// from the latest to the oldest. If no record of a step is from the last days, the next step starts again: adopted records are not
/// in the order of time.
///
/// # Errors
/// Returns the errors of the database; then nothing was recorded.
pub async fn step(
    database: &Database,
    m: &Mapping,
    ledger: &Ledger,
    before: Option<i64>,
) -> Result<Step, DbError> {
    let Ledger::Tables { store_id, .. } = ledger else { return Ok(Step::default()) };
    let found = found(m);
    // Usually there is none, and then nothing is written.
    let sql = format!(include_str!("late/step.sql"), found = found, step = STEP, since = SINCE);
    let mut tx = database.read().await?;
    let (any, next): (bool, Option<i64>) = sqlx::query_as(AssertSqlSafe(sql))
        .bind(store_id)
        .bind(before)
        .persistent(false)
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    if !any {
        return Ok(Step { found: Vec::new(), before: next });
    }
    let sql = format!(
        include_str!("late/record.sql"),
        found = found,
        finished_late = FINISHED_LATE,
        at = clamp_timestamp("at"),
        ended_at = shown("at"),
        completed_at = shown("completed_at"),
        posted = outbox::posting(ledger, "$1"),
    );
    let mut tx = database.write().await?;
    let query = sqlx::query(AssertSqlSafe(sql)).bind(store_id).bind(before).persistent(false);
    let rows = query.fetch_all(&mut *tx).await?;
    tx.commit().await?;
    let late = |row: &sqlx::postgres::PgRow| {
        Ok::<_, sqlx::Error>(Late {
            id: row.try_get("execution_id")?,
            job_id: row.try_get("job_id")?,
            ended_at: decode::at(row, "at")?,
            status: row.try_get("status")?,
        })
    };
    Ok(Step { found: rows.iter().map(late).collect::<Result<_, _>>()?, before: next })
}

/// Formats an instant for people.
fn shown(instant: &str) -> String {
    format!("to_char({instant} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
}

/// The start of the period in which records count: an execution that finishes more than seven days after it was ended is ignored.
const SINCE: &str = "statement_timestamp() - make_interval(days => 7)";

/// Returns the records to check, and the rows that contradict them.
fn found(m: &Mapping) -> String {
    format!(
        include_str!("late/found.sql"),
        columns = "event_id, at, execution_id, job_id, execution_number, action, reason, source, started_at, deadline",
        step = STEP,
        since = SINCE,
        status = m.status_shown(),
        completed_at = clamp_timestamp(&m.completed_at()),
        table = m.table(),
        id = m.id(),
        recorded_id = id_of("batch.execution_id", m.id_type()),
        finished = m.finished(),
        completed = m.completed(),
        failed = m.failed(),
        cancel_requested = CANCEL_REQUESTED,
        started_at = clamp_timestamp(&m.started_at()),
        finished_late = FINISHED_LATE,
        started_again = STARTED_AGAIN,
    )
}
