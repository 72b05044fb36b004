//! The first step of the escalation: long-running executions are reported once each, and so are stale ones that are allowed to
//! continue. `jobexec.events` stores the reports, and notifications are created from it.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Row as _};

use super::decode;
use super::intervals::interval;
use super::mapping::{clamp_timestamp, literal};
use super::observations::Kind;
use super::staleness::{Rules, Selection, WARN};
use super::{Database, DbError, Ledger, StalenessPredicate, outbox};

/// The maximum number of executions that one call reports; the next call reports others.
const AT_ONCE: usize = 1_000;

/// An execution that is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warned {
    /// The id of the row.
    pub id: String,
    /// Its job.
    pub job_id: Option<String>,
    /// Its start.
    pub started_at: Option<DateTime<Utc>>,
    /// The time at which it becomes stale if it still runs then.
    pub deadline: Option<DateTime<Utc>>,
    /// `LongRunning`, or the reason why it is stale.
    pub reason: String,
    /// The object that decides it.
    pub source: String,
}

/// Records the executions to report that were not reported yet, and returns them. Does not warn of executions that are already
/// stale. Without the operator's tables, reports nothing.
pub async fn update(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    ledger: &Ledger,
) -> Result<Vec<Warned>, DbError> {
    let Rules::Table(_) = predicate.rules else { return Ok(Vec::new()) };
    let due = due(predicate);
    // Usually there are none, and then nothing is written.
    let mut tx = database.read().await?;
    let any = predicate.bind(sqlx::query(AssertSqlSafe(format!("{due} SELECT FROM due LIMIT 1"))));
    let any = any.persistent(false).fetch_optional(&mut *tx).await?;
    tx.commit().await?;
    if any.is_none() {
        return Ok(Vec::new());
    }
    let sql = format!(include_str!("warnings/record.sql"), due = due, posted = outbox::posting(ledger, "$4"));
    let mut tx = database.write().await?;
    let rows = predicate.bind(sqlx::query(AssertSqlSafe(sql))).persistent(false).fetch_all(&mut *tx).await?;
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

/// Returns the executions to report: past the warning time, or stale and allowed to continue.
fn due(predicate: &StalenessPredicate<'_>) -> String {
    let m = predicate.mapping;
    let counts_from = predicate.counts_from();
    let began = began(predicate);
    let deadline = predicate.deadline();
    let columns = format!(
        "{id}::text AS id, {job} AS job_id, {number}::bigint AS number, {began} AS started_at, \
         {deadline} AS deadline",
        id = m.id(),
        job = m.job_shown(),
        number = m.number(),
    );
    let shortest = predicate.effective_rules.shortest_warning(m.row_limit_column().is_some());
    let earliest = format!("statement_timestamp() - interval {}", literal(&interval(shortest)));
    // Only if some are allowed to continue, because it costs as much as everything else.
    let (ctes, alerts) = if predicate.effective_rules.may_alert_only() {
        (predicate.ctes(Selection::LookAtAll), alerts(predicate, &columns))
    } else {
        (predicate.rules(), String::new())
    };
    format!(
        include_str!("warnings/due.sql"),
        predicate = ctes,
        columns = columns,
        table = m.table(),
        rules_of_row = predicate.joined(),
        running = m.judged(),
        started_early_enough = m.started_by(&earliest),
        counts_from = counts_from,
        warn_after = WARN,
        not_warned_of = untold(predicate, "Warned", ""),
        deadline = deadline,
        order = m.started_column(),
        limit = AT_ONCE,
        alerts = alerts,
    )
}

/// Returns the time that distinguishes one run from another: the time that counts may change, for example with the creation.
fn began(predicate: &StalenessPredicate<'_>) -> String {
    format!("COALESCE({}, {})", clamp_timestamp(&predicate.mapping.started_at()), predicate.counts_from())
}

/// Returns the condition that the run of the row `execution` was not reported with this action, and `more`.
fn untold(predicate: &StalenessPredicate<'_>, action: &str, more: &str) -> String {
    format!(
        "NOT EXISTS (SELECT FROM jobexec.events AS event WHERE event.store_id = $4 AND event.execution_id = {}::text
                     AND event.action = '{action}' AND event.started_at = {began} {more})",
        predicate.mapping.id(),
        began = began(predicate),
    )
}

/// Returns the stale executions that are allowed to continue.
fn alerts(predicate: &StalenessPredicate<'_>, columns: &str) -> String {
    let m = predicate.mapping;
    // For each run, even if it has the start of the previous one.
    let again = format!(
        "(SELECT observation.since FROM jobexec.observations AS observation
          WHERE observation.store_id = $4 AND observation.kind = '{}'
            AND observation.execution_id = {}::text AND observation.started_at = {})",
        Kind::StartedAgain.as_str(),
        m.id(),
        m.started_at()
    );
    format!(
        include_str!("warnings/alerts.sql"),
        columns = columns,
        source = super::sweep::source("stale.reason"),
        table = m.table(),
        id = m.id(),
        rules_of_row = predicate.joined(),
        running = m.judged(),
        not_alerted_of =
            untold(predicate, "Alerted", &format!("AND event.again_at IS NOT DISTINCT FROM {again}")),
        again_at = again,
        limit = AT_ONCE,
    )
}
