//! Counts the changes that the transition trigger of [`super::extras`] has rejected.

use super::extras::REFUSALS;
use super::{Database, DbError};

/// Returns the count so far, or `None` if the trigger was never installed.
pub async fn count(database: &Database, store_id: i64) -> Result<Option<i64>, DbError> {
    let mut tx = database.read().await?;
    // Uses the catalog, which returns nothing for a sequence that this login may not read, and the oid, because a name could match
    // in any schema.
    let count = sqlx::query_scalar(
        "SELECT COALESCE(pg_sequence_last_value(c.oid), 0) FROM pg_class AS c
         WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'jobexec') AND c.relkind = 'S'
           AND c.relname = $2::text || (SELECT table_oid::text FROM jobexec.stores WHERE store_id = $1)
           AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT') END",
    )
    .bind(store_id)
    .bind(REFUSALS)
    .persistent(false)
    .fetch_optional(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(count)
}
