//! Counts of the rows that do not run. They read the whole table.

use sqlx::{AssertSqlSafe, Row as _};

use crate::db::{Database, DbError, Mapping};

/// Counts of the executions that do not run. Without an index of their own these counts read the whole table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableCounts {
    /// Executions that wait.
    pub scheduled: i64,
    /// Executions that started within 24 hours.
    pub recent: i64,
    /// Executions that started within an hour.
    pub last_hour: i64,
}

/// Counts of the rows that contradict themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntegrityViolations {
    /// Rows whose status is not in the mapping.
    pub unmapped: i64,
    /// One of those statuses, for the message.
    pub example: Option<String>,
    /// Executions that run and have no start.
    pub running_without_start: i64,
    /// Executions that have ended and have no end.
    pub finished_without_end: i64,
    /// Executions that ended before they started.
    pub ended_before_start: i64,
    /// Executions that run and have an end.
    pub running_with_end: i64,
    /// Executions that run and start more than one minute in the future.
    pub start_in_future: i64,
    /// Executions that run and started before they were created, by more than clocks may differ.
    pub started_before_created: i64,
    /// Executions that were run again within a day with the start of a run that had ended, as counted by [`crate::db::again`].
    pub started_again: i64,
    /// Rows whose id is missing, or longer than the operator handles.
    pub id_too_long: i64,
}

/// Counts the executions that do not run.
pub async fn census(database: &Database, m: &Mapping) -> Result<TableCounts, DbError> {
    let sql = format!(
        include_str!("table_counts.sql"),
        table = m.table(),
        scheduled = m.scheduled(),
        started_at = m.started_column(),
        exists = m.exists(),
        before = m.started_by("statement_timestamp() - interval '24 hours'"),
        before_hour = m.started_by("statement_timestamp() - interval '1 hour'"),
        ignored = m.ignored(),
    );
    let mut tx = database.read().await?;
    let row = sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(TableCounts {
        scheduled: row.try_get("scheduled")?,
        recent: row.try_get("recent")?,
        last_hour: row.try_get("last_hour")?,
    })
}

/// Counts the rows that contradict themselves. It reads the whole table, so call it rarely.
pub async fn contradictions(database: &Database, m: &Mapping) -> Result<IntegrityViolations, DbError> {
    let sql = format!(
        include_str!("contradictions.sql"),
        exists = m.exists(),
        mapped = m.mapped(),
        status = m.status(),
        running = m.running(),
        finished = m.finished(),
        start = m.started_column(),
        end = m.completed_column(),
        ended_at = m.completed_at(),
        started_at = m.started_at(),
        started_by_now = m.started_by("statement_timestamp() + interval '1 minute'"),
        before_created = m.started_before_created(),
        handled = m.only_handled("true".to_owned()),
        table = m.table(),
    );
    let mut tx = database.read().await?;
    let row = sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(IntegrityViolations {
        unmapped: row.try_get("unmapped")?,
        example: row.try_get("example")?,
        running_without_start: row.try_get("running_without_start")?,
        finished_without_end: row.try_get("finished_without_end")?,
        ended_before_start: row.try_get("ended_before_start")?,
        running_with_end: row.try_get("running_with_end")?,
        start_in_future: row.try_get("start_in_future")?,
        started_before_created: row.try_get("started_before_created")?,
        started_again: 0,
        id_too_long: row.try_get("id_too_long")?,
    })
}
