//! How often the transition trigger of [`super::extras`] refused a change.

use super::extras::REFUSALS;
use super::{Database, DbError};

/// The count so far, or `None` where the trigger was never installed.
pub async fn count(database: &Database, store_id: i64) -> Result<Option<i64>, DbError> {
    let mut tx = database.read().await?;
    // The view is silent about a sequence that this login may not read, where the sequence itself would be an error.
    let count = sqlx::query_scalar(
        "SELECT COALESCE(last_value, 0) FROM pg_catalog.pg_sequences
         WHERE schemaname = 'jobexec'
           AND sequencename = $2::text || (SELECT table_oid::text FROM jobexec.stores WHERE store_id = $1)
           AND has_sequence_privilege(format('jobexec.%I', sequencename), 'SELECT')",
    )
    .bind(store_id)
    .bind(REFUSALS)
    .persistent(false)
    .fetch_optional(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(count)
}
