//! Statistics of executions: how many executions of each job type ended recently, how many of them completed, and how long those
//! took. One query, which reads the same rows as the timeouts computed from [`super::history`].

use chrono::TimeDelta;
use serde::Serialize;
use sqlx::AssertSqlSafe;

use super::decode::List;
use super::intervals::interval;
use super::late::FINISHED_LATE;
use super::mapping::{TEXT_CHARS, clamp_timestamp, literal};
use super::{Database, DbError, Ledger, Mapping};

/// The longest period that can be requested.
pub const LONGEST: TimeDelta = TimeDelta::days(30);

/// The parameters of a request.
#[derive(Clone, Debug)]
pub struct Question {
    /// Executions that ended within this period: at most [`LONGEST`].
    pub since: TimeDelta,
    /// Only these types; empty: all types.
    pub types: Vec<String>,
    /// The maximum number of types; those with the most executions are returned.
    pub limit: u32,
}

/// The ended executions of one job type, or of one job if the table knows no types.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobStats {
    /// The type; `None` if these have none, or no types are known.
    pub job_type: Option<String>,
    /// The job, if no types are known.
    pub job_id: Option<String>,
    /// The number of executions that ended.
    pub executions: i64,
    /// The number of executions that completed.
    pub completed: i64,
    /// The number of executions that failed.
    pub failed: i64,
    /// The number of executions that were cancelled.
    pub cancelled: i64,
    /// The number of ended executions whose worker was alive and finished them with another result later: if there are more than a
    /// few, their timeout is too short. 0 if nothing is recorded.
    pub finished_late: i64,
    /// The share of executions that completed, from 0 to 1.
    pub success_rate: f64,
    /// The duration within which half of the completed ones were done, in seconds; `None` if both times are known for none of them.
    pub p50_seconds: Option<f64>,
    /// The same for 95 of 100.
    pub p95_seconds: Option<f64>,
    /// The same for 99 of 100.
    pub p99_seconds: Option<f64>,
}

/// Formats the share of executions that completed: truncated, not rounded, so that 100 % means all.
pub fn success(completed: i64, executions: i64) -> String {
    let mille = completed.saturating_mul(1_000) / executions.max(1);
    format!("{}.{} %", mille / 10, mille % 10)
}

/// A type or a job, the number of executions that ended, completed, failed, were cancelled and finished late, and the three
/// quantiles.
type Row = (Option<String>, i64, i64, i64, i64, i64, Option<List<f64>>);

/// Returns the statistics, those with the most executions first. Reads the executions that ended within the period, with an index
/// on the end if there is one.
///
/// # Errors
/// Returns the errors of the database, including a statement timeout: without that index, request a shorter period on a large table.
pub async fn ask(
    database: &Database,
    m: &Mapping,
    ledger: &Ledger,
    question: &Question,
) -> Result<Vec<JobStats>, DbError> {
    let by_type = m.knows_types();
    let (start, end) = (m.started_at(), m.completed_at());
    let sql = format!(
        include_str!("stats/ask.sql"),
        text_chars = TEXT_CHARS,
        key = if by_type { m.job_type() } else { format!("{}::text", m.job_id()) },
        completed = m.completed(),
        failed = m.failed(),
        cancelled = m.cancelled(),
        late = finished_late(m, ledger, question.since),
        start = start,
        end = end,
        started_at = clamp_timestamp(&start),
        ended_at = clamp_timestamp(&end),
        table = m.table(),
        finished = m.finished(),
        ended_recently = m.completed_after(&format!(
            "statement_timestamp() - interval {}",
            literal(&interval(question.since))
        )),
    );
    let mut tx = database.read().await?;
    // The durations are sorted, which is faster in memory.
    sqlx::raw_sql("SET LOCAL work_mem = '64MB'").execute(&mut *tx).await?;
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(&question.types)
        .bind(i64::from(question.limit))
        .persistent(false)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(rows.into_iter().map(|row| job_stats(row, by_type)).collect())
}

/// Returns the condition that an execution was finished late, as far as that is recorded.
fn finished_late(m: &Mapping, ledger: &Ledger, since: TimeDelta) -> String {
    let Ledger::Tables { store_id, .. } = ledger else { return "false".to_owned() };
    format!(
        "{id}::text IN (SELECT execution_id FROM jobexec.events WHERE store_id = {store_id} AND action = '{FINISHED_LATE}'
                        AND at > statement_timestamp() - interval {since})",
        id = m.id(),
        since = literal(&interval(since)),
    )
}

#[allow(clippy::cast_precision_loss, reason = "a share of so many rows is exact enough")]
fn job_stats(
    (key, executions, completed, failed, cancelled, finished_late, quantiles): Row,
    by_type: bool,
) -> JobStats {
    let (job_type, job_id) = if by_type { (key, None) } else { (None, key) };
    let quantile = |place: usize| quantiles.as_ref().and_then(|quantiles| quantiles.0.get(place).copied());
    JobStats {
        job_type,
        job_id,
        executions,
        completed,
        failed,
        cancelled,
        finished_late,
        success_rate: completed as f64 / executions.max(1) as f64,
        p50_seconds: quantile(0),
        p95_seconds: quantile(1),
        p99_seconds: quantile(2),
    }
}
