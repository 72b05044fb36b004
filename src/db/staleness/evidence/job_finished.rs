//! `JobFinished`: the job of the execution is finished. The status of a recurring job often stays that of its last finished run, so
//! it counts only if the job finished while the execution ran: it was seen unfinished before, or it says when it finished.

use chrono::{DateTime, SecondsFormat, Utc};
use futures::future::BoxFuture;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::{Finding, Kind, Unavailable};
use crate::api::ExecutionStoreSpec;
use crate::db::mapping::clamp_timestamp;
use crate::db::observations;
use crate::db::reason::Reason;
use crate::db::staleness::{Rules, Selection, StalenessPredicate};
use crate::db::suspects::{self, Found};
use crate::db::{Database, DbError, decode};

pub(super) struct JobFinished;

impl Kind for JobFinished {
    fn reason(&self) -> Reason {
        Reason::JobFinished
    }

    fn is_configured(&self, spec: &ExecutionStoreSpec) -> bool {
        spec.jobs.is_some()
    }

    fn stored(&self) -> Option<&'static str> {
        Some("finished jobs")
    }

    fn stale(&self, predicate: &StalenessPredicate<'_>, selection: Selection) -> Vec<String> {
        predicate.by_job_status(selection).into_iter().collect()
    }

    fn columns(&self, predicate: &StalenessPredicate<'_>) -> Vec<(String, &'static str)> {
        let m = predicate.mapping;
        let Some((finished, grace)) = m.job_finished() else { return Vec::new() };
        let (jobs, of_job) = (m.jobs_table(), m.of_job());
        let ended = m.job_finished_at().map_or("NULL::timestamptz".to_owned(), |at| {
            format!("(SELECT max({}) FROM {jobs} WHERE {of_job})", clamp_timestamp(&at))
        });
        let (since, unfinished) = match predicate.rules {
            Rules::Memory => ("NULL::timestamptz".to_owned(), "false".to_owned()),
            Rules::Table(_) => (
                predicate.suspect_until(self.reason(), grace),
                format!(
                    "EXISTS (SELECT FROM jobexec.observations AS observation WHERE {})",
                    predicate.job_seen_unfinished("$4")
                ),
            ),
        };
        vec![
            (format!("EXISTS (SELECT FROM {jobs} WHERE {of_job} AND {finished})"), "job_finished"),
            (since, "job_finished_at"),
            (ended, "job_ended_at"),
            (unfinished, "job_seen_unfinished"),
        ]
    }

    fn explain(
        &self,
        predicate: &StalenessPredicate<'_>,
        row: &PgRow,
    ) -> Result<Option<Finding>, sqlx::Error> {
        if predicate.mapping.job_finished().is_none() {
            return Ok(None);
        }
        let finished: bool = row.try_get("job_finished")?;
        let stale_at: Option<DateTime<Utc>> = decode::maybe_at(row, "job_finished_at")?;
        let ended: Option<DateTime<Utc>> = decode::maybe_at(row, "job_ended_at")?;
        let started: Option<DateTime<Utc>> = decode::maybe_at(row, "started_at")?;
        let began = started.or(decode::maybe_at(row, "created_at")?);
        let unfinished: bool = row.try_get("job_seen_unfinished")?;
        let at = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let seen = match (finished, stale_at.is_some(), ended) {
            (false, ..) => "its job is not finished".to_owned(),
            (true, true, _) if unfinished => "its job has finished while it ran".to_owned(),
            (true, true, Some(ended)) => format!("its job has finished at {}, after it began", at(ended)),
            (true, true, None) => "its job has finished while it ran".to_owned(),
            (true, false, _) if unfinished => {
                "its job has finished while it ran, which the operator has not seen yet".to_owned()
            }
            (true, false, Some(ended)) if Some(ended) <= began => format!(
                "its job has finished at {}, before it began: that was an earlier run, and says nothing of this one",
                at(ended)
            ),
            (true, false, _) => {
                "its job is finished, and the operator has not seen it finish while this ran: that may be the end of an earlier \
                 run, so that only a person has it ended for that (jobexec cleanup --reason JobFinished)"
                    .to_owned()
            }
        };
        Ok(Some(Finding { reason: self.reason(), seen, stale_at: stale_at.filter(|_| finished) }))
    }

    fn observe<'a>(
        &'a self,
        database: &'a Database,
        predicate: &'a StalenessPredicate<'a>,
    ) -> BoxFuture<'a, Result<Option<Unavailable>, DbError>> {
        Box::pin(async { observe(database, predicate).await.map(|()| None) })
    }
}

/// Records the rows whose job has finished. One is certain if its job was seen unfinished while it ran, or finished after it began,
/// unless it sent a heartbeat after the job had finished.
async fn observe(database: &Database, predicate: &StalenessPredicate<'_>) -> Result<(), DbError> {
    let m = predicate.mapping;
    let Some((finished, _)) = m.job_finished() else { return Ok(()) };
    let began = m.began_at();
    let rows = |columns: String, seen: &str| {
        format!(
            "SELECT {id}::text AS execution_id, {columns} FROM {table} AS execution JOIN {jobs} ON {of_job} {seen}
             WHERE {running} AND {began} IS NOT NULL",
            id = m.id(),
            table = m.table(),
            jobs = m.jobs_table(),
            of_job = m.of_job(),
            running = m.judged(),
        )
    };
    // The condition that decides whether a job is finished may have changed since the observation: the digest identifies it.
    let unfinished = observations::Seen {
        kind: observations::Kind::JobUnfinished,
        now: format!(
            "{} AND {finished} IS FALSE",
            rows(format!("{began} AS started_at, {} AS detail", m.job_finished_digest()), "")
        ),
        matters: Some(rows(format!("{began} AS started_at"), "")),
        parameters: None,
    };
    observations::update(database, predicate, &unfinished).await?;
    let (later, earlier) =
        predicate.job_finished_while_running("$1").unwrap_or(("false".into(), "false".into()));
    let seen =
        format!("LEFT JOIN jobexec.observations AS observation ON {}", predicate.job_seen_unfinished("$1"));
    let found = format!(
        include_str!("job_finished.sql"),
        finished = finished,
        rows = rows(
            format!(
                "{began} AS began_at, ({later}) IS TRUE AS later, ({earlier}) IS TRUE AS earlier, observation.execution_id IS NOT NULL AS seen, \
                 ({outlived}) IS TRUE AS outlived",
                outlived = predicate.outlived_its_job().unwrap_or_else(|| "false".to_owned()),
            ),
            &seen,
        ),
    );
    suspects::replace(database, predicate, &Found::new(Reason::JobFinished.as_str(), found)).await
}
