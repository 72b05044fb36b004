//! The figures by which a store is healthy or not, as scripts and people ask for them.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::observe::{self, Census, Live};
use super::{Database, DbError, Judge};

/// The figures of one store at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// Executions that run.
    pub running_executions: i64,
    /// Executions that wait.
    pub scheduled_executions: i64,
    /// Executions that run for longer than is expected of them.
    pub long_running_executions: i64,
    /// Executions that are stale, those too that are to run on.
    pub stale_executions: i64,
    /// Executions that started within 24 hours.
    pub recent_executions_24h: i64,
    /// The start of the one that runs longest.
    pub oldest_running_started_at: Option<DateTime<Utc>>,
    /// The moment, by the database's clock.
    pub timestamp: DateTime<Utc>,
}

/// Whether all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is.
    Healthy,
    /// Too many run for long, or some are stale and still run.
    Warning,
}

impl Status {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Warning => "warning",
        }
    }
}

/// Both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Whether all is well.
    pub status: Status,
    /// The figures.
    pub metrics: Metrics,
}

/// Takes the figures. More than `threshold` long-running executions are a warning, and any stale one is.
pub async fn check(database: &Database, judge: &Judge<'_>, threshold: i64) -> Result<Health, DbError> {
    let live = observe::live(database, judge).await?;
    let census = observe::census(database, judge.mapping).await?;
    Ok(decide(&live, census, threshold))
}

/// The decision.
pub fn decide(live: &Live, census: Census, threshold: i64) -> Health {
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
