//! Executions that run again in the same row and keep the start of the previous run: they are past their deadline immediately.
//! Nobody can know whether such a row is alive, but the application sees why it is ended each time, and it gets a grace period to
//! set its start.

use sqlx::AssertSqlSafe;

use super::ids::id_of;
use super::observations::{self, Kind, Seen};
use super::staleness::{Rules, Selection};
use super::{Database, DbError, StalenessPredicate};

/// The action that is recorded for such an execution, in addition to the action that ends it.
pub const STARTED_AGAIN: &str = "StartedAgain";

/// Records which stale executions were ended before, or were seen to have ended, with the start that they have now. The caller
/// calls it before it ends them.
///
/// # Errors
/// Returns the errors of the database; then nothing was written.
pub async fn note(database: &Database, predicate: &StalenessPredicate<'_>) -> Result<(), DbError> {
    let Rules::Table(_) = predicate.rules else { return Ok(()) };
    let m = predicate.mapping;
    let (id, start) = (m.id(), m.started_at());
    let again = format!(
        include_str!("again/again.sql"),
        predicate = predicate.ctes(Selection::LookAtAll),
        id = id,
        job_id = m.job_shown(),
        number = m.number(),
        start = start,
        ended = Kind::Ended.as_str(),
        started_again = Kind::StartedAgain.as_str(),
        table = m.table(),
        running = m.judged(),
    );
    let any = format!("{again} SELECT EXISTS (SELECT FROM again)");
    let write = format!(
        include_str!("again/note.sql"),
        again = again,
        started_again = Kind::StartedAgain.as_str(),
        action = STARTED_AGAIN,
    );
    let bind = |sql: String| predicate.bind(sqlx::query(AssertSqlSafe(sql))).persistent(false);
    observations::write_if(database, bind(any), bind(write)).await
}

/// Records which executions have ended after an alert, and deletes observations that no longer matter.
///
/// # Errors
/// Returns the errors of the database.
pub async fn update(database: &Database, predicate: &StalenessPredicate<'_>) -> Result<(), DbError> {
    let m = predicate.mapping;
    let (id, table, start) = (m.id(), m.table(), m.started_at());
    let kept = |kind: Kind, which: String| {
        format!(
            include_str!("again/kept.sql"),
            table = table,
            id = id,
            observed_id = id_of("observation.execution_id", m.id_type()),
            kind = kind.as_str(),
            start = start,
            condition = which,
        )
    };
    let now = kept(Kind::StartedAgain, m.judged());
    observations::update(
        database,
        predicate,
        &Seen { kind: Kind::StartedAgain, now, matters: None, parameters: None },
    )
    .await?;
    if !predicate.effective_rules.may_alert_only() {
        return Ok(());
    }
    let ended = format!(
        include_str!("again/alerted.sql"),
        table = table,
        id = id,
        recorded_id = id_of("event.execution_id", m.id_type()),
        start = start,
        finished = m.finished(),
    );
    // Executions that ended before are already recorded.
    let matters = format!("{} UNION SELECT * FROM seen", kept(Kind::Ended, m.begun()));
    observations::update(
        database,
        predicate,
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
