//! Deletes old records of what was done, and of the sweeps that did it, in batches that do not hold up anybody.

use chrono::TimeDelta;
use sqlx::AssertSqlSafe;

use super::ids::id_of;
use super::{Database, DbError, Mapping};

/// The number of records that one statement checks, and of sweeps that one statement deletes.
pub const BATCH: i64 = 2_000;

/// The result of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pruned {
    /// Everything up to this record was checked; there may be more old records after it.
    UpTo(i64),
    /// There are no more old records after it.
    All,
    /// This login may not delete records.
    Forbidden,
}

/// Deletes those of the next [`BATCH`] records after `after`, in the order in which they were written, that are older than
/// `retention`. Keeps the records of an execution that still runs or is paused, because they prevent a repeated warning. Records of
/// other stores belong to them, even if nobody manages their table now: the next store that does has a retention of its own. When
/// the records are done, also deletes up to [`BATCH`] sweeps and retries of that age, and leaves the rest to the next call.
///
/// # Errors
/// Returns the errors of the database; then nothing was deleted.
pub async fn prune(
    database: &Database,
    m: &Mapping,
    store_id: i64,
    retention: TimeDelta,
    after: i64,
) -> Result<Pruned, DbError> {
    let mut tx = database.write().await?;
    // An operator that was upgraded may run with the grants of the previous version.
    let may: bool = sqlx::query_scalar("SELECT has_table_privilege('jobexec.events', 'DELETE')")
        .persistent(false)
        .fetch_one(&mut *tx)
        .await?;
    if !may {
        return Ok(Pruned::Forbidden);
    }
    // The order of the records is almost the order of their times, so no index on the time is needed, which each sweep would have
    // to maintain. One young record among old ones is not the end: a clock may have been wrong.
    let sql = format!(
        include_str!("retention/prune.sql"),
        table = m.table(),
        id = m.id(),
        recorded_id = id_of("batch.execution_id", m.id_type()),
        begun = m.begun(),
    );
    let last: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(after)
        .bind(BATCH)
        .bind(store_id)
        .bind(retention)
        .persistent(false)
        .fetch_optional(&mut *tx)
        .await?;
    if last.is_none() {
        forget(&mut tx, "sweeps", include_str!("retention/forget_sweeps.sql"), store_id, retention).await?;
        let retries = format!(
            include_str!("retention/forget_retries.sql"),
            table = m.table(),
            id = m.id(),
            next_id = id_of("COALESCE(retry.next_id, retry.execution_id)", m.id_type()),
            finished = m.finished(),
        );
        forget(&mut tx, "retries", &retries, store_id, retention).await?;
    }
    tx.commit().await?;
    Ok(last.map_or(Pruned::All, Pruned::UpTo))
}

/// Deletes the oldest rows of a table of the operator that are older than `retention`, if this login may. If nobody was notified of a
/// sweep in all that time, it is too late.
async fn forget(
    tx: &mut sqlx::PgConnection,
    table: &str,
    sql: &str,
    store_id: i64,
    retention: TimeDelta,
) -> Result<(), sqlx::Error> {
    let may: bool = sqlx::query_scalar("SELECT has_table_privilege('jobexec.' || $1, 'DELETE')")
        .bind(table)
        .persistent(false)
        .fetch_one(&mut *tx)
        .await?;
    if may {
        sqlx::query(AssertSqlSafe(sql))
            .bind(store_id)
            .bind(retention)
            .bind(BATCH)
            .persistent(false)
            .execute(tx)
            .await?;
    }
    Ok(())
}
