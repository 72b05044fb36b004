//! Messages, from the time they are written until they are delivered or given up. An operator takes a message before it delivers
//! it, so that two operators rarely deliver the same one; after a crash in between it is delivered again.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::decode::{self, List};
use super::ids::id_of;
use super::outbox::ours;
use super::{Database, DbError, Mapping};
use crate::notify::digest::OutgoingMessage;
use crate::notify::message::Message;

/// The maximum number of messages taken at a time, in total and of one channel, so that a channel does not hold up the others.
const AT_ONCE: i64 = 8;
const OF_CHANNEL: i64 = 4;

/// The time that an operator has to deliver a message it took, in seconds: more than an attempt may take.
const HOLD_SECONDS: f64 = 60.0;

/// The maximum number of messages that one statement gives up or deletes.
const BATCH: i64 = 1_000;

/// The pending work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The database's time.
    pub now: DateTime<Utc>,
    /// The time since which an entry waits in the outbox.
    pub posted: Option<DateTime<Utc>>,
    /// The time at which messages were last written.
    pub told: Option<DateTime<Utc>>,
    /// The time of the next attempt for a channel that is not held.
    pub next: Option<DateTime<Utc>>,
    /// The number of messages that are still to be delivered.
    pub waiting: i64,
    /// The channels of those messages.
    pub channels: Vec<String>,
    /// The number of waiting entries and messages that another store wrote within the last week, and that are not delivered.
    pub foreign: i64,
}

/// A message to be delivered now.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Its id.
    pub id: Uuid,
    /// The channel of the store, or `policy/channel`.
    pub channel: String,
    /// An address; empty for a webhook.
    pub recipient: String,
    /// The content; `None` if an older version wrote it and it cannot be read.
    pub message: Option<Message>,
    /// The number of attempts, including this one.
    pub attempts: i32,
}

/// A message that was given up.
#[derive(Clone, Debug)]
pub struct GivenUp {
    /// Its id.
    pub id: Uuid,
    /// Its channel.
    pub channel: String,
    /// The reason why the last attempt failed, if there was one.
    pub error: Option<String>,
}

/// Writes messages that are due at once, as part of `tx`.
pub(super) async fn write(
    tx: &mut sqlx::PgConnection,
    store_id: i64,
    letters: &[OutgoingMessage],
) -> Result<(), sqlx::Error> {
    for letters in letters.chunks(500) {
        let all = || letters.iter();
        let bodies: Vec<serde_json::Value> =
            // They contain only texts, numbers and times, which JSON can always represent.
            all().map(|letter| serde_json::to_value(&letter.message).unwrap_or_default()).collect();
        sqlx::query(include_str!("messages/write.sql"))
            .bind(store_id)
            .bind(all().map(|letter| letter.message.id).collect::<Vec<_>>())
            .bind(all().map(|letter| letter.message.channel.as_str()).collect::<Vec<_>>())
            .bind(all().map(|letter| letter.recipient.as_str()).collect::<Vec<_>>())
            .bind(bodies)
            .persistent(false)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// Returns the pending work, without messages of the channels in `held`.
pub async fn pending(database: &Database, store_id: i64, held: &[String]) -> Result<Pending, DbError> {
    let sql = format!(
        include_str!("messages/pending.sql"),
        post_of_this_store = ours("outbox"),
        message_of_this_store = ours("messages"),
        recently = format!("statement_timestamp() - make_interval(secs => {LONGEST_SECONDS})"),
    );
    let mut tx = database.read().await?;
    let query = sqlx::query(AssertSqlSafe(sql)).bind(store_id).bind(held).persistent(false);
    let row = query.fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(Pending {
        now: decode::at(&row, "now")?,
        posted: decode::maybe_at(&row, "posted")?,
        told: decode::maybe_at(&row, "told")?,
        next: decode::maybe_at(&row, "next")?,
        waiting: row.try_get("waiting")?,
        channels: row.try_get::<List<String>, _>("channels")?.0,
        foreign: row.try_get("foreign_count")?,
    })
}

/// Takes some due messages of channels that are not in `held`, in the order in which to deliver them: from each channel in turn,
/// and first those that were never tried, so that they do not wait behind messages that are rejected again and again.
pub async fn take(database: &Database, store_id: i64, held: &[String]) -> Result<Vec<Taken>, DbError> {
    let sql = format!(include_str!("messages/take.sql"), of_this_store = ours("messages"));
    let mut tx = database.write().await?;
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(store_id)
        .bind(held)
        .bind(OF_CHANNEL)
        .bind(AT_ONCE)
        .bind(HOLD_SECONDS)
        .persistent(false)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    rows.into_iter()
        .map(|row| {
            Ok(Taken {
                id: row.try_get("message_id")?,
                channel: row.try_get::<Option<_>, _>("channel")?.unwrap_or_default(),
                recipient: row.try_get::<Option<_>, _>("recipient")?.unwrap_or_default(),
                // A message that cannot be read does not hold up the others.
                message: row.try_get("message").ok().and_then(|message| serde_json::from_value(message).ok()),
                attempts: row.try_get::<Option<_>, _>("attempts")?.unwrap_or(1),
            })
        })
        .collect()
}

/// Reports whether `address` belongs to the owner of one of these executions in the present table.
pub async fn is_owner(
    database: &Database,
    m: &Mapping,
    ids: &[&str],
    address: &str,
) -> Result<bool, DbError> {
    let sql = format!(
        include_str!("messages/is_owner.sql"),
        table = m.table(),
        id = m.id(),
        given_id = id_of("given.id", m.id_type()),
        owner = m.owner(),
    );
    let mut tx = database.read().await?;
    let owns = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(ids)
        .bind(address)
        .persistent(false)
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(owns)
}

/// Records that a message was delivered.
pub async fn delivered(database: &Database, id: Uuid) -> Result<(), DbError> {
    end(database, id, "Delivered", None).await
}

/// Gives up a message that will never be delivered, for this reason.
pub async fn give_up(database: &Database, id: Uuid, error: &str) -> Result<(), DbError> {
    end(database, id, "GivenUp", Some(error)).await
}

async fn end(database: &Database, id: Uuid, outcome: &str, error: Option<&str>) -> Result<(), DbError> {
    let mut tx = database.write().await?;
    sqlx::query(include_str!("messages/end.sql"))
        .bind(id)
        .bind(outcome)
        .bind(error)
        .persistent(false)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// Records that an attempt failed, and when to make the next one.
pub async fn failed(
    database: &Database,
    id: Uuid,
    error: &str,
    again_in: std::time::Duration,
) -> Result<(), DbError> {
    let mut tx = database.write().await?;
    sqlx::query(include_str!("messages/failed.sql"))
        .bind(id)
        .bind(error)
        .bind(again_in.as_secs_f64())
        .persistent(false)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// Records that the recipient of a message was rejected. This applies to everything that waits for the same recipient: none of it
/// is tried before the `pause` for the highest number of attempts among them.
pub async fn refused(
    database: &Database,
    store_id: i64,
    taken: &Taken,
    error: &str,
    pause: impl Fn(i32) -> std::time::Duration + Send,
) -> Result<(), DbError> {
    let mut tx = database.write().await?;
    let attempts: Vec<i32> = sqlx::query_scalar(include_str!("messages/lock_recipient.sql"))
        .bind(store_id)
        .bind(&taken.channel)
        .bind(&taken.recipient)
        .persistent(false)
        .fetch_all(&mut *tx)
        .await?;
    let again_in = pause(attempts.into_iter().max().unwrap_or(taken.attempts));
    sqlx::query(include_str!("messages/refused.sql"))
        .bind(store_id)
        .bind(&taken.channel)
        .bind(&taken.recipient)
        .bind(taken.id)
        .bind(error)
        .bind(again_in.as_secs_f64())
        .persistent(false)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// Makes postponed messages of these channels due at once. Messages that an operator may have taken become due by themselves.
pub async fn hasten(database: &Database, store_id: i64, channels: &[String]) -> Result<(), DbError> {
    let mut tx = database.write().await?;
    sqlx::query(include_str!("messages/hasten.sql"))
        .bind(store_id)
        .bind(channels)
        .bind(HOLD_SECONDS)
        .persistent(false)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// Gives up messages that are older than `after` and were tried, or cannot be tried because their channel is in `failing`. Messages
/// of a channel that is only slowed down are tried once, however late.
pub async fn give_up_old(
    database: &Database,
    store_id: i64,
    after: TimeDelta,
    failing: &[String],
) -> Result<Vec<GivenUp>, DbError> {
    let sql = format!(include_str!("messages/give_up_old.sql"), of_this_store = ours("messages"));
    let mut tx = database.write().await?;
    let rows: Vec<(Uuid, String, Option<String>)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(store_id)
        .bind(after)
        .bind(failing)
        .bind(BATCH)
        .persistent(false)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(rows.into_iter().map(|(id, channel, error)| GivenUp { id, channel, error }).collect())
}

/// The maximum time that anything waits, in seconds: the longest `giveUpAfter`.
const LONGEST_SECONDS: f64 = 168.0 * 3_600.0;

/// Gives up entries and messages that have waited for longer than any spec allows, for example because there are no recipients any
/// more.
pub async fn expire(database: &Database, store_id: i64) -> Result<(), DbError> {
    let mut tx = database.write().await?;
    // What another store wrote belongs to that store.
    for sql in [
        format!(include_str!("messages/expire.sql"), of_this_store = ours("messages")),
        format!(include_str!("messages/expire_outbox.sql"), of_this_store = ours("outbox")),
    ] {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(store_id).bind(LONGEST_SECONDS).persistent(false);
        query.execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Deletes some messages that were delivered or given up longer than `retention` ago. Returns whether there may be more.
pub async fn forget(database: &Database, store_id: i64, retention: TimeDelta) -> Result<bool, DbError> {
    let mut tx = database.write().await?;
    let gone = sqlx::query(include_str!("messages/forget.sql"))
        .bind(store_id)
        .bind(retention)
        .bind(BATCH)
        .persistent(false)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(gone.rows_affected() >= BATCH.unsigned_abs())
}
