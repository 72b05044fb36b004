//! Handles heartbeats that stop in an outage: before any heartbeat counts as lost, this checks whether workers became silent
//! together. If they did, lost heartbeats do not count for one timeout: they are held. `jobexec.stores` stores the holds, and every
//! statement that judges executions reads them there.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::decode;
use super::intervals::interval;
use super::mapping::{clamp_timestamp, literal};
use super::staleness::Rules;
use super::staleness::evidence::{self, Beats};
use super::{Database, DbError, StalenessPredicate};
use crate::rules::outage::{self, Server, Sessions, Silent};

/// The maximum number of stored holds, so that an execution that continues (`AlertOnly`) is not held again by a later one.
const HOLDS: u8 = 64;

/// The state of the server at the last check. It can be lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    last: Option<(Instant, Server)>,
}

impl Watch {
    /// Returns when the last check of lost heartbeats took place, by the database's clock.
    pub fn seen(&self) -> Option<DateTime<Utc>> {
        self.last.map(|(_, server)| server.now)
    }
}

/// Lost heartbeats that do not count at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The start of the hold, by the database's clock.
    pub since: DateTime<Utc>,
    /// The reason.
    pub why: String,
    /// The number of executions.
    pub executions: i64,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "lost heartbeats are held for {} executions since {}, since {}: an execution without a heartbeat within one heartbeatTimeout \
             from then on is failed; deadlines and all other evidence go on",
            self.executions,
            self.since.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            self.why
        )
    }
}

/// The state of the server, and what is stored for the store.
struct Sight {
    server: Server,
    known_start: Option<DateTime<Utc>>,
    doubted: Option<DateTime<Utc>>,
    held: Option<DateTime<Utc>>,
    why: Option<String>,
    /// True if any heartbeat is older than half the shortest timeout.
    quiet: bool,
}

/// Counts of heartbeats.
#[derive(Default)]
struct TableCounts {
    silent: Vec<Silent>,
    /// The earliest sign of life of the executions whose heartbeat counts as lost and which have had no hold yet.
    lost: Option<DateTime<Utc>>,
    /// The number of executions that would be stale without a hold.
    held: i64,
    /// The number of executions that will be held if a hold begins now.
    due: i64,
}

/// Checks whether lost heartbeats must be held, and records it. `every`: the interval at which the table is checked. Returns the
/// current hold. Without the operator's tables nothing is held.
///
/// # Errors
/// Returns the errors of the database; then the result is unknown, and heartbeats should not count.
pub async fn update(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    watch: &mut Watch,
    every: TimeDelta,
) -> Result<Option<Held>, DbError> {
    let Rules::Table(store_id) = predicate.rules else { return Ok(None) };
    let (Some(beats), Some(shortest)) =
        (evidence::beats(predicate, "$1"), predicate.effective_rules.shortest_heartbeat())
    else {
        return Ok(None);
    };
    let begun = Instant::now();
    let sight = see(database, predicate, &beats, store_id, shortest).await?;
    let last = watch.last;
    let elapsed = last.map_or(TimeDelta::MAX, |(at, _)| {
        // Measured from the beginning of one check to the end of the next, so that a slow answer does not look like a jump of the
        // clock.
        TimeDelta::from_std(at.elapsed()).unwrap_or(TimeDelta::MAX)
    });
    let before = last.map(|(_, server)| server);
    let signal = outage::signal(before.as_ref(), sight.known_start, &sight.server, elapsed);
    let late = late(every, shortest);
    let census = if sight.quiet {
        count(database, predicate, sight.held, late).await?
    } else {
        TableCounts::default()
    };
    let together = outage::stopped_together(&census.silent, late);
    let now = sight.server.now;
    let (doubted, why) = match (together, signal) {
        // Recorded again only if it covers more.
        (Some(_), None) if sight.doubted.is_some_and(|at| at <= now && now - at < shortest / 2) => {
            (sight.doubted, sight.why.clone())
        }
        (Some(group), None) => {
            let why = format!("the heartbeats of {} of {} workers stopped together", group.stopped, group.of);
            (Some(now), Some(why))
        }
        (_, Some(signal)) => (Some(now), Some(signal.to_string())),
        (None, None) => (sight.doubted, sight.why.clone()),
    };
    let unused = doubted.filter(|at| sight.held.is_none_or(|held| *at > held));
    let begins = unused.zip(census.lost).is_some_and(|(doubted, lost)| lost <= doubted);
    let restarted = sight.known_start != Some(sight.server.started_at);
    if begins || restarted || doubted != sight.doubted {
        note(database, store_id, &sight.server, doubted, why.as_deref(), begins).await?;
    }
    // If the record failed, the next check finds it again.
    watch.last = Some((begun, sight.server));
    let why = why.unwrap_or_else(|| "workers may have been cut off".to_owned());
    Ok(match (begins, sight.held) {
        (true, _) => Some(Held { since: now, why, executions: census.due + census.held }),
        (false, Some(since)) if census.held > 0 => Some(Held { since, why, executions: census.held }),
        _ => None,
    })
}

/// Returns by how many tenths of the timeout a loss may be noticed late.
fn late(every: TimeDelta, shortest: TimeDelta) -> i64 {
    let tenths = |length: TimeDelta| length.num_milliseconds().saturating_mul(10);
    (2 * tenths(every)).checked_div(shortest.num_milliseconds()).unwrap_or_default().saturating_add(1)
}

async fn see(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    beats: &Beats,
    store_id: i64,
    shortest: TimeDelta,
) -> Result<Sight, DbError> {
    let half = format!("statement_timestamp() - interval {}", literal(&interval(shortest / 2)));
    let sql = format!(
        include_str!("heartbeats/see.sql"),
        known_start = clamp_timestamp("store.server_started_at"),
        doubted = clamp_timestamp("store.heartbeats_doubted"),
        held = clamp_timestamp(
            "(SELECT max(held_from) FROM unnest(store.heartbeats_held) AS held_from WHERE held_from <= statement_timestamp())"
        ),
        quiet = (beats.quiet)(predicate, &half),
    );
    let mut tx = database.read().await?;
    let row = sqlx::query(AssertSqlSafe(sql)).bind(store_id).persistent(false).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    let sessions = Sessions {
        open: row.try_get("open")?,
        abandoned: row.try_get("abandoned")?,
        ended: row.try_get("ended")?,
    };
    Ok(Sight {
        server: Server {
            now: decode::at(&row, "now")?,
            started_at: decode::at(&row, "started_at")?,
            sessions,
        },
        known_start: decode::maybe_at(&row, "known_start")?,
        doubted: decode::maybe_at(&row, "doubted")?,
        held: decode::maybe_at(&row, "held")?,
        why: row.try_get("why")?,
        quiet: row.try_get("quiet")?,
    })
}

/// Counts workers by how long they have been silent; those that have had their hold are not counted.
async fn count(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    held: Option<DateTime<Utc>>,
    late: i64,
) -> Result<TableCounts, DbError> {
    let m = predicate.mapping;
    let (Some(Beats { joins, at: heartbeat, idle, .. }), Some(shortest)) =
        (evidence::beats(predicate, "$4"), predicate.effective_rules.shortest_heartbeat())
    else {
        return Ok(TableCounts::default());
    };
    let idle = if idle.is_empty() {
        idle
    } else {
        format!(
            "UNION ALL SELECT idle.worker, idle.at, false, interval {}, false FROM ({idle}) AS idle (worker, at) WHERE idle.at IS NOT NULL",
            literal(&interval(shortest))
        )
    };
    let fresh = held.map_or("true".to_owned(), |held| format!("alive > '{}'", held.to_rfc3339()));
    let sql = format!(
        include_str!("heartbeats/count.sql"),
        fresh = fresh,
        heartbeat = heartbeat,
        joins = joins,
        idle = idle,
        rules = predicate.rules(),
        worker = m.worker(),
        alive = predicate.known_alive(&heartbeat),
        counts_from = predicate.last_alive(&heartbeat),
        table = m.table(),
        rules_of_row = predicate.joined(),
        running = m.judged(),
        began = predicate.counts_from(),
        others = predicate.workload_ended().map_or(String::new(), |ended| format!("AND NOT {ended}")),
        lost = clamp_timestamp("min(lost)"),
    );
    let mut tx = database.read().await?;
    let rows = predicate.bind(sqlx::query(AssertSqlSafe(sql))).persistent(false).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    let mut census = TableCounts::default();
    for row in rows {
        census.add(&row, late)?;
    }
    Ok(census)
}

impl TableCounts {
    fn add(&mut self, row: &PgRow, late: i64) -> Result<(), sqlx::Error> {
        let silent = Silent { tenths: row.try_get("tenths")?, workers: row.try_get("workers")? };
        self.silent.push(silent);
        // A worker that died long before does not begin a hold: the hold would be over when the workers that it is meant for are
        // lost.
        if outage::recently(silent.tenths, late) {
            let lost: Option<DateTime<Utc>> = decode::maybe_at(row, "lost")?;
            self.lost = [self.lost, lost].into_iter().flatten().min();
            self.due += row.try_get::<i64, _>("due")?;
        }
        self.held += row.try_get::<i64, _>("held")?;
        Ok(())
    }
}

async fn note(
    database: &Database,
    store_id: i64,
    server: &Server,
    doubted: Option<DateTime<Utc>>,
    why: Option<&str>,
    begins: bool,
) -> Result<(), DbError> {
    let mut tx = database.write().await?;
    // If two operators record a hold at once, one is enough.
    let sql = format!(include_str!("heartbeats/note.sql"), holds = HOLDS);
    sqlx::query(AssertSqlSafe(sql))
        .bind(store_id)
        .bind(server.started_at)
        .bind(doubted)
        .bind(why)
        .bind(begins)
        .bind(server.now)
        .persistent(false)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}
