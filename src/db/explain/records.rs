//! The records of one execution.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::db::decode::At;
use crate::db::held;
use crate::db::mapping::RECORD_CHARS;
use crate::db::staleness::Rules;
use crate::db::{Database, DbError, StalenessPredicate};

/// A record of something that was done to an execution, or reported of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Record {
    /// The time of the action.
    #[sqlx(try_from = "At")]
    pub at: DateTime<Utc>,
    /// The action, for example `Failed`.
    pub action: String,
    /// The reason.
    pub reason: String,
    /// The object that caused it.
    pub source: String,
    /// The person who asked for it, as far as the Kubernetes API reveals it.
    pub actor: Option<String>,
    /// Any further detail.
    pub note: Option<String>,
}

/// The maximum number of records.
const RECORDS: i64 = 20;

/// Returns the records of the execution, the latest last. Empty if nothing is recorded.
pub async fn records(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    id: &str,
) -> Result<Vec<Record>, DbError> {
    let Rules::Table(store_id) = predicate.rules else { return Ok(Vec::new()) };
    let mut tx = database.read().await?;
    let mut records: Vec<Record> = sqlx::query_as(include_str!("records.sql"))
        .bind(store_id)
        .bind(id)
        .bind(RECORDS)
        .bind(RECORD_CHARS)
        .persistent(false)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    records.reverse();
    let held = held::known(database, store_id).await?;
    records.extend(held.get(id).map(|held| Record {
        at: held.since,
        action: held::PASSED_OVER.to_owned(),
        reason: "ExecutionsHeld".to_owned(),
        source: "the table".to_owned(),
        actor: None,
        note: Some(format!("another transaction has held its row since: {}", held.holder)),
    }));
    Ok(records)
}
