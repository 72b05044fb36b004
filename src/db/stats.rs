//! Execution statistics: how many executions of each job type ended lately, how many of them well, and how long those took.
//! One query, from the same rows as timeouts that follow from [`super::history`].

use chrono::TimeDelta;
use serde::Serialize;
use sqlx::AssertSqlSafe;

use super::decode::List;
use super::intervals::interval;
use super::late::FINISHED_LATE;
use super::mapping::{TEXT_CHARS, literal, wire};
use super::{Database, DbError, Ledger, Mapping};

/// The longest time that can be asked for.
pub const LONGEST: TimeDelta = TimeDelta::days(30);

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// Of what ended within so long: at most [`LONGEST`].
    pub since: TimeDelta,
    /// Only of these types; empty: of all.
    pub types: Vec<String>,
    /// Of so many types at most, those with the most executions.
    pub limit: u32,
}

/// The executions of one job type that have ended, or of one job where the table knows no types.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobStats {
    /// The type; `None`: these have none, or no types are known.
    pub job_type: Option<String>,
    /// The job, where no types are known.
    pub job_id: Option<String>,
    /// How many executions have ended.
    pub executions: i64,
    /// How many of them well.
    pub completed: i64,
    /// How many failed.
    pub failed: i64,
    /// How many were cancelled.
    pub cancelled: i64,
    /// How many of those that were ended lived and were finished otherwise after all: with more than a few their timeout is too
    /// short. 0 where nothing is recorded.
    pub finished_late: i64,
    /// The share of those that ended well, from 0 to 1.
    pub success_rate: f64,
    /// In how many seconds half of the completed ones were done; `None`: of none both times are known.
    pub p50_seconds: Option<f64>,
    /// 95 of 100.
    pub p95_seconds: Option<f64>,
    /// 99 of 100.
    pub p99_seconds: Option<f64>,
}

/// The share of those that ended well, as people read it: cut, not rounded, so that 100 % means all.
pub fn success(completed: i64, executions: i64) -> String {
    let mille = completed.saturating_mul(1_000) / executions.max(1);
    format!("{}.{} %", mille / 10, mille % 10)
}

/// A type or a job, how many ended, well, failed, cancelled and finished late, and the three quantiles.
type Row = (Option<String>, i64, i64, i64, i64, i64, Option<List<f64>>);

/// The stats, those of the most executions first. It reads what ended within the time, by an index on the end where
/// there is one.
///
/// # Errors
/// Those of the database, a statement timeout among them: on a large table without that index, ask for less.
pub async fn ask(
    database: &Database,
    m: &Mapping,
    ledger: &Ledger,
    question: &Question,
) -> Result<Vec<JobStats>, DbError> {
    let by_type = m.knows_types();
    let (start, end) = (m.started_at(), m.completed_at());
    // What did not end well tells nothing of how long the work takes, and infinite times can not be subtracted.
    let sql = format!(
        "SELECT left(key, {TEXT_CHARS}), count(*), count(*) FILTER (WHERE completed), count(*) FILTER (WHERE failed),
                count(*) FILTER (WHERE cancelled), count(*) FILTER (WHERE late), percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY seconds)
         FROM (SELECT {key} AS key, {completed} AS completed, {failed} AS failed, {cancelled} AS cancelled, {late} AS late,
                      CASE WHEN {completed} AND isfinite({start}) AND isfinite({end}) AND {end} >= {start}
                           THEN EXTRACT(epoch FROM {until} - {since})::float8 END AS seconds
               FROM {table} AS t WHERE {finished} AND {ended}) AS ended
         WHERE $1::text[] = '{{}}' OR key = ANY ($1)
         GROUP BY key ORDER BY count(*) DESC, key LIMIT $2",
        key = if by_type { m.job_type() } else { format!("{}::text", m.job_id()) },
        until = wire(&end),
        since = wire(&start),
        completed = m.completed(),
        failed = m.failed(),
        cancelled = m.cancelled(),
        late = finished_late(m, ledger, question.since),
        table = m.table(),
        finished = m.finished(),
        ended = m.completed_after(&format!(
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

/// The condition that an execution was finished late, as far as that is recorded.
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
