//! What was done, when, why and by whom, as `jobexec.events` has it.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::decode::{At, MaybeAt};
use super::mapping::{RECORD_CHARS, TEXT_CHARS};
use super::{Database, DbError};

/// What to tell of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only of this execution, by its id in canonical form.
    pub execution_id: Option<String>,
    /// Only of executions of this job.
    pub job_id: Option<String>,
    /// Only what was done within so long.
    pub since: Option<TimeDelta>,
    /// Only what was done before this one, by its `event_id`: where the page before ended.
    pub before: Option<i64>,
}

/// Something that was done to an execution, or told of it.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Entry {
    /// Its place: a later one has a larger one.
    pub event_id: i64,
    /// When, by the database's clock.
    #[sqlx(try_from = "At")]
    pub at: DateTime<Utc>,
    /// To which execution.
    pub execution_id: String,
    /// Its job, where that was recorded.
    pub job_id: Option<String>,
    /// Its number within the job.
    pub execution_number: Option<i64>,
    /// What: `Failed`, `Cancelled`, `Warned`, `Alerted`, `DeadlineMoved`, `FinishedLate`,
    /// `StartedAgain`.
    pub action: String,
    /// Why, for example `DeadlineExceeded`.
    pub reason: String,
    /// The object that says so, or `CommandLine`.
    pub source: String,
    /// Who asked for it, as far as that is known.
    pub actor: Option<String>,
    /// What else is to be said.
    pub note: Option<String>,
    /// When the execution had started.
    #[sqlx(try_from = "MaybeAt")]
    pub started_at: Option<DateTime<Utc>>,
    /// What its deadline was.
    #[sqlx(try_from = "MaybeAt")]
    pub deadline: Option<DateTime<Utc>>,
}

/// What was done in a store, the latest first, at most `limit`.
pub async fn history(
    database: &Database,
    store_id: i64,
    filter: &Filter,
    limit: u32,
) -> Result<Vec<Entry>, DbError> {
    let mut tx = database.read().await?;
    let entries = sqlx::query_as(
        "SELECT event_id, at, left(execution_id, $8) AS execution_id, left(job_id, $7) AS job_id, execution_number,
                left(action, $8) AS action, left(reason, $8) AS reason, left(source, $8) AS source,
                left(actor, $8) AS actor, left(note, $8) AS note, started_at, deadline
         FROM jobexec.events
         WHERE store_id = $1 AND ($2::text IS NULL OR execution_id = $2) AND ($3::text IS NULL OR left(job_id, $7) = left($3, $7))
           AND ($4::interval IS NULL OR at >= statement_timestamp() - $4)
           AND ($5::bigint IS NULL OR event_id < $5)
         ORDER BY event_id DESC LIMIT $6",
    )
    .bind(store_id)
    .bind(filter.execution_id.as_deref())
    .bind(filter.job_id.as_deref())
    .bind(filter.since)
    .bind(filter.before)
    .bind(i64::from(limit))
    .bind(i32::from(TEXT_CHARS))
    .bind(RECORD_CHARS)
    .persistent(false)
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(entries)
}
