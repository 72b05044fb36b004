//! The audit log in `jobexec.events`: what was done, when, why and by whom.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::decode::{At, MaybeAt};
use super::mapping::{RECORD_CHARS, TEXT_CHARS, clamp_timestamp};
use super::{Database, DbError, Mapping};

/// The entries to return.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only of this execution, by its id in canonical form.
    pub execution_id: Option<String>,
    /// Only of executions of this job.
    pub job_id: Option<String>,
    /// Only those recorded within this time before now.
    pub since: Option<TimeDelta>,
    /// Only those before the entry with this `event_id`, where the previous page ended.
    pub before: Option<i64>,
}

/// An action on an execution, or a message about it.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Entry {
    /// Its position: a later entry has a larger one.
    pub event_id: i64,
    /// The time of the record, by the database's clock.
    #[sqlx(try_from = "At")]
    pub at: DateTime<Utc>,
    /// The id of the execution.
    pub execution_id: String,
    /// The job of the execution, if it was recorded.
    pub job_id: Option<String>,
    /// The number of the execution within the job.
    pub execution_number: Option<i64>,
    /// The action: `Failed`, `Cancelled`, `Warned`, `Alerted`, `DeadlineMoved`, `FinishedLate`, `StartedAgain`.
    pub action: String,
    /// The reason, for example `DeadlineExceeded`.
    pub reason: String,
    /// The object that decided it, or `CommandLine`.
    pub source: String,
    /// The person who requested it, if known.
    pub actor: Option<String>,
    /// Further details.
    pub note: Option<String>,
    /// The start of the execution.
    #[sqlx(try_from = "MaybeAt")]
    pub started_at: Option<DateTime<Utc>>,
    /// The deadline of the execution at that time.
    #[sqlx(try_from = "MaybeAt")]
    pub deadline: Option<DateTime<Utc>>,
}

/// Returns the entries of a store, newest first, at most `limit`.
pub async fn history(
    database: &Database,
    store_id: i64,
    filter: &Filter,
    limit: u32,
) -> Result<Vec<Entry>, DbError> {
    let mut tx = database.read().await?;
    let entries = sqlx::query_as(include_str!("audit/history.sql"))
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

/// Returns the query for what is recorded about the end of the row `execution`, for which the condition `ended` holds: `reason`,
/// `source`, `actor`, `note` and `deadline`. `store_id` is the store's id or its parameter; `None`: nothing is recorded.
pub(super) fn end_of_row(m: &Mapping, ended: &str, store_id: Option<&str>) -> String {
    let Some(store_id) = store_id else {
        return "SELECT NULL::text AS reason, NULL::text AS source, NULL::text AS actor, NULL::text AS note,
                       NULL::timestamptz AS deadline"
            .to_owned();
    };
    format!(
        include_str!("audit/end_of_row.sql"),
        record_chars = RECORD_CHARS,
        deadline = clamp_timestamp("event.deadline"),
        ended = ended,
        store_id = store_id,
        id = m.id(),
        completed_at = clamp_timestamp(&m.completed_at()),
    )
}
