//! The counts that decide whether a store is healthy, for scripts and people.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::observe::{self, RunningCounts, TableCounts};
use super::{Database, DbError, StalenessPredicate};

/// The counts of one store at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// Executions that run.
    pub running_executions: i64,
    /// Executions that wait.
    pub scheduled_executions: i64,
    /// Executions that have run for longer than expected.
    pub long_running_executions: i64,
    /// Executions that are stale, including those that are allowed to continue.
    pub stale_executions: i64,
    /// Executions that started within 24 hours.
    pub recent_executions_24h: i64,
    /// The start of the execution that has run the longest.
    pub oldest_running_started_at: Option<DateTime<Utc>>,
    /// The moment, by the database's clock.
    pub timestamp: DateTime<Utc>,
}

/// The health of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// No problem was found.
    Healthy,
    /// Too many executions are long-running, or some are stale and still run.
    Warning,
}

impl Status {
    /// Returns the value as text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Warning => "warning",
        }
    }
}

/// The health of a store with its counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The health.
    pub status: Status,
    /// The counts.
    pub metrics: Metrics,
}

/// Reads the counts and decides. More than `threshold` long-running executions are a warning, and so is any stale one.
pub async fn check(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    threshold: i64,
) -> Result<Health, DbError> {
    let live = observe::live(database, predicate).await?;
    let census = observe::census(database, predicate.mapping).await?;
    Ok(decide(&live, census, threshold))
}

/// Decides the health from the counts.
pub fn decide(live: &RunningCounts, census: TableCounts, threshold: i64) -> Health {
    let metrics = Metrics {
        running_executions: live.running,
        scheduled_executions: census.scheduled,
        long_running_executions: live.long_running,
        stale_executions: live.stale,
        recent_executions_24h: census.recent,
        oldest_running_started_at: live.oldest,
        timestamp: live.now,
    };
    let well = live.long_running <= threshold && live.stale == 0;
    Health { status: if well { Status::Healthy } else { Status::Warning }, metrics }
}
