//! `WorkerLost`: the worker that the row names sends its heartbeats to a table of workers, and has sent none for too long, or is not
//! in that table. A worker that is not there may be about to enter itself: it counts from when it was first seen missing, which
//! `jobexec.suspects` stores. If no running execution has a worker that is alive in the table, somebody may have emptied it, or
//! executions name their workers in another way than the table does: then nobody is missing.

use chrono::SecondsFormat;
use futures::future::BoxFuture;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::heartbeat::{Silence, columns, silent};
use super::{Beats, Finding, Kind};
use crate::api::ExecutionStoreSpec;
use crate::api::duration;
use crate::db::intervals::delta;
use crate::db::judge::{Judge, Rules, Take};
use crate::db::mapping::{RECORD_CHARS, literal};
use crate::db::reason::Reason;
use crate::db::suspects::{self, Found};
use crate::db::{Database, DbError, Mapping};

pub(super) struct Worker;

impl Kind for Worker {
    fn reason(&self) -> Reason {
        Reason::WorkerLost
    }

    fn is_configured(&self, spec: &ExecutionStoreSpec) -> bool {
        spec.heartbeat.is_some()
    }

    fn stored(&self) -> Option<&'static str> {
        Some("lost workers")
    }

    fn source(&self) -> &'static str {
        "verdict.heartbeat_source"
    }

    fn note(&self, judge: &Judge<'_>, id: &str, began: &str) -> Option<String> {
        judge.mapping.worker_named()?;
        matches!(judge.rules, Rules::Table(_)).then(|| {
            format!(
                "(SELECT left(suspect.detail, {RECORD_CHARS}) FROM jobexec.suspects AS suspect WHERE suspect.store_id = $4
                  AND suspect.reason = '{}' AND suspect.execution_id = {id} AND suspect.began_at = {began})",
                self.reason().as_str()
            )
        })
    }

    fn stale(&self, judge: &Judge<'_>, take: Take) -> Vec<String> {
        self.silent(judge, take).into_iter().chain(self.missing(judge, take)).collect()
    }

    fn beats(&self, judge: &Judge<'_>, store_id: &str) -> Option<Beats> {
        let m = judge.mapping;
        let (workers, of_worker) = (m.workers_table()?, m.of_worker()?);
        let suspect = self.suspect(judge, store_id)?;
        Some(Beats {
            joins: format!(
                "LEFT JOIN {workers} ON {of_worker} LEFT JOIN jobexec.suspects AS suspect ON {suspect}"
            ),
            at: format!("COALESCE({}, suspect.since)", m.worker_at()?),
            idle: format!("SELECT 'worker ' || worker.key::text, {} FROM {workers}", m.worker_at()?),
            quiet: |judge, cutoff| {
                let m = judge.mapping;
                let quiet = || {
                    Some(format!(
                        "(EXISTS (SELECT FROM {workers} JOIN {table} AS execution ON {of_worker} WHERE {running} AND {quiet})
                          OR EXISTS (SELECT FROM jobexec.suspects AS suspect WHERE suspect.store_id = $1 AND suspect.reason = '{reason}'))",
                        workers = m.workers_table()?,
                        table = m.table(),
                        of_worker = m.of_worker()?,
                        running = m.judged(),
                        quiet = m.worker_by(cutoff)?,
                        reason = Reason::WorkerLost.as_str(),
                    ))
                };
                quiet().unwrap_or_else(|| "false".to_owned())
            },
        })
    }

    fn columns(&self, judge: &Judge<'_>) -> Vec<(String, &'static str)> {
        let m = judge.mapping;
        let all = || {
            let (workers, of_worker, named) = (m.workers_table()?, m.of_worker()?, m.worker_named()?);
            let at = format!("(SELECT {} FROM {workers} WHERE {of_worker})", m.worker_at()?);
            let since = self.suspect(judge, "$4").map_or("NULL::timestamptz".to_owned(), |suspect| {
                format!("(SELECT suspect.since FROM jobexec.suspects AS suspect WHERE {suspect})")
            });
            let mut all = columns(judge, &format!("COALESCE({at}, {since})"));
            all.push((format!("NULLIF(left({named}::text, {RECORD_CHARS}), '')"), "worker"));
            all.push((format!("EXISTS (SELECT FROM {workers} WHERE {of_worker})"), "worker_known"));
            Some(all)
        };
        all().unwrap_or_default()
    }

    fn explain(&self, judge: &Judge<'_>, row: &PgRow) -> Result<Option<Finding>, sqlx::Error> {
        let Some(workers) = judge.mapping.workers_name() else { return Ok(None) };
        let silence = Silence::read(row)?;
        let worker: Option<String> = row.try_get("worker")?;
        let known: bool = row.try_get("worker_known")?;
        let at = silence.at.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true));
        let seen = match (worker, &silence.timeout, at) {
            (_, None, _) => silence.does_not_count().to_owned(),
            (None, ..) => "it names no worker, so that only the deadline counts".to_owned(),
            (Some(worker), Some(timeout), Some(at)) if known => format!(
                "the last heartbeat of its worker {worker} was at {at}, and they may be {} apart",
                duration::format(delta(timeout))
            ),
            (Some(worker), Some(_), None) if known => {
                format!("its worker {worker} never sent a heartbeat, so that only the deadline counts")
            }
            (Some(worker), Some(timeout), Some(at)) => format!(
                "its worker {worker} is not in {workers} since {at}, and counts as lost {} later",
                duration::format(delta(timeout))
            ),
            (Some(worker), ..) => format!(
                "its worker {worker} is not in {workers}, which does not count: the operator has not seen that yet, or no running \
                 execution has a worker that is alive there"
            ),
        };
        let seen = silence.and_whether_it_counts(seen, judge);
        Ok(Some(Finding { reason: self.reason(), seen, stale_at: silence.lost_at }))
    }

    fn observe<'a>(
        &'a self,
        database: &'a Database,
        judge: &'a Judge<'a>,
    ) -> BoxFuture<'a, Result<(), DbError>> {
        Box::pin(async move {
            if judge.mapping.worker_named().is_none() {
                return Ok(());
            }
            let query = Self::missing_now(judge).unwrap_or_else(|| suspects::NOBODY.to_owned());
            let found = Found { restarts_with_detail: true, ..Found::new(self.reason().as_str(), query) };
            suspects::replace(database, judge, &found).await
        })
    }
}

impl Worker {
    /// Returns the query for the rows whose worker is silent. It joins them from the few workers that are.
    fn silent(&self, judge: &Judge<'_>, take: Take) -> Option<String> {
        let m = judge.mapping;
        let from = format!("JOIN {} ON {}", m.workers_table()?, m.of_worker()?);
        let more = silent(judge, &m.worker_at()?, |cutoff| m.worker_by(cutoff))?;
        Some(judge.by_evidence(self.reason(), &from, &more, take))
    }

    /// Returns the query for the rows whose worker has been missing for too long, and still is.
    fn missing(&self, judge: &Judge<'_>, take: Take) -> Option<String> {
        let m = judge.mapping;
        let from = format!("JOIN jobexec.suspects AS suspect ON {}", self.suspect(judge, "$4")?);
        let more = format!(
            "{lost} <= {checked} AND NOT EXISTS (SELECT FROM {workers} WHERE {of_worker})
             AND {another_alive}",
            lost = judge.heartbeat_lost_at("suspect.since")?,
            checked = judge.heartbeats_checked(),
            workers = m.workers_table()?,
            of_worker = m.of_worker()?,
            another_alive = Self::another_alive(judge)?,
        );
        Some(judge.by_evidence(self.reason(), &from, &more, take))
    }

    /// Returns the condition that the worker of a running execution is in the table, and alive.
    fn another_alive(judge: &Judge<'_>) -> Option<String> {
        let m = judge.mapping;
        let longest = judge.effective_rules.longest_heartbeat()?;
        Some(format!(
            "EXISTS (SELECT FROM {table} AS execution JOIN {workers} ON {of_worker} WHERE {running} AND {alive})",
            table = m.table(),
            workers = m.workers_table()?,
            of_worker = m.of_worker()?,
            running = m.judged(),
            alive = m.worker_after(&Judge::before(longest))?,
        ))
    }

    /// Returns the query for the rows whose worker is missing now, while another worker is alive. `None`: no silence counts.
    fn missing_now(judge: &Judge<'_>) -> Option<String> {
        let m = judge.mapping;
        Some(format!(
            include_str!("missing.sql"),
            names_worker = m.names_worker()?,
            workers = m.workers_table()?,
            id = m.id(),
            began_at = m.began_at(),
            table = m.table(),
            running = m.judged(),
            of_worker = m.of_worker()?,
            detail = detail(m)?,
            another_alive = Self::another_alive(judge)?,
        ))
    }

    /// Returns the condition that the `suspect` is the row `execution`, with its present worker. `store_id` is the parameter with
    /// the store's id in the operator's tables.
    fn suspect(&self, judge: &Judge<'_>, store_id: &str) -> Option<String> {
        let Rules::Table(_) = judge.rules else { return None };
        let m = judge.mapping;
        Some(format!(
            "suspect.store_id = {store_id} AND suspect.reason = '{}' AND {} = {} AND suspect.began_at = {} AND suspect.detail = {}",
            self.reason().as_str(),
            m.id(),
            judge.suspect_key(),
            m.began_at(),
            detail(m)?,
        ))
    }
}

/// Returns SQL for what is recorded of a missing worker, which identifies it.
fn detail(m: &Mapping) -> Option<String> {
    let workers = literal(&m.workers_name()?);
    let named = m.worker_named()?;
    Some(format!("left('its worker ' || {named}::text || ' is not in ' || {workers}, {RECORD_CHARS})"))
}
