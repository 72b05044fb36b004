//! The first step of the ladder: executions that run for long are told of once each, and so are stale ones that are to
//! run on. `jobexec.events` remembers it, and is what notifications are made of.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Row as _};

use super::decode;
use super::intervals::interval;
use super::judge::{Rules, Take, WARN};
use super::mapping::{literal, wire};
use super::observations::Kind;
use super::{Database, DbError, Judge, Ledger, outbox};

/// How many executions one call tells of; the next one tells of others.
const AT_ONCE: usize = 1_000;

/// An execution that is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warned {
    /// The row.
    pub id: String,
    /// Its job.
    pub job_id: Option<String>,
    /// When it started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it is stale if it still runs then.
    pub deadline: Option<DateTime<Utc>>,
    /// `LongRunning`, or why it is stale.
    pub reason: String,
    /// The object that says so.
    pub source: String,
}

/// Records whom to tell of that was not told of yet, and returns them. What is stale already is not warned of any more. Where nothing is recorded nobody is.
pub async fn update(database: &Database, judge: &Judge<'_>, ledger: &Ledger) -> Result<Vec<Warned>, DbError> {
    let Rules::Table(_) = judge.rules else { return Ok(Vec::new()) };
    let due = due(judge);
    // Mostly there is nobody, and then nothing is written.
    let mut tx = database.read().await?;
    let any = judge.bind(sqlx::query(AssertSqlSafe(format!("{due} SELECT FROM due LIMIT 1"))));
    let any = any.persistent(false).fetch_optional(&mut *tx).await?;
    tx.commit().await?;
    if any.is_none() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "{due},
         recorded AS (
         INSERT INTO jobexec.events (at, store_id, execution_id, job_id, execution_number, action, reason, source,
                                     started_at, deadline, again_at)
         SELECT statement_timestamp(), $4, id, job_id, number, action, reason, source, started_at, deadline, again_at FROM due
         ON CONFLICT (store_id, execution_id, action, started_at, COALESCE(again_at, '-infinity'::timestamptz)) WHERE action IN ('Warned', 'Alerted') DO NOTHING
         RETURNING event_id, execution_id, job_id, started_at, deadline, reason, source){posted}
         SELECT execution_id, job_id, started_at, deadline, reason, source FROM recorded",
        posted = outbox::posting(ledger, "$4"),
    );
    let mut tx = database.write().await?;
    let rows = judge.bind(sqlx::query(AssertSqlSafe(sql))).persistent(false).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    rows.into_iter()
        .map(|row| {
            Ok(Warned {
                id: row.try_get("execution_id")?,
                job_id: row.try_get("job_id")?,
                started_at: decode::maybe_at(&row, "started_at")?,
                deadline: decode::maybe_at(&row, "deadline")?,
                reason: row.try_get("reason")?,
                source: row.try_get("source")?,
            })
        })
        .collect()
}

/// Those to tell of: past the warning, or stale and to run on.
fn due(judge: &Judge<'_>) -> String {
    let m = judge.mapping;
    let counts_from = judge.counts_from();
    let began = began(judge);
    let deadline = judge.deadline();
    let columns = format!(
        "{id}::text AS id, {job} AS job_id, {number}::bigint AS number, {began} AS started_at, \
         {deadline} AS deadline",
        id = m.id(),
        job = m.job_shown(),
        number = m.number(),
    );
    let earliest = format!(
        "statement_timestamp() - interval {}",
        literal(&interval(judge.effective_rules.shortest_warning()))
    );
    // Only where some are to run on, since it costs as much as all the rest.
    let (ctes, alerted) = if judge.effective_rules.may_alert_only() {
        (judge.ctes(Take::LookAtAll), format!("UNION ALL\n             {}", alerted(judge, &columns)))
    } else {
        (judge.rules(), String::new())
    };
    format!(
        "WITH {ctes},
         due AS (
             (SELECT {columns}, 'Warned' AS action, 'LongRunning' AS reason, v.warn_source AS source, NULL::timestamptz AS again_at
              FROM {table} AS t {joined}
              WHERE {running} AND {started_by} AND {counts_from} <= statement_timestamp() - {WARN} AND {unwarned}
                AND {deadline} > statement_timestamp()
              ORDER BY {order} LIMIT {AT_ONCE})
             {alerted})",
        table = m.table(),
        joined = judge.joined(),
        running = m.judged(),
        started_by = m.started_by(&earliest),
        unwarned = untold(judge, "Warned", ""),
        order = m.started_column(),
    )
}

/// What tells one run from another: what counts may change, as with the creation.
fn began(judge: &Judge<'_>) -> String {
    format!("COALESCE({}, {})", wire(&judge.mapping.started_at()), judge.counts_from())
}

/// The condition that nobody was told of the run of the row `t` by this action, and `more`.
fn untold(judge: &Judge<'_>, action: &str, more: &str) -> String {
    format!(
        "NOT EXISTS (SELECT FROM jobexec.events AS w WHERE w.store_id = $4 AND w.execution_id = {}::text \
         AND w.action = '{action}' AND w.started_at = {began} {more})",
        judge.mapping.id(),
        began = began(judge),
    )
}

/// Those that are stale and are to run on.
fn alerted(judge: &Judge<'_>, columns: &str) -> String {
    let m = judge.mapping;
    // Of each run, also where it has the start of the one before.
    let again = format!(
        "(SELECT o.since FROM jobexec.observations AS o WHERE o.store_id = $4 AND o.kind = '{}' \
         AND o.execution_id = {}::text AND o.started_at = {})",
        Kind::StartedAgain.as_str(),
        m.id(),
        m.started_at()
    );
    format!(
        "(SELECT {columns}, 'Alerted' AS action, stale.reason, {source}, {again}
              FROM stale JOIN {table} AS t ON {id} = stale.id {joined}
              WHERE stale.action = 'AlertOnly' AND {running} AND {unalerted} LIMIT {AT_ONCE})",
        source = super::sweep::source("stale.reason"),
        table = m.table(),
        id = m.id(),
        joined = judge.joined(),
        running = m.judged(),
        unalerted = untold(judge, "Alerted", &format!("AND w.again_at IS NOT DISTINCT FROM {again}")),
    )
}
