//! Messages made of posts, in one transaction.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Row as _};

use super::posting::ours;
use crate::api::notifications::Topic;
use crate::db::decode::{self, List};
use crate::db::ids::id_of;
use crate::db::mapping::{ID_BYTES, RECORD_CHARS, TEXT_CHARS, clamp_timestamp};
use crate::db::{Database, DbError, Mapping, late, messages};
use crate::notify::digest::OutgoingMessage;
use crate::notify::message::{Execution, Note};

/// The number of audit records that are turned into messages at a time, so that a sweep of any size takes little memory.
const AT_ONCE: i64 = 20_000;

/// The posts of the outbox, in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Posted {
    /// Posts about executions.
    pub executions: Vec<Execution>,
    /// Posts about the store.
    pub notes: Vec<Note>,
}

/// Turns posts into messages, in one transaction, so that each post is reported once. Returns the number of messages.
pub async fn digest(
    database: &Database,
    m: &Mapping,
    store_id: i64,
    write: impl FnOnce(&Posted, DateTime<Utc>) -> Vec<OutgoingMessage> + Send,
) -> Result<usize, DbError> {
    let mut tx = database.write().await?;
    // A concurrent transaction that does the same waits here, and then finds none of these rows.
    let sql = format!(include_str!("take.sql"), of_this_store = ours("post"));
    let query = sqlx::query(AssertSqlSafe(sql)).bind(store_id).bind(AT_ONCE).persistent(false);
    let mut rows = query.fetch_all(&mut *tx).await?;
    let Some(first) = rows.first() else { return Ok(0) };
    let now = decode::at(first, "now")?;
    let all = first.try_get::<i64, _>("posted")? <= i64::try_from(rows.len()).unwrap_or(i64::MAX);
    rows.sort_by_key(|row| row.try_get::<i64, _>("outbox_id").unwrap_or_default());
    let (mut events, mut posted) = (Vec::new(), Posted::default());
    for row in &rows {
        events.extend(row.try_get::<Option<List<i64>>, _>("event_ids")?.map_or_else(Vec::new, |list| list.0));
        if let Some(topic) = row.try_get::<Option<&str>, _>("topic")?.and_then(topic) {
            let text = row.try_get::<Option<String>, _>("note")?.unwrap_or_default();
            posted.notes.push(Note { topic, at: decode::at(row, "at")?, text });
        }
    }
    posted.executions = executions(&mut tx, m, store_id, &events).await?;
    let letters = write(&posted, now);
    messages::write(&mut tx, store_id, &letters).await?;
    let unwell = letters.iter().any(tells_of_trouble);
    sqlx::query(include_str!("written.sql"))
        .bind(store_id)
        .bind(unwell)
        // The rest of a large sweep follows at once.
        .bind(all && !letters.is_empty())
        .persistent(false)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(letters.len())
}

/// Reports whether the message is about a problem of the store as a whole, so that its recipients are notified once the store
/// recovers.
fn tells_of_trouble(letter: &OutgoingMessage) -> bool {
    let trouble = [Topic::LongRunning, Topic::Stale, Topic::Breaker];
    let of_store = !letter.message.channel.contains('/') && letter.message.owner.is_none();
    of_store && letter.message.counts.iter().any(|count| trouble.contains(&count.topic))
}

fn topic(text: &str) -> Option<Topic> {
    Topic::ALL.into_iter().find(|topic| topic.as_str() == text)
}

/// Returns the audit records with these ids, with the type and the owner from the rows.
async fn executions(
    tx: &mut sqlx::PgConnection,
    m: &Mapping,
    store_id: i64,
    events: &[i64],
) -> Result<Vec<Execution>, sqlx::Error> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        include_str!("executions.sql"),
        id_bytes = ID_BYTES,
        text_chars = TEXT_CHARS,
        record_chars = RECORD_CHARS,
        job_type = m.type_shown(),
        started_at = clamp_timestamp("event.started_at"),
        deadline = clamp_timestamp("event.deadline"),
        at = clamp_timestamp("event.at"),
        owner = m.owner(),
        table = m.table(),
        id = m.id(),
        recorded_id = id_of("event.execution_id", m.id_type()),
    );
    let rows =
        sqlx::query(AssertSqlSafe(sql)).bind(events).bind(store_id).persistent(false).fetch_all(tx).await?;
    let of = |action: &str| match action {
        "Warned" => Some(Topic::LongRunning),
        "Alerted" => Some(Topic::Stale),
        "Failed" | "Cancelled" => Some(Topic::Failed),
        late::FINISHED_LATE => Some(Topic::FinishedLate),
        _ => None,
    };
    let read = |row: &sqlx::postgres::PgRow| {
        let action: String = row.try_get("action")?;
        let Some(topic) = of(&action) else { return Ok(None) };
        Ok(Some(Execution {
            topic,
            action,
            id: row.try_get("execution_id")?,
            job_id: row.try_get("job_id")?,
            job_type: row.try_get("job_type")?,
            execution_number: row.try_get("execution_number")?,
            started_at: decode::maybe_at(row, "started_at")?,
            deadline: decode::maybe_at(row, "deadline")?,
            at: decode::at(row, "at")?,
            reason: row.try_get("reason")?,
            detail: row.try_get("note")?,
            source: row.try_get("source")?,
            actor: row.try_get("actor")?,
            owner: row.try_get("owner")?,
        }))
    };
    rows.iter().filter_map(|row| read(row).transpose()).collect()
}
