//! Reads executions and their verdicts: those with given ids, and those that should have an object.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgRow;
use sqlx::postgres::types::PgInterval;
use sqlx::{AssertSqlSafe, Row as _};

use super::decode::{self, At};
use super::intervals::{delta, interval};
use super::mapping::{clamp_timestamp, literal};
use super::staleness::Selection;
use super::{Database, DbError, Ledger, Mapping, StalenessPredicate, audit};
use crate::api::{Limit, Phase};

/// A row, with the timeout that governs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// The id, in the form that Postgres prints.
    pub id: String,
    /// The phase.
    pub phase: Phase,
    /// The status in the table.
    pub status: String,
    /// Its job.
    pub job_id: Option<String>,
    /// The type of that job, if types are known.
    pub job_type: Option<String>,
    /// Its number within the job.
    pub number: Option<i64>,
    /// Its start.
    pub started_at: Option<DateTime<Utc>>,
    /// Its end.
    pub completed_at: Option<DateTime<Utc>>,
    /// The timeout.
    pub timeout: Limit<TimeDelta>,
    /// The object that sets the timeout.
    pub source: String,
    /// The object that extends its timeout, if one does.
    pub extend_source: Option<String>,
    /// The time at which it is stale if it still runs, or was stale when the operator ended it; `None` without a start.
    pub deadline: Option<DateTime<Utc>>,
    /// True if it has run for longer than expected.
    pub long_running: bool,
    /// The object that sets the expected duration.
    pub warn_source: String,
    /// The reason why the operator ended it, if it did.
    pub reason: Option<String>,
    /// The object that decided it.
    pub ended_by: Option<String>,
    /// The person who requested it, if a person did and is known.
    pub actor: Option<String>,
    /// Further details that were recorded, for example why its workload failed.
    pub note: Option<String>,
    /// True if it is stale now.
    pub stale: bool,
    /// True if it is in the [`Window`].
    pub picked: bool,
}

/// The executions that should have an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The maximum number of running executions, where stale and then longest-running ones come first; and the maximum number of
    /// ended executions, the latest first.
    pub limit: u32,
    /// The maximum time since those ended. Without an index on the end, none are searched.
    pub finished: TimeDelta,
}

/// Rows at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executions {
    /// The moment, by the database's clock.
    pub now: DateTime<Utc>,
    /// The rows, in no particular order.
    pub rows: Vec<Execution>,
}

/// Returns the rows with these ids (in their canonical form) and those of `window`: up to one stale and one running row more than
/// the window has room for, which shows that there are more.
pub async fn read(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    ledger: &Ledger,
    ids: &[String],
    window: Option<Window>,
) -> Result<Executions, DbError> {
    let sql = statement(predicate, ledger, window);
    let mut tx = database.read().await?;
    let At(now) =
        sqlx::query_scalar("SELECT statement_timestamp()").persistent(false).fetch_one(&mut *tx).await?;
    let query = predicate.bind(sqlx::query(AssertSqlSafe(sql))).bind(ids).persistent(false);
    // Decodes row by row: ten thousand rows must not be held twice.
    let rows = query.try_map(|row| execution(predicate.mapping, &row)).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    Ok(Executions { now, rows })
}

fn statement(predicate: &StalenessPredicate<'_>, ledger: &Ledger, window: Option<Window>) -> String {
    let m = predicate.mapping;
    let (type_, id) = (m.id_type().sql(), m.id());
    let ctes = match window {
        Some(_) => predicate.ctes(Selection::LookAtAll),
        None => format!("{}, stale AS (SELECT NULL::{type_} AS id WHERE false)", predicate.rules()),
    };
    let store_id = match ledger {
        Ledger::Missing(_) => None,
        Ledger::Tables { store_id, .. } => Some(store_id.to_string()),
    };
    format!(
        include_str!("execution/read.sql"),
        predicate = ctes,
        picked = picked(m, window),
        id = id,
        id_type = type_,
        exists = m.exists(),
        rules_of_row = predicate.joined(),
        deadline = m.unless_paused(predicate.deadline()),
        long_running = predicate.runs_long(),
        running = m.running(),
        status = m.status_shown(),
        job_id = m.job_shown(),
        job_type = m.type_shown(),
        number = m.number(),
        started_at = clamp_timestamp(&m.started_at()),
        completed_at = clamp_timestamp(&m.completed_at()),
        table = m.table(),
        recorded = audit::end_of_row(m, &m.finished(), store_id.as_deref()),
    )
}

/// Returns the query for the ids in a window.
fn picked(m: &Mapping, window: Option<Window>) -> String {
    let (id, table) = (m.id(), m.table());
    let Some(Window { limit, finished }) = window else {
        return format!("SELECT NULL::{} AS id WHERE false", m.id_type().sql());
    };
    let ended = if m.indexed_by_end() {
        let cutoff = format!("statement_timestamp() - interval {}", literal(&interval(finished)));
        format!(
            "UNION (SELECT {id} FROM {table} AS execution WHERE {} AND {} AND {} ORDER BY {} DESC LIMIT {limit})",
            m.only_handled(m.finished()),
            m.completed_after(&cutoff),
            m.completed_by("statement_timestamp()"),
            m.completed_column()
        )
    } else {
        String::new()
    };
    format!(
        include_str!("execution/picked.sql"),
        one_more = limit.saturating_add(1),
        id = id,
        table = table,
        running = m.judged(),
        start = m.started_column(),
        ended = ended,
    )
}

fn execution(m: &Mapping, row: &PgRow) -> Result<Execution, sqlx::Error> {
    let status: Option<String> = row.try_get("status")?;
    let timeout: Option<PgInterval> = row.try_get("timeout")?;
    Ok(Execution {
        id: row.try_get("id")?,
        phase: status.as_deref().map_or(Phase::Unmapped, |text| m.phase(text)),
        status: status.unwrap_or_else(|| "NULL".to_owned()),
        job_id: row.try_get("job_id")?,
        job_type: row.try_get("job_type")?,
        number: row.try_get("number")?,
        started_at: decode::maybe_at(row, "started_at")?,
        completed_at: decode::maybe_at(row, "completed_at")?,
        timeout: Limit::of(timeout.as_ref().map(delta)),
        source: row.try_get("source")?,
        extend_source: row.try_get("extend_source")?,
        deadline: decode::maybe_at(row, "deadline")?,
        long_running: row.try_get::<Option<bool>, _>("long_running")?.unwrap_or_default(),
        warn_source: row.try_get("warn_source")?,
        reason: row.try_get("reason")?,
        ended_by: row.try_get("ended_by")?,
        actor: row.try_get("actor")?,
        note: row.try_get("note")?,
        stale: row.try_get::<Option<bool>, _>("stale")?.unwrap_or_default(),
        picked: row.try_get::<Option<bool>, _>("picked")?.unwrap_or_default(),
    })
}
