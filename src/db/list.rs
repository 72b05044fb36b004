//! Lists stale executions, each with the reason and the object that decides it: what a sweep would do, and the dry run.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Row as _};

use super::decode;
use super::mapping::clamp_timestamp;
use super::staleness::Selection;
use super::{Database, DbError, StalenessPredicate};

/// A stale execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// The id of the row.
    pub id: String,
    /// Its job.
    pub job_id: Option<String>,
    /// Its number within the job.
    pub number: Option<i64>,
    /// Its start; `None` if only its creation is known.
    pub started_at: Option<DateTime<Utc>>,
    /// Its deadline.
    pub deadline: Option<DateTime<Utc>>,
    /// The reason why it is stale.
    pub reason: String,
    /// The object that decides it.
    pub source: String,
    /// The action for it: `Fail`, `Cancel`, `Retry` or `AlertOnly`.
    pub action: String,
}

/// Returns the stale executions, at most `limit`, including those that are allowed to continue, the longest-running first.
pub async fn stale(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    limit: i64,
) -> Result<Vec<Stale>, DbError> {
    let m = predicate.mapping;
    let sql = format!(
        include_str!("list/stale.sql"),
        predicate = predicate.ctes(Selection::LookAtAll),
        id = m.id(),
        job_id = m.job_shown(),
        number = m.number(),
        started_at = clamp_timestamp(&m.started_at()),
        counts_from = predicate.counts_from(),
        deadline = predicate.deadline(),
        source = super::sweep::source("stale.reason"),
        action = predicate.action_now("stale.action"),
        table = m.table(),
        rules_of_row = predicate.joined(),
        limit = limit,
    );
    let mut tx = database.read().await?;
    let rows = predicate.bind(sqlx::query(AssertSqlSafe(sql))).persistent(false).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    rows.into_iter()
        .map(|row| {
            Ok(Stale {
                id: row.try_get("id")?,
                job_id: row.try_get("job_id")?,
                number: row.try_get("number")?,
                started_at: decode::maybe_at(&row, "started_at")?,
                deadline: decode::maybe_at(&row, "deadline")?,
                reason: row.try_get("reason")?,
                source: row.try_get("source")?,
                action: row.try_get("action")?,
            })
        })
        .collect()
}
