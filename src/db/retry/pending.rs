//! The retries that wait.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::postgres::types::PgInterval;

use super::last_hour;
use crate::db::intervals::delta;
use crate::db::{Database, DbError};

/// The shortest time until the next retry is looked for.
const SHORTEST: Duration = Duration::from_secs(1);

/// How many retries of a store were started lately, how many wait, and for what.
#[derive(Clone, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Pending {
    /// Those that were started within the last hour.
    pub last_hour: i64,
    /// All that wait.
    pub waiting: i64,
    /// Those that wait until the worker of the ended attempt is gone.
    pub for_worker: i64,
    /// Those that are due, and that nothing keeps but the budget, if it is spent, or that nothing may be written at present.
    pub due: i64,
    /// Those that the table refused, and that are tried again.
    pub refused: i64,
    /// Why one of them was refused, in the words of the server.
    pub fault: Option<String>,
    /// The time until the next one is due.
    due_in: Option<PgInterval>,
}

impl Pending {
    /// Returns the time until the next one is due, and at least a moment.
    pub fn due_in(&self) -> Option<Duration> {
        Some(delta(self.due_in.as_ref()?).to_std().unwrap_or_default().max(SHORTEST))
    }
}

/// Reads the retries of a store that wait.
///
/// # Errors
/// Returns the errors of the database.
pub async fn pending(database: &Database, store_id: i64) -> Result<Pending, DbError> {
    let mut tx = database.read().await?;
    let sql = format!(include_str!("pending.sql"), last_hour = last_hour("$1"));
    let pending =
        sqlx::query_as(AssertSqlSafe(sql)).bind(store_id).persistent(false).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(pending)
}
