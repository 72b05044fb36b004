//! Stale executions whose rows another transaction locks in every sweep: the session of a worker whose machine is gone holds its
//! row for hours. `jobexec.observations` stores since when each row is skipped, and who holds it.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, Row as _};

use super::decode;
use super::mapping::{RECORD_CHARS, clamp_timestamp};
use super::staleness::{End, IdFilter, Rules, Selection};
use super::{Database, DbError, StalenessPredicate};

/// The minimum time for which a stale row is skipped before it is reported: a transaction that is finishing it needs less.
pub const TOLD_AFTER: TimeDelta = TimeDelta::minutes(5);

/// The kind of such rows in `jobexec.observations`.
pub(super) const PASSED_OVER: &str = "PassedOver";

/// The maximum number of rows whose holder is recorded, those that began first.
const ROWS: u32 = 20;

/// A stale execution whose row is locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The id of the row.
    pub id: String,
    /// The time since which sweeps have skipped it.
    pub since: DateTime<Utc>,
    /// The holder of the lock.
    pub holder: Holder,
}

/// The holder of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The session of the server process with this pid.
    Session(i32),
    /// The prepared transaction with this name.
    Prepared(String),
    /// Unknown: several transactions share the row, or this login may not read who locked it.
    Unknown,
}

impl Holder {
    /// Parses the detail in `jobexec.observations`.
    fn of(detail: Option<&str>) -> Self {
        let session = |detail: &str| detail.strip_prefix(SESSION)?.parse().ok().map(Self::Session);
        let prepared = |detail: &str| Some(Self::Prepared(detail.strip_prefix(PREPARED)?.to_owned()));
        detail.and_then(|detail| session(detail).or_else(|| prepared(detail))).unwrap_or(Self::Unknown)
    }
}

const SESSION: &str = "session ";
const PREPARED: &str = "prepared ";

/// Names the holder, and how to end its transaction.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(pid) => write!(
                f,
                "the session with pid {pid}: see in pg_stat_activity whether its worker is gone, and end it with \
                 `SELECT pg_terminate_backend({pid})`"
            ),
            Self::Prepared(gid) => {
                write!(f, "a prepared transaction: end it with `ROLLBACK PREPARED '{}'`", gid.replace('\'', "''"))
            }
            Self::Unknown => f.write_str(
                "an unknown holder, since several transactions share the row or this login may not read its xmax: look in \
                 pg_stat_activity and pg_prepared_xacts for old transactions",
            ),
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.since.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        write!(f, "{} since {since} by {}", self.id, self.holder)
    }
}

/// Records which stale rows are locked now, except those in `refused`, and deletes the records of the others. Returns the rows that
/// were skipped for longer than [`TOLD_AFTER`], the longest first.
///
/// # Errors
/// Returns the errors of the database; then earlier records remain.
pub async fn update(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    refused: Vec<String>,
) -> Result<Vec<Held>, DbError> {
    let Rules::Table(_) = predicate.rules else { return Ok(Vec::new()) };
    let mut tx = database.write().await?;
    // A view has no such column.
    let readable =
        "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'xmax'
                                   AND has_column_privilege(attrelid, attnum, 'SELECT'))";
    let readable: bool = sqlx::query_scalar(readable)
        .bind(predicate.mapping.table())
        .persistent(false)
        .fetch_one(&mut *tx)
        .await?;
    let sql = statement(predicate, readable);
    let rows = predicate.bind(sqlx::query(AssertSqlSafe(sql))).bind(refused).persistent(false);
    let rows = rows.fetch_all(&mut *tx).await?;
    tx.commit().await?;
    let mut held = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    held.sort_by(|a, b| (a.since, &a.id).cmp(&(b.since, &b.id)));
    Ok(held)
}

fn statement(predicate: &StalenessPredicate<'_>, readable: bool) -> String {
    let m = predicate.mapping;
    let holder = format!(
        include_str!("held/holder.sql"),
        session = SESSION,
        prepared = PREPARED,
        table = m.table().replace('\'', "''"),
    );
    format!(
        include_str!("held/update.sql"),
        predicate = predicate.ctes(Selection::LookAt(ROWS, End::Oldest, IdFilter::Others)),
        id = m.id(),
        table = m.table(),
        lock = m.lock(),
        started_at = clamp_timestamp(&m.started_at()),
        holder = if readable { holder } else { "NULL::text".to_owned() },
        running = m.running(),
        kind = PASSED_OVER,
        since = clamp_timestamp("since"),
        record_chars = RECORD_CHARS,
        reported_after = TOLD_AFTER.num_seconds(),
    )
}

fn read(row: &sqlx::postgres::PgRow) -> Result<Held, sqlx::Error> {
    Ok(Held {
        id: row.try_get("execution_id")?,
        since: decode::at(row, "since")?,
        holder: Holder::of(row.try_get::<Option<&str>, _>("detail")?),
    })
}

/// Deletes the records, because nothing is stale or nobody sweeps.
///
/// # Errors
/// Returns the errors of the database.
pub async fn forget(database: &Database, store_id: i64) -> Result<(), DbError> {
    let mut tx = database.write().await?;
    sqlx::query("DELETE FROM jobexec.observations WHERE store_id = $1 AND kind = $2")
        .bind(store_id)
        .bind(PASSED_OVER)
        .persistent(false)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// Returns what the operator has recorded, by id: the rows that were skipped for longer than [`TOLD_AFTER`]. If no operator has
/// been active for minutes, it is unknown who holds which row by now, and the process of a session may do something else.
///
/// # Errors
/// Returns the errors of the database.
pub async fn known(database: &Database, store_id: i64) -> Result<BTreeMap<String, Held>, DbError> {
    let sql = format!(include_str!("held/known.sql"), since = clamp_timestamp("since"));
    let mut tx = database.read().await?;
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(store_id)
        .bind(PASSED_OVER)
        .bind(RECORD_CHARS)
        .bind(TOLD_AFTER)
        .persistent(false)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    let rows = rows.iter().map(|row| read(row).map(|held| (held.id.clone(), held)));
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_told_with_what_ends_it() {
        let told = |detail| Holder::of(detail).to_string();
        assert!(told(Some("session 12")).contains("`SELECT pg_terminate_backend(12)`"));
        assert!(told(Some("prepared it's")).contains("`ROLLBACK PREPARED 'it''s'`"));
        for unknown in [None, Some("session x"), Some("somebody")] {
            assert_eq!(Holder::of(unknown), Holder::Unknown, "{unknown:?}");
        }
    }
}
