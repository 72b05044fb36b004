//! Lets go of records of what was done, and of the sweeps that did it, once they are old, in pieces that hold up nobody.

use chrono::TimeDelta;
use sqlx::AssertSqlSafe;

use super::ids::id_of;
use super::{Database, DbError, Mapping};

/// How many records one statement looks at, and how many sweeps one deletes.
pub const BATCH: i64 = 2_000;

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pruned {
    /// All up to this record has been looked at; there may be old ones behind it.
    UpTo(i64),
    /// There are none behind it.
    All,
    /// This login may not delete records.
    Forbidden,
}

/// Deletes those of the next [`BATCH`] records behind `after`, in the order in which they were written, that are older
/// than `retention`. What was done to an execution that still runs, or is paused, is kept: it is by its record that nobody is warned of
/// it again. Records of other stores are theirs, also of those that nobody looks after now: who does next has a retention.
/// With the end of the records as many sweeps go, if there are so many that are as old; the others next time.
///
/// # Errors
/// Those of the database; then nothing was deleted.
pub async fn prune(
    database: &Database,
    m: &Mapping,
    store_id: i64,
    retention: TimeDelta,
    after: i64,
) -> Result<Pruned, DbError> {
    let mut tx = database.write().await?;
    // An operator that was brought up to date may run with the grants of the one before.
    let may: bool = sqlx::query_scalar("SELECT has_table_privilege('jobexec.events', 'DELETE')")
        .persistent(false)
        .fetch_one(&mut *tx)
        .await?;
    if !may {
        return Ok(Pruned::Forbidden);
    }
    // By the order of the records, which is almost that of their times, no index on the time is needed, whose upkeep
    // each sweep would pay for. One young record among old ones is no end: a clock may have been wrong.
    let sql = format!(
        "WITH batch AS MATERIALIZED (
             SELECT event_id, at, execution_id FROM jobexec.events
             WHERE store_id = $3 AND event_id > $1 ORDER BY event_id LIMIT $2),
         old AS MATERIALIZED (
             SELECT b.event_id FROM batch AS b
             WHERE b.at < statement_timestamp() - $4
               AND NOT EXISTS (SELECT FROM {table} AS t WHERE {id} = {key} AND {running})),
         gone AS (DELETE FROM jobexec.events
                  WHERE store_id = $3 AND event_id = ANY (ARRAY (SELECT event_id FROM old)))
         SELECT max(event_id) FROM batch
         HAVING count(*) = $2 AND NOT bool_and(at >= statement_timestamp() - $4)",
        table = m.table(),
        id = m.id(),
        key = id_of("b.execution_id", m.id_type()),
        running = m.begun(),
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
        forget_sweeps(&mut tx, store_id, retention).await?;
    }
    tx.commit().await?;
    Ok(last.map_or(Pruned::All, Pruned::UpTo))
}

/// Deletes the oldest of the sweeps that are older than `retention`, where this login may. That nobody was told of one in
/// all that time is past mending.
async fn forget_sweeps(
    tx: &mut sqlx::PgConnection,
    store_id: i64,
    retention: TimeDelta,
) -> Result<(), sqlx::Error> {
    let may: bool = sqlx::query_scalar("SELECT has_table_privilege('jobexec.sweeps', 'DELETE')")
        .persistent(false)
        .fetch_one(&mut *tx)
        .await?;
    if may {
        sqlx::query(
            "DELETE FROM jobexec.sweeps WHERE sweep_id = ANY (ARRAY (
                 SELECT sweep_id FROM jobexec.sweeps WHERE store_id = $1 AND started_at < statement_timestamp() - $2
                 ORDER BY started_at LIMIT $3))",
        )
        .bind(store_id)
        .bind(retention)
        .bind(BATCH)
        .persistent(false)
        .execute(tx)
        .await?;
    }
    Ok(())
}
