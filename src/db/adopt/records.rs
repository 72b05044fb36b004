//! Merging the record of another table into this table's record, or deleting it. Large parts are processed in pieces, so that after
//! an interruption the next run continues.

use sqlx::{AssertSqlSafe, PgConnection};

use super::super::{Database, DbError, identity};

/// The number of audit records that one statement moves or deletes.
const BATCH: i64 = 5_000;

/// The columns of an audit record, except its number.
const EVENT: &str = "at, sweep_id, execution_id, job_id, execution_number, action, reason, source, actor, note, started_at, deadline, \
     again_at";

/// Adds the record `from` to the record `store_id`. Messages and posts that are not delivered yet are from now on delivered by the
/// store with the UID `uid`. Returns their number.
pub(super) async fn take_over(
    database: &Database,
    store_id: i64,
    from: i64,
    uid: Option<&str>,
) -> Result<u64, DbError> {
    while move_events(database, store_id, from).await? >= BATCH {}
    let mut tx = database.write().await?;
    let waiting = undelivered(&mut tx, from).await?;
    identity::copy(&mut tx, store_id, &[from]).await?;
    for sql in [
        "UPDATE jobexec.sweeps SET store_id = $1, uid = $3 WHERE store_id = $2",
        "UPDATE jobexec.messages SET store_id = $1, uid = CASE WHEN ended_at IS NULL THEN $3 ELSE uid END WHERE store_id = $2",
    ] {
        sqlx::query(sql).bind(store_id).bind(from).bind(uid).persistent(false).execute(&mut *tx).await?;
    }
    move_outbox(&mut tx, from, Whose::Anybodys, store_id, uid).await?;
    for sql in [include_str!("move_samples.sql"), include_str!("move_retries.sql")] {
        sqlx::query(sql).bind(store_id).bind(from).persistent(false).execute(&mut *tx).await?;
    }
    drop_rest(&mut tx, from).await?;
    tx.commit().await?;
    Ok(waiting)
}

/// Returns how many messages and posts of the record are not delivered yet.
async fn undelivered(tx: &mut PgConnection, of: i64) -> Result<u64, sqlx::Error> {
    let query = sqlx::query_scalar(include_str!("undelivered.sql")).bind(of).persistent(false);
    let count: i64 = query.fetch_one(tx).await?;
    Ok(count.unsigned_abs())
}

/// The posts to move, by the store that they were written for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose<'a> {
    /// All posts.
    Anybodys,
    /// Posts that were written for another store than the one with this UID.
    OthersThan(Option<&'a str>),
}

/// Moves posts that are in no message yet to the record `to` and the store with the UID `uid`. Returns how many it moved. It
/// deletes and inserts rows, because the operator's login may not update them.
pub(super) async fn move_outbox(
    tx: &mut PgConnection,
    from: i64,
    whose: Whose<'_>,
    to: i64,
    uid: Option<&str>,
) -> Result<u64, sqlx::Error> {
    let (others, own) = match whose {
        Whose::Anybodys => (false, None),
        Whose::OthersThan(own) => (true, own),
    };
    let moved = sqlx::query(include_str!("move_outbox.sql"))
        .bind(from)
        .bind(others)
        .bind(own)
        .bind(to)
        .bind(uid)
        .persistent(false)
        .execute(tx)
        .await?;
    Ok(moved.rows_affected())
}

/// Returns the condition that an audit record is among the first ones of the store whose id is in `parameter`.
fn first_events(parameter: &str) -> String {
    format!(
        "store_id = {parameter} AND event_id = ANY (ARRAY (
             SELECT event_id FROM jobexec.events WHERE store_id = {parameter} ORDER BY event_id LIMIT {BATCH}))"
    )
}

/// Moves a batch of audit records, and returns how many it moved. They keep their numbers, because posts refer to these; one whose
/// number is taken gets another.
async fn move_events(database: &Database, store_id: i64, from: i64) -> Result<i64, DbError> {
    let sql = format!(include_str!("move_events.sql"), first_events = first_events("$2"), columns = EVENT);
    let mut tx = database.write().await?;
    let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(store_id).bind(from).persistent(false);
    let moved = query.fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(moved)
}

/// Reports whether this login may change or delete the record, by row security. Every login that may UPDATE the table that has its
/// name now sees the record; if the record's own table is gone, the role that owned it must also own the present one.
pub(super) async fn may_change(database: &Database, of: i64) -> Result<bool, DbError> {
    let mut tx = database.write().await?;
    let found: Option<i64> =
        sqlx::query_scalar("SELECT store_id FROM jobexec.stores WHERE store_id = $1 FOR NO KEY UPDATE")
            .bind(of)
            .persistent(false)
            .fetch_optional(&mut *tx)
            .await?;
    tx.rollback().await?;
    Ok(found.is_some())
}

/// Deletes the record of a table that is gone. Returns how many messages and posts are lost with it.
pub(super) async fn delete(database: &Database, from: i64) -> Result<u64, DbError> {
    let events = format!("DELETE FROM jobexec.events WHERE {}", first_events("$1"));
    loop {
        let mut tx = database.write().await?;
        let query = sqlx::query(AssertSqlSafe(events.as_str())).bind(from).persistent(false);
        let gone = query.execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        if gone < BATCH.unsigned_abs() {
            break;
        }
    }
    let mut tx = database.write().await?;
    let waiting = undelivered(&mut tx, from).await?;
    delete_from(&mut tx, from, &["sweeps", "messages", "outbox", "samples"]).await?;
    drop_rest(&mut tx, from).await?;
    tx.commit().await?;
    Ok(waiting)
}

/// Leaves the record to its table, under the present name of that table. Returns the schema of the table if this login may not use
/// it: then the record stays as it is.
pub(super) async fn leave(database: &Database, of: i64) -> Result<Option<String>, DbError> {
    let mut tx = database.write().await?;
    let query = sqlx::query_scalar(include_str!("closed_schema.sql")).bind(of).persistent(false);
    let closed: Option<String> = query.fetch_optional(&mut *tx).await?;
    if closed.is_none() {
        sqlx::query(include_str!("leave.sql")).bind(of).persistent(false).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(closed)
}

/// Deletes the record itself and everything in it that can be determined again.
async fn drop_rest(tx: &mut PgConnection, of: i64) -> Result<(), sqlx::Error> {
    delete_from(tx, of, &["rules", "figures", "suspects", "observations", "retries", "stores"]).await
}

async fn delete_from(tx: &mut PgConnection, of: i64, tables: &[&str]) -> Result<(), sqlx::Error> {
    for table in tables {
        let sql = format!("DELETE FROM jobexec.{table} WHERE store_id = $1");
        sqlx::query(AssertSqlSafe(sql)).bind(of).persistent(false).execute(&mut *tx).await?;
    }
    Ok(())
}
