//! The latest retry of one execution.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::Row as _;

use crate::db::ending::Ending;
use crate::db::staleness::Rules;
use crate::db::{Database, DbError, StalenessPredicate, decode};

/// The latest retry of an execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Latest {
    /// The number of the next attempt.
    pub attempt: i64,
    /// When the next attempt may start.
    pub due_at: DateTime<Utc>,
    /// What became of it.
    pub state: State,
    /// Why the table refused it, or why it was dropped.
    pub fault: Option<String>,
    /// The execution that is the next attempt, once it is there.
    pub next_id: Option<String>,
}

/// What became of a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It waits until the worker of the ended attempt is known to be gone.
    WaitsForWorker,
    /// It waits until it is due, and there is room in the budget.
    Pending,
    /// The table refused it; it is tried again.
    Refused,
    /// The next attempt is there.
    Retried,
    /// It was dropped.
    Dropped,
}

/// Reads the latest retry of an execution (its id in canonical form); `None` if there is none.
///
/// # Errors
/// Returns the errors of the database.
pub async fn latest(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    id: &str,
) -> Result<Option<Latest>, DbError> {
    let Rules::Table(store_id) = predicate.rules else { return Ok(None) };
    if !predicate.mapping.retries_by_operator() {
        return Ok(None);
    }
    let mut tx = database.read().await?;
    let query = sqlx::query(include_str!("latest.sql")).bind(store_id).bind(id).persistent(false);
    let row = query.fetch_optional(&mut *tx).await?;
    tx.commit().await?;
    let Some(row) = row else { return Ok(None) };
    let fault: Option<String> = row.try_get("fault")?;
    let state = match row.try_get::<Option<&str>, _>("outcome")? {
        Some(outcome) if outcome == Ending::Retried.as_str() => State::Retried,
        Some(_) => State::Dropped,
        None if fault.is_some() => State::Refused,
        None if row.try_get("waits")? => State::WaitsForWorker,
        None => State::Pending,
    };
    Ok(Some(Latest {
        attempt: row.try_get::<i32, _>("attempt")?.into(),
        due_at: decode::at(&row, "due_at")?,
        state,
        fault,
        next_id: row.try_get("next_id")?,
    }))
}
