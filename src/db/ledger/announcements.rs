//! The sweeps that still need a Kubernetes Event.

use uuid::Uuid;

use crate::db::{Database, DbError, outbox};

/// The maximum number of sweeps that [`unannounced`] returns.
pub const AT_ONCE: usize = 20;

/// A sweep that changed something and was not announced yet.
#[derive(Clone, Debug)]
pub struct Unannounced {
    /// The sweep.
    pub id: Uuid,
    /// The number of executions that it ended.
    pub failed: i64,
    /// True if it has ended: the caller knows that it has, or its last batch was more than a minute ago. A sweep with a later batch
    /// may still be running in another operator.
    pub ended: bool,
    /// The first few executions that it ended, each as a short phrase.
    pub sample: Vec<String>,
}

/// Returns the sweeps of the store that have no Event yet and were not made by another store, with up to `sample` executions each.
/// Sweeps in `own` have ended.
pub async fn unannounced(
    database: &Database,
    store_id: i64,
    own: &[Uuid],
    sample: i64,
) -> Result<Vec<Unannounced>, DbError> {
    let sql = format!(include_str!("unannounced.sql"), of_this_store = outbox::ours("sweep"));
    let mut tx = database.read().await?;
    let rows: Vec<(Uuid, i64, bool, Vec<String>)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(store_id)
        .bind(own)
        .bind(sample)
        .bind(i32::try_from(AT_ONCE).unwrap_or(i32::MAX))
        .persistent(false)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(rows
        .into_iter()
        .map(|(id, failed, ended, sample)| Unannounced { id, failed, ended, sample })
        .collect())
}

/// Records that the sweep has an Event.
pub async fn announced(database: &Database, sweep: Uuid) -> Result<(), DbError> {
    let mut tx = database.write().await?;
    sqlx::query("UPDATE jobexec.sweeps SET announced_at = statement_timestamp() WHERE sweep_id = $1")
        .bind(sweep)
        .persistent(false)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}
