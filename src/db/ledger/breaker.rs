//! The circuit breaker of a store. Its state outlives an operator.

use super::availability::Ledger;
use crate::api::notifications::Topic;
use crate::db::own::{self, Fault};
use crate::db::{Database, DbError, outbox};

/// Returns the reason why the breaker of a store is open, if it is.
pub async fn paused(database: &Database, store_id: i64) -> Result<Option<String>, DbError> {
    let mut tx = database.read().await?;
    let why = sqlx::query_scalar(
        "SELECT paused_why FROM jobexec.stores WHERE store_id = $1 AND paused_at IS NOT NULL",
    )
    .bind(store_id)
    .persistent(false)
    .fetch_optional(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(why.map(Option::unwrap_or_default))
}

/// Opens the breaker of a store for this reason, or closes it. If there is an `outbox`, people are notified that it was opened.
/// Returns why they are not, if the operator's tables reject the notification.
///
/// # Errors
/// Those of the database; then the breaker is as it was.
pub async fn pause(
    database: &Database,
    store_id: i64,
    outbox: bool,
    why: Option<&str>,
) -> Result<Option<Fault>, DbError> {
    let ledger = Ledger::Tables { store_id, outbox };
    let paused = |ledger| {
        let outbox = matches!(ledger, Ledger::Tables { outbox: true, .. });
        set_paused(database, store_id, outbox, why)
    };
    Ok(own::recorded(database, &ledger, paused).await?.1)
}

async fn set_paused(
    database: &Database,
    store_id: i64,
    outbox: bool,
    why: Option<&str>,
) -> Result<(), DbError> {
    let mut tx = database.write().await?;
    sqlx::query(include_str!("pause.sql"))
        .bind(store_id)
        .bind(why)
        .persistent(false)
        .execute(&mut *tx)
        .await?;
    if let Some(why) = why.filter(|_| outbox) {
        outbox::note(&mut tx, store_id, Topic::Breaker, why).await?;
    }
    tx.commit().await?;
    Ok(())
}
