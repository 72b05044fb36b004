//! What the operator observes of a case before it judges: finished jobs, rows that run without a start, pauses. The
//! observations are aged as the case wants them.

use chrono::{DateTime, Utc};
use jobexec_operator::db::staleness::evidence;
use jobexec_operator::db::{StalenessPredicate, observations};
use sqlx::AssertSqlSafe;

use super::case::{self, Case, Row};
use super::field::{Field, Ground};
use super::layout::{self, SHAPES};

impl Field {
    /// Lets the operator observe the finished jobs, then ages the observations, and finishes jobs or reopens them.
    /// Returns since when each row is a suspect.
    pub(super) async fn suspect(
        &self,
        case: &Case,
        rows: &[&Row],
        ground: &Ground,
        predicate: &StalenessPredicate<'_>,
    ) -> Vec<Option<i128>> {
        let shape = &SHAPES[case.shape];
        let mut suspects = vec![None; rows.len()];
        if shape.jobs.is_none() || !case.recorded {
            return suspects;
        }
        evidence::observe(&self.databases[0], predicate).await.unwrap();
        self.finish(case, ground, |job| job.was_finished).await;
        evidence::observe(&self.databases[0], predicate).await.unwrap();
        let now: DateTime<Utc> = self.world.one("SELECT statement_timestamp()").await;
        for (place, row) in rows.iter().enumerate() {
            let since = row.suspect.instant(now).unwrap();
            let began = if row.reused { "'2001-01-01Z'" } else { "began_at" };
            let aged = format!(
                "UPDATE jobexec.suspects SET since = $1, began_at = {began} WHERE execution_id = $2 RETURNING 1"
            );
            let found = sqlx::query(AssertSqlSafe(aged)).bind(since).bind(shape.id(place));
            let found = found.fetch_optional(&self.world.pool).await.unwrap();
            if found.is_some() && !row.reused {
                suspects[place] = Some(i128::from(since.timestamp_micros()));
            }
        }
        self.finish(case, ground, |job| job.finished).await;
        suspects
    }

    /// Finishes or reopens jobs.
    async fn finish(&self, case: &Case, ground: &Ground, finished: impl Fn(&case::Job) -> bool) {
        let Some(jobs) = SHAPES[case.shape].jobs else { return };
        for (n, job) in case.jobs.iter().enumerate() {
            let status = if finished(job) { "failed" } else { "running" };
            self.world
                .sql(&format!(
                    "UPDATE {}.jobs SET status = '{status}' WHERE id::text = '{}'",
                    ground.schema,
                    layout::key(jobs.id, n).replace('\'', "''")
                ))
                .await;
        }
    }

    /// Lets the operator observe rows that run without a start, then ages that. Returns since when each row is observed
    /// doing so.
    pub(super) async fn see(
        &self,
        case: &Case,
        rows: &[&Row],
        predicate: &StalenessPredicate<'_>,
    ) -> Vec<Option<i128>> {
        let shape = &SHAPES[case.shape];
        let mut seen = vec![None; rows.len()];
        observations::update_running_without_start(&self.databases[0], predicate).await.unwrap();
        let now: DateTime<Utc> = self.world.one("SELECT statement_timestamp()").await;
        for (place, row) in rows.iter().enumerate() {
            let since = row.suspect.instant(now).unwrap();
            let aged = sqlx::query(
                "UPDATE jobexec.observations SET since = $1, detail = CASE WHEN $3 THEN '1' ELSE detail END
                 WHERE kind = 'RunningWithoutStart' AND execution_id = $2 RETURNING 1",
            );
            let aged = aged.bind(since).bind(shape.id(place)).bind(row.reused);
            let found = aged.fetch_optional(&self.world.pool).await.unwrap();
            seen[place] = found.filter(|_| !row.reused).map(|_| i128::from(since.timestamp_micros()));
        }
        seen
    }

    /// Lets rows be observed paused earlier, or now, and running again. Returns the duration of each pause up to now, and
    /// when the row was known to run again.
    pub(super) async fn pause(
        &self,
        case: &Case,
        rows: &[&Row],
        ground: &Ground,
        now: DateTime<Utc>,
    ) -> Vec<Option<(i128, i128)>> {
        let shape = &SHAPES[case.shape];
        let mut pauses = vec![None; rows.len()];
        if !case.recorded {
            return pauses;
        }
        for (place, row) in rows.iter().enumerate() {
            let Some(start) = row.start else { continue };
            let start =
                if row.reused { "2001-01-01Z".to_owned() } else { start.of_type(shape.started_at).text(now) };
            let insert = |kind: &'static str,
                          since: DateTime<Utc>,
                          total: chrono::TimeDelta,
                          detail: Option<&'static str>| {
                sqlx::query(
                    "INSERT INTO jobexec.observations (store_id, kind, execution_id, started_at, since, total, detail) \
                     VALUES ($1, $2, $3, $4::text::timestamptz, $5, $6, $7)",
                )
                .bind(ground.store_id)
                .bind(kind)
                .bind(shape.id(place))
                .bind(start.clone())
                .bind(since)
                .bind(total)
                .bind(detail)
                .execute(&self.world.pool)
            };
            if let Some(again) = row.again {
                let since = again.instant(now).unwrap();
                insert("StartedAgain", since, chrono::TimeDelta::zero(), None).await.unwrap();
            }
            let Some((total, since, again)) = row.pauses.filter(|_| shape.pauses) else { continue };
            let since = since.instant(now).unwrap();
            insert("Paused", since, total.delta(), (!again).then_some("Resumed")).await.unwrap();
            let (since, now) = (i128::from(since.timestamp_micros()), i128::from(now.timestamp_micros()));
            let more = if again { now - since } else { 0 };
            pauses[place] = (!row.reused).then_some((total.micros() + more, if again { now } else { since }));
        }
        pauses
    }
}
