//! Posting, in the same transaction as the action that is posted.

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;

use crate::api::notifications::Topic;
use crate::db::{Database, DbError, Ledger};

/// Returns the part of a statement that posts the rows of `jobexec.events` that its part `recorded` returned, if anybody is to be
/// notified; `store` is the parameter with the store's id. Empty if there is no outbox.
pub(in crate::db) fn posting(ledger: &Ledger, store: &str) -> String {
    let Ledger::Tables { outbox: true, .. } = ledger else { return String::new() };
    format!(include_str!("posting.sql"), store_id = store)
}

/// Returns the condition that a row with the alias `of`, in the outbox or the messages, was written for the store that claims the
/// table `$1` now, or for no store. Rows of another store are not delivered: a copy of its database is no reason to notify its
/// people.
pub(in crate::db) fn ours(of: &str) -> String {
    format!(
        "({of}.uid IS NULL OR {of}.uid = (SELECT store.uid FROM jobexec.stores AS store WHERE store.store_id = $1))"
    )
}

/// Reports whether the tables exist and this login may use them. Recording works without them.
pub(in crate::db) async fn usable(tx: &mut sqlx::PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(include_str!("usable.sql")).persistent(false).fetch_one(tx).await
}

/// Records whether anybody is to be notified. Earlier posts stay for a while: a policy may be back in a moment.
pub async fn announce(database: &Database, store_id: i64, notifies: bool) -> Result<(), DbError> {
    let mut tx = database.write().await?;
    sqlx::query(
        "UPDATE jobexec.stores SET notifies = $2 WHERE store_id = $1 AND notifies IS DISTINCT FROM $2",
    )
    .bind(store_id)
    .bind(notifies)
    .persistent(false)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}

/// Posts a note about the store as a whole, as part of `tx`, if anybody is to be notified.
pub(in crate::db) async fn note(
    tx: &mut sqlx::PgConnection,
    store_id: i64,
    topic: Topic,
    text: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(include_str!("note.sql"))
        .bind(store_id)
        .bind(topic.as_str())
        .bind(text)
        .persistent(false)
        .execute(tx)
        .await?;
    Ok(())
}

/// Posts that the store has recovered, if people were notified of a problem before `seen`, when no problem was found any more.
/// Returns true if no notified problem is left.
pub async fn recover(database: &Database, store_id: i64, seen: DateTime<Utc>) -> Result<bool, DbError> {
    let mut tx = database.write().await?;
    let sql = format!(include_str!("recover.sql"), of_this_store = ours("outbox"));
    let query = sqlx::query(AssertSqlSafe(sql)).bind(store_id).bind(seen).persistent(false);
    let over = query.execute(&mut *tx).await?;
    if over.rows_affected() > 0 {
        let text = "no execution is long-running or stale any more, and the breaker is closed";
        note(&mut tx, store_id, Topic::Recovered, text).await?;
    }
    let well: Option<bool> =
        sqlx::query_scalar("SELECT unwell_since IS NULL FROM jobexec.stores WHERE store_id = $1")
            .bind(store_id)
            .persistent(false)
            .fetch_optional(&mut *tx)
            .await?;
    tx.commit().await?;
    Ok(well.unwrap_or(true))
}
