//! What is recorded of one execution.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::db::decode::At;
use crate::db::held;
use crate::db::judge::Rules;
use crate::db::mapping::RECORD_CHARS;
use crate::db::{Database, DbError, Judge};

/// Something that was done to an execution, or told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Record {
    /// When.
    #[sqlx(try_from = "At")]
    pub at: DateTime<Utc>,
    /// What, for example `Failed`.
    pub action: String,
    /// Why.
    pub reason: String,
    /// The object that says so.
    pub source: String,
    /// Who asked for it, as far as the Kubernetes API tells.
    pub actor: Option<String>,
    /// What else is to be said.
    pub note: Option<String>,
}

/// How many records are told at most.
const RECORDS: i64 = 20;

/// What is recorded of the execution, the latest last. Where nothing is recorded there is nothing.
pub async fn records(database: &Database, judge: &Judge<'_>, id: &str) -> Result<Vec<Record>, DbError> {
    let Rules::Table(store_id) = judge.rules else { return Ok(Vec::new()) };
    let mut tx = database.read().await?;
    let mut records: Vec<Record> = sqlx::query_as(
        "SELECT at, left(action, $4) AS action, left(reason, $4) AS reason, left(source, $4) AS source,
                left(actor, $4) AS actor, left(note, $4) AS note
         FROM jobexec.events WHERE store_id = $1 AND execution_id = $2 ORDER BY event_id DESC LIMIT $3",
    )
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
