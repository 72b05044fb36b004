//! Counts of the executions that run.
//!
//! What is counted of suspects is assembled here: a store that does not check that evidence leaves it out.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Row as _};

use crate::db::decode;
use crate::db::mapping::clamp_timestamp;
use crate::db::reason::Reason;
use crate::db::staleness::Selection;
use crate::db::{Database, DbError, Mapping, StalenessPredicate};

/// Counts of the running executions at one moment, for people. Counting reads the index on running executions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningCounts {
    /// The moment, by the database's clock.
    pub now: DateTime<Utc>,
    /// Executions that run.
    pub running: i64,
    /// Executions that run for longer than their warning threshold.
    pub long_running: i64,
    /// Executions that are stale, including those that keep running (`AlertOnly`).
    pub stale: i64,
    /// The start of the execution that has run longest.
    pub oldest: Option<DateTime<Utc>>,
    /// Executions that run although their job has been finished for some time.
    pub of_finished_jobs: i64,
    /// One of these executions, and its job.
    pub pair: Option<(String, String)>,
    /// Executions that are suspects because their job is finished.
    pub suspects: Suspects,
    /// Executions whose workload was recreated under its name.
    pub recreated: Suspects,
}

/// Executions that may be dead, which only a person can decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspects {
    /// The number of executions.
    pub count: i64,
    /// One of the executions, and its job.
    pub pair: Option<(String, String)>,
}

/// Counts the running executions, in one statement, so that the counts are consistent.
pub async fn live(database: &Database, predicate: &StalenessPredicate<'_>) -> Result<RunningCounts, DbError> {
    let sql = statement(predicate);
    let mut tx = database.read().await?;
    let query = predicate.bind(sqlx::query(AssertSqlSafe(sql.as_str()))).persistent(false);
    let row = query.fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(RunningCounts {
        suspects: Suspects {
            count: row.try_get("suspects")?,
            pair: row.try_get::<Option<_>, _>("suspect")?.zip(row.try_get("suspect_job")?),
        },
        recreated: Suspects {
            count: row.try_get("recreateds")?,
            pair: row.try_get::<Option<_>, _>("recreated")?.zip(row.try_get("recreated_job")?),
        },
        now: decode::at(&row, "now")?,
        running: row.try_get("running")?,
        long_running: row.try_get("long_running")?,
        stale: row.try_get("stale")?,
        oldest: decode::maybe_at(&row, "oldest")?,
        of_finished_jobs: row.try_get("of_finished_jobs")?,
        pair: row.try_get::<Option<_>, _>("id")?.zip(row.try_get("job_id")?),
    })
}

fn statement(predicate: &StalenessPredicate<'_>) -> String {
    let m = predicate.mapping;
    let suspected = suspected(predicate);
    let recreated = recreated(predicate);
    let columns = |name: &str, known: bool| {
        if known {
            format!(
                "(SELECT count(*) FROM {name}) AS {name}s, (SELECT min(id) FROM {name}) AS {name},
                 (SELECT min(job_id) FROM {name} WHERE id = (SELECT min(id) FROM {name})) AS {name}_job"
            )
        } else {
            format!("0::bigint AS {name}s, NULL::text AS {name}, NULL::text AS {name}_job")
        }
    };
    format!(
        include_str!("running_counts.sql"),
        predicate = predicate.ctes(Selection::LookAtAll),
        suspect_columns = columns("suspect", suspected.is_some()),
        recreated_columns = columns("recreated", recreated.is_some()),
        job_finished = Reason::JobFinished.as_str(),
        started_at = m.started_at(),
        id = m.id(),
        job_id = m.job_shown(),
        rules_of_row = predicate.joined(),
        long_running = predicate.runs_long(),
        table = m.table(),
        running = m.running(),
        oldest = clamp_timestamp("live.oldest"),
        suspects = [("suspect", suspected), ("recreated", recreated)]
            .into_iter()
            .filter_map(|(name, query)| Some(format!(", {name} AS MATERIALIZED (\n{})", query?)))
            .collect::<String>(),
    )
}

/// Returns the executions whose job is finished and that nothing ends, with their jobs.
fn suspected(predicate: &StalenessPredicate<'_>) -> Option<String> {
    let m = predicate.mapping;
    Some(format!(
        include_str!("suspected.sql"),
        id = m.id(),
        job_id = m.job_shown(),
        table = m.table(),
        jobs = m.jobs_table(),
        of_job = m.of_job(),
        running = m.judged(),
        suspected = predicate.job_suspected()?,
        certain = predicate.job_certain(),
    ))
}

/// Returns the executions whose workload was recreated and that nothing ends, with their jobs.
fn recreated(predicate: &StalenessPredicate<'_>) -> Option<String> {
    let m = predicate.mapping;
    Some(format!(
        include_str!("recreated.sql"),
        id = m.id(),
        job_id = m.job_shown(),
        table = m.table(),
        running = m.judged(),
        again = predicate.workload_made_again()?,
    ))
}

/// Counts only the running executions.
pub async fn running(database: &Database, m: &Mapping) -> Result<i64, DbError> {
    let sql = format!("SELECT count(*) FROM {} AS execution WHERE {}", m.table(), m.running());
    let mut tx = database.read().await?;
    let count = sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(count)
}

/// Returns how many running executions each object governs with a setting that counts, by object.
pub async fn governed(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
) -> Result<BTreeMap<String, i64>, DbError> {
    let m = predicate.mapping;
    let sql = format!(
        include_str!("governed.sql"),
        rules = predicate.rules(),
        table = m.table(),
        rules_of_row = predicate.joined(),
        running = m.running(),
    );
    let mut tx = database.read().await?;
    let rows = predicate.bind(sqlx::query(AssertSqlSafe(sql))).persistent(false).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    rows.into_iter().map(|row| Ok((row.try_get("source")?, row.try_get("executions")?))).collect()
}
