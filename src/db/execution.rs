//! One execution: the row as it is, and how it is judged.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::types::PgInterval;
use sqlx::{AssertSqlSafe, Row as _};

use super::judge::{NEXT_PARAMETER, WARN};
use super::mapping::wire;
use super::{Database, DbError, Judge, Ledger};
use crate::api::Phase;

/// A row, with the timeout that governs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Where it stands.
    pub phase: Phase,
    /// The status as the table has it.
    pub status: String,
    /// Its job.
    pub job_id: Option<String>,
    /// Its number within the job.
    pub number: Option<i64>,
    /// When it started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// How long it may run.
    pub timeout: TimeDelta,
    /// The object that says so.
    pub source: String,
    /// The object that extends its timeout, if one does.
    pub extend_source: Option<String>,
    /// When it is stale if it still runs, or was when the operator ended it; `None` without a start.
    pub deadline: Option<DateTime<Utc>>,
    /// Whether it has run for longer than is expected of it.
    pub long_running: bool,
    /// The object that says when that is so.
    pub warn_source: String,
    /// Why the operator ended it, if it did.
    pub reason: Option<String>,
    /// The object that said so then.
    pub ended_by: Option<String>,
}

/// The row with this id (in its canonical form), or `None`.
pub async fn find(
    database: &Database,
    judge: &Judge<'_>,
    ledger: &Ledger,
    id: &str,
) -> Result<Option<Execution>, DbError> {
    let m = judge.mapping;
    let key = NEXT_PARAMETER;
    // The newest event counts only if it is the one that gave the row its end: ids may be used again. The column may
    // keep fewer digits of the time than the event does.
    let ended = match ledger {
        Ledger::Missing(_) => {
            "SELECT NULL::text AS reason, NULL::text AS source, NULL::timestamptz AS deadline".to_owned()
        }
        Ledger::Tables { store_id } => format!(
            "SELECT o.reason, o.source, o.deadline FROM jobexec.events AS o \
             WHERE o.store_id = {store_id} AND o.execution_id = ${key} \
               AND o.at BETWEEN {end} - interval '1 second' AND {end} + interval '1 second' \
               AND o.action IN ('Failed', 'Cancelled') ORDER BY o.event_id DESC LIMIT 1",
            end = m.completed_at()
        ),
    };
    let sql = format!(
        "WITH {rules}
         SELECT {status}::text AS status, {job}::text AS job_id, {number}::bigint AS number,
                {shown_start} AS started_at, {shown_end} AS completed_at,
                ended.reason, ended.source AS ended_by, v.timeout, v.timeout_source AS source,
                COALESCE(ended.deadline, {began} + v.timeout + v.extend_by + v.grace) AS deadline,
                {running} AND {start} < statement_timestamp() - {WARN} AS long_running, v.warn_source, e.extend_source
         FROM {table} AS t {joined} LEFT JOIN LATERAL ({ended}) AS ended ON true
         WHERE {id} = ${key}::{type_}",
        rules = judge.rules(),
        joined = judge.joined(),
        began = wire(&m.began_at()),
        start = m.started_at(),
        running = m.running(),
        status = m.status(),
        job = m.job_id(),
        number = m.number(),
        shown_start = wire(&m.started_at()),
        shown_end = wire(&m.completed_at()),
        table = m.table(),
        id = m.id(),
        type_ = format_args!("text::{}", m.id_type().sql()),
    );
    let mut tx = database.read().await?;
    let query = judge.bind(sqlx::query(AssertSqlSafe(sql.as_str()))).bind(id).persistent(false);
    let row = query.fetch_optional(&mut *tx).await?;
    tx.commit().await?;
    let Some(row) = row else { return Ok(None) };
    let status: Option<String> = row.try_get("status")?;
    let timeout: PgInterval = row.try_get("timeout")?;
    Ok(Some(Execution {
        phase: status.as_deref().map_or(Phase::Unmapped, |text| m.phase(text)),
        status: status.unwrap_or_else(|| "NULL".to_owned()),
        job_id: row.try_get("job_id")?,
        number: row.try_get("number")?,
        started_at: row.try_get("started_at")?,
        completed_at: row.try_get("completed_at")?,
        timeout: TimeDelta::microseconds(timeout.microseconds),
        source: row.try_get("source")?,
        extend_source: row.try_get("extend_source")?,
        deadline: row.try_get("deadline")?,
        long_running: row.try_get::<Option<bool>, _>("long_running")?.unwrap_or_default(),
        warn_source: row.try_get("warn_source")?,
        reason: row.try_get("reason")?,
        ended_by: row.try_get("ended_by")?,
    }))
}
