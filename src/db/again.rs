//! Executions that run again in the same row and keep the start of the previous run: they are past their deadline immediately.
//! Nobody can know whether such a row is alive, but the application sees why it is ended each time, and it gets a grace period to
//! set its start.

use sqlx::AssertSqlSafe;

use super::ids::id_of;
use super::judge::{Rules, Take};
use super::observations::{self, Kind, Seen};
use super::{Database, DbError, Judge};

/// The action that is recorded for such an execution, in addition to the action that ends it.
pub const STARTED_AGAIN: &str = "StartedAgain";

/// Records which stale executions were ended before, or were seen to have ended, with the start that they have now. The caller
/// calls it before it ends them.
///
/// # Errors
/// Returns the errors of the database; then nothing was written.
pub async fn note(database: &Database, judge: &Judge<'_>) -> Result<(), DbError> {
    let Rules::Table(_) = judge.rules else { return Ok(()) };
    let m = judge.mapping;
    let (id, start) = (m.id(), m.started_at());
    let again = format!(
        "WITH {ctes},
         again AS MATERIALIZED (
             SELECT * FROM (
                 SELECT {id}::text AS id, {job} AS job_id, {number}::bigint AS number, {start} AS started_at, b.store AS source,
                        COALESCE((SELECT w.at FROM jobexec.events AS w
                                  WHERE w.store_id = $4 AND w.execution_id = {id}::text AND w.started_at = {start}
                                    AND w.action IN ('Failed', 'Cancelled') ORDER BY w.event_id DESC LIMIT 1),
                                 (SELECT o.since FROM jobexec.observations AS o
                                  WHERE o.store_id = $4 AND o.kind = '{ended}' AND o.execution_id = {id}::text
                                    AND o.started_at = {start})) AS ended_at
                 FROM stale JOIN {table} AS t ON {id} = stale.id CROSS JOIN b WHERE {running}) AS found
             WHERE ended_at IS NOT NULL AND ((
                 SELECT o.since >= found.ended_at FROM jobexec.observations AS o
                 WHERE o.store_id = $4 AND o.kind = '{kind}' AND o.execution_id = found.id AND o.started_at = found.started_at)) IS NOT TRUE)",
        ctes = judge.ctes(Take::LookAtAll),
        job = m.job_shown(),
        number = m.number(),
        ended = Kind::Ended.as_str(),
        kind = Kind::StartedAgain.as_str(),
        table = m.table(),
        running = m.judged(),
    );
    let any = format!("{again} SELECT EXISTS (SELECT FROM again)");
    let write = format!(
        "{again},
         noted AS (
             INSERT INTO jobexec.observations AS o (store_id, kind, execution_id, started_at, since)
             SELECT $4, '{kind}', id, started_at, statement_timestamp() FROM again
             ON CONFLICT (store_id, kind, execution_id) DO UPDATE SET started_at = excluded.started_at, since = excluded.since)
         INSERT INTO jobexec.events (at, store_id, execution_id, job_id, execution_number, action, reason, source, note, started_at)
         SELECT statement_timestamp(), $4, id, job_id, number, '{STARTED_AGAIN}', 'StartUnchanged', source,
                'its run ended at ' || to_char(ended_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
                || ', and it runs again with the same start: what runs it again has to set that', started_at
         FROM again",
        kind = Kind::StartedAgain.as_str(),
    );
    let bind = |sql: String| judge.bind(sqlx::query(AssertSqlSafe(sql))).persistent(false);
    observations::write_if(database, bind(any), bind(write)).await
}

/// Records which executions have ended after an alert, and deletes observations that no longer matter.
///
/// # Errors
/// Returns the errors of the database.
pub async fn update(database: &Database, judge: &Judge<'_>) -> Result<(), DbError> {
    let m = judge.mapping;
    let (id, table, start) = (m.id(), m.table(), m.started_at());
    let kept = |kind: Kind, which: String| {
        format!(
            "SELECT o.execution_id, o.started_at, o.detail FROM jobexec.observations AS o JOIN {table} AS t ON {id} = {key}
             WHERE o.store_id = $1 AND o.kind = '{}' AND {start} = o.started_at AND {which}",
            kind.as_str(),
            key = id_of("o.execution_id", m.id_type()),
        )
    };
    let now = kept(Kind::StartedAgain, m.judged());
    observations::update(
        database,
        judge,
        &Seen { kind: Kind::StartedAgain, now, matters: None, parameters: None },
    )
    .await?;
    if !judge.effective_rules.may_alert_only() {
        return Ok(());
    }
    let ended = format!(
        "SELECT e.execution_id, e.started_at, NULL::text AS detail FROM jobexec.events AS e JOIN {table} AS t ON {id} = {key}
         WHERE e.store_id = $1 AND e.action = 'Alerted' AND e.at > statement_timestamp() - make_interval(days => 7)
           AND {start} = e.started_at AND {finished} GROUP BY 1, 2",
        key = id_of("e.execution_id", m.id_type()),
        finished = m.finished(),
    );
    // Executions that ended before are already recorded.
    let matters = format!("{} UNION SELECT * FROM seen", kept(Kind::Ended, m.begun()));
    observations::update(
        database,
        judge,
        &Seen { kind: Kind::Ended, now: ended, matters: Some(matters), parameters: None },
    )
    .await
}

/// Counts the executions that ran again with an unchanged start within the last 24 hours.
///
/// # Errors
/// Returns the errors of the database.
pub async fn count(database: &Database, store_id: i64) -> Result<i64, DbError> {
    let mut tx = database.read().await?;
    let count = sqlx::query_scalar(
        "SELECT count(DISTINCT execution_id) FROM jobexec.events
         WHERE store_id = $1 AND action = $2 AND at >= statement_timestamp() - interval '24 hours'",
    )
    .bind(store_id)
    .bind(STARTED_AGAIN)
    .persistent(false)
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(count)
}
