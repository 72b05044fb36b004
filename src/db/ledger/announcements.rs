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
    let mut tx = database.read().await?;
    let rows: Vec<(Uuid, i64, bool, Vec<String>)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "SELECT s.sweep_id, s.failed,
                s.sweep_id = ANY ($2) OR statement_timestamp() - interval '1 minute' > COALESCE(
                    (SELECT e.at FROM jobexec.events AS e WHERE e.sweep_id = s.sweep_id ORDER BY e.event_id DESC LIMIT 1),
                    s.started_at),
                ARRAY(
                    SELECT format('%s (job %s, #%s', e.execution_id, COALESCE(e.job_id, '?'),
                                  COALESCE(e.execution_number::text, '?'))
                           || COALESCE(', ' || round(EXTRACT(epoch FROM e.at - e.started_at) / 3600, 1) || ' h', '')
                           || CASE WHEN e.reason <> 'DeadlineExceeded' THEN ', ' || e.reason ELSE '' END
                           || CASE WHEN e.action = 'Cancelled' THEN ', cancelled)' ELSE ')' END
                    FROM jobexec.events AS e WHERE e.sweep_id = s.sweep_id ORDER BY e.event_id LIMIT $3)
         FROM jobexec.sweeps AS s WHERE s.store_id = $1 AND s.announced_at IS NULL AND {} ORDER BY s.started_at LIMIT $4",
        outbox::ours("s")
    )))
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
