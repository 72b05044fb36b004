//! Counts the changes that the transition trigger of [`super::extras`] has rejected.

use super::extras::REFUSALS;
use super::{Database, DbError};

/// Returns the count so far, or `None` if the trigger was never installed.
pub async fn count(database: &Database, store_id: i64) -> Result<Option<i64>, DbError> {
    let mut tx = database.read().await?;
    // Uses the catalog, which returns nothing for a sequence that this login may not read, and the oid, because a name could match
    // in any schema.
    let count = sqlx::query_scalar(include_str!("refusals/count.sql"))
        .bind(store_id)
        .bind(REFUSALS)
        .persistent(false)
        .fetch_optional(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(count)
}
