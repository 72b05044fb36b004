//! Counts over time in `jobexec.samples`: one row per store and minute.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::decode::At;
use super::observe::{RunningCounts, TableCounts};
use super::{Database, DbError};
use crate::api::duration;

/// The maximum number of old samples that are deleted with each new one.
const BATCH: i64 = 1_000;

/// The maximum number of points.
const POINTS: i32 = 1_500;

/// Several samples of one store, combined into one point of a plot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Point {
    /// The beginning of the point.
    #[sqlx(try_from = "At")]
    pub at: DateTime<Utc>,
    /// The maximum number of running executions.
    pub running: i64,
    /// The maximum number of waiting executions; `None` if they could not be counted.
    pub scheduled: Option<i64>,
    /// The maximum number of executions that ran for longer than expected.
    pub long_running: i64,
    /// The maximum number of executions that ran although they were stale.
    pub stale: i64,
    /// The number of executions that the operator or a person ended.
    pub failed: i64,
}

impl Point {
    /// Adds the point of another store at the same time.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            at: self.at,
            running: self.running.saturating_add(other.running),
            scheduled: self.scheduled.zip(other.scheduled).map(|(one, two)| one.saturating_add(two)),
            long_running: self.long_running.saturating_add(other.long_running),
            stale: self.stale.saturating_add(other.stale),
            failed: self.failed.saturating_add(other.failed),
        }
    }
}

/// The requested length of a point is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "step must be whole seconds, at least {} for so long a time, and at most all of it",
    duration::format(*.least)
)]
pub struct InvalidStep {
    /// The minimum length.
    least: TimeDelta,
}

/// Returns the length of a point: the requested one, or else whole minutes that divide the period into at most `usual` points.
///
/// # Errors
/// The requested length is shorter than a minute, not whole seconds, longer than the period, or results in more than 1500 points.
pub fn step(period: TimeDelta, asked: Option<TimeDelta>, usual: i32) -> Result<TimeDelta, InvalidStep> {
    let minutes = |parts: i32| {
        let part = period / parts;
        TimeDelta::minutes(part.num_minutes() + i64::from(part > TimeDelta::minutes(part.num_minutes())))
    };
    let least = minutes(POINTS).max(TimeDelta::minutes(1));
    let step = asked.unwrap_or_else(|| minutes(usual).max(least));
    if step < least || step > period.max(least) || step.subsec_nanos() != 0 {
        return Err(InvalidStep { least });
    }
    Ok(step)
}

/// Stores the counts as the sample of this minute unless there is one, and deletes samples older than 30 days.
pub async fn keep(
    database: &Database,
    store_id: i64,
    live: &RunningCounts,
    census: Option<TableCounts>,
) -> Result<(), DbError> {
    let mut tx = database.write().await?;
    sqlx::query(include_str!("samples/keep.sql"))
        .bind(store_id)
        .bind(live.running)
        .bind(census.map(|census| census.scheduled))
        .bind(live.long_running)
        .bind(live.stale)
        .persistent(false)
        .execute(&mut *tx)
        .await?;
    // For all stores: nobody else deletes the samples of a store that is gone.
    sqlx::query(include_str!("samples/prune.sql")).bind(BATCH).persistent(false).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

/// Returns the counts of a store in the last `period`, in points of `step` each, the oldest first. There is no point for a time
/// without samples.
pub async fn since(
    database: &Database,
    store_id: i64,
    period: TimeDelta,
    step: TimeDelta,
) -> Result<Vec<Point>, DbError> {
    let mut tx = database.read().await?;
    let points = sqlx::query_as(include_str!("samples/since.sql"))
        .bind(store_id)
        .bind(period)
        .bind(step.as_seconds_f64())
        .persistent(false)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Duration;

    fn told(since: &str, asked: Option<&str>) -> Option<String> {
        let length = |text: &str| text.parse::<Duration>().unwrap().to_chrono();
        step(length(since), asked.map(length), 288).ok().map(duration::format)
    }

    #[test]
    fn a_point_stands_for_minutes_of_which_there_are_not_too_many() {
        assert_eq!(told("24h", None).as_deref(), Some("5m"));
        assert_eq!(told("1h", None).as_deref(), Some("1m"));
        assert_eq!(told("30s", None).as_deref(), Some("1m"));
        assert_eq!(told("720h", None).as_deref(), Some("2h30m"));
        assert_eq!(told("24h", Some("1m")).as_deref(), Some("1m"));
        assert_eq!(told("720h", Some("29m")).as_deref(), Some("29m"));
        for (since, step) in
            [("720h", "28m"), ("24h", "59s"), ("24h", "0s"), ("24h", "25h"), ("24h", "61s1ms")]
        {
            assert_eq!(told(since, Some(step)), None, "{since} {step}");
        }
    }
}
