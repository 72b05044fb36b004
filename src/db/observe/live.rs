//! Counts of the executions that run.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Row as _};

use crate::db::decode;
use crate::db::judge::Take;
use crate::db::mapping::wire;
use crate::db::reason::Reason;
use crate::db::{Database, DbError, Judge, Mapping};

/// Counts of the running executions at one moment, for people. Counting reads the index on running executions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
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
pub async fn live(database: &Database, judge: &Judge<'_>) -> Result<Live, DbError> {
    let sql = statement(judge);
    let mut tx = database.read().await?;
    let query = judge.bind(sqlx::query(AssertSqlSafe(sql.as_str()))).persistent(false);
    let row = query.fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(Live {
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

fn statement(judge: &Judge<'_>) -> String {
    let m = judge.mapping;
    let start = m.started_at();
    let suspected = suspected(judge);
    let recreated = recreated(judge);
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
    let suspect =
        format!("{}, {}", columns("suspect", suspected.is_some()), columns("recreated", recreated.is_some()));
    format!(
        "WITH {ctes},
         live AS (
             SELECT count(*) AS running, min({start}) AS oldest,
                    count(*) FILTER (WHERE {long}) AS long_running
             FROM {table} AS execution {joined} WHERE {running}){suspects}
         SELECT statement_timestamp() AS now, live.running, live.long_running, {oldest} AS oldest,
                (SELECT count(*) FROM stale) AS stale,
                (SELECT count(*) FROM stale WHERE {of_finished}) AS of_finished_jobs, pair.id, pair.job_id,
                {suspect}
         FROM live LEFT JOIN LATERAL (
             SELECT stale.id::text AS id, {job} AS job_id FROM stale JOIN {table} AS execution ON {id} = stale.id
             WHERE {of_finished} ORDER BY stale.id LIMIT 1) AS pair ON true",
        ctes = judge.ctes(Take::LookAtAll),
        of_finished = format_args!("stale.reason = '{}'", Reason::JobFinished.as_str()),
        id = m.id(),
        job = m.job_shown(),
        joined = judge.joined(),
        long = judge.runs_long(),
        table = m.table(),
        running = m.running(),
        oldest = wire("live.oldest"),
        suspects = [("suspect", suspected), ("recreated", recreated)]
            .into_iter()
            .filter_map(|(name, query)| Some(format!(", {name} AS MATERIALIZED ({})", query?)))
            .collect::<String>(),
    )
}

/// Returns the executions whose job is finished and that nothing ends, with their jobs.
fn suspected(judge: &Judge<'_>) -> Option<String> {
    let m = judge.mapping;
    Some(format!(
        "SELECT {id}::text AS id, {job} AS job_id FROM {table} AS execution JOIN {jobs} ON {of_job}
         WHERE {running} AND {suspected} AND NOT {certain} AND {id} NOT IN (SELECT id FROM stale)",
        id = m.id(),
        job = m.job_shown(),
        table = m.table(),
        jobs = m.jobs_table(),
        of_job = m.of_job(),
        running = m.judged(),
        suspected = judge.job_suspected()?,
        certain = judge.job_certain(),
    ))
}

/// Returns the executions whose workload was recreated and that nothing ends, with their jobs.
fn recreated(judge: &Judge<'_>) -> Option<String> {
    let m = judge.mapping;
    Some(format!(
        "SELECT {id}::text AS id, COALESCE({job}, '?') AS job_id FROM {table} AS execution
         WHERE {running} AND {again} AND {id} NOT IN (SELECT id FROM stale)",
        id = m.id(),
        job = m.job_shown(),
        table = m.table(),
        running = m.judged(),
        again = judge.workload_made_again()?,
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
pub async fn governed(database: &Database, judge: &Judge<'_>) -> Result<BTreeMap<String, i64>, DbError> {
    let m = judge.mapping;
    // The statement groups before it unnests: there are few combinations of sources, and many executions.
    let sql = format!(
        "WITH {rules},
         way AS (SELECT ARRAY[verdict.timeout_source, verdict.grace_source, verdict.heartbeat_source, verdict.action_source, verdict.warn_source] AS sources,
                        count(*) AS executions
                 FROM {table} AS execution {joined} WHERE {running} GROUP BY 1)
         SELECT source, sum(executions)::bigint AS executions
         FROM way CROSS JOIN LATERAL (SELECT DISTINCT unnest(sources) AS source) AS said
         WHERE source IS NOT NULL GROUP BY source",
        rules = judge.rules(),
        table = m.table(),
        joined = judge.joined(),
        running = m.running(),
    );
    let mut tx = database.read().await?;
    let rows = judge.bind(sqlx::query(AssertSqlSafe(sql))).persistent(false).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    rows.into_iter().map(|row| Ok((row.try_get("source")?, row.try_get("executions")?))).collect()
}
