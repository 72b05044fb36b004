//! `WorkerLost`: the worker that the row names sends its heartbeats to a table of workers, and has sent none for too long, or is not
//! in that table. A worker that is not there may be about to enter itself: it counts from when it was first seen missing, which
//! `jobexec.suspects` stores. If no running execution has a worker that is alive in the table, somebody may have emptied it, or
//! executions name their workers in another way than the table does: then nobody is missing.

use chrono::SecondsFormat;
use futures::future::BoxFuture;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::heartbeat::{Silence, columns, silent};
use super::{Beats, Finding, Kind, Unavailable};
use crate::api::ExecutionStoreSpec;
use crate::api::duration;
use crate::api::store::WorkerHeartbeat;
use crate::db::intervals::delta;
use crate::db::mapping::{RECORD_CHARS, RelatedTable, TimeType, column, in_schema, literal, quote};
use crate::db::reason::Reason;
use crate::db::staleness::{Rules, Selection, StalenessPredicate};
use crate::db::suspects::{self, Found};
use crate::db::{Database, DbError, Mapping};

/// The number of executions of missing workers up to which they are counted.
const MOST: i64 = 1_000;

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

    fn note(&self, predicate: &StalenessPredicate<'_>, id: &str, began: &str) -> Option<String> {
        Workers::of(predicate.mapping)?;
        matches!(predicate.rules, Rules::Table(_)).then(|| {
            format!(
                "(SELECT left(suspect.detail, {RECORD_CHARS}) FROM jobexec.suspects AS suspect WHERE suspect.store_id = $4
                  AND suspect.reason = '{}' AND suspect.execution_id = {id} AND suspect.began_at = {began})",
                self.reason().as_str()
            )
        })
    }

    fn stale(&self, predicate: &StalenessPredicate<'_>, selection: Selection) -> Vec<String> {
        self.silent(predicate, selection).into_iter().chain(self.missing(predicate, selection)).collect()
    }

    fn beats(&self, predicate: &StalenessPredicate<'_>, store_id: &str) -> Option<Beats> {
        let workers = Workers::of(predicate.mapping)?;
        let (table, of_row, at) = (workers.table(), workers.of_row(), workers.at());
        let suspect = self.suspect(predicate, store_id)?;
        Some(Beats {
            joins: format!(
                "LEFT JOIN {table} ON {of_row} LEFT JOIN jobexec.suspects AS suspect ON {suspect}"
            ),
            at: format!("COALESCE({at}, suspect.since)"),
            idle: format!("SELECT 'worker ' || worker.key::text, {at} FROM {table}"),
            quiet: |predicate, cutoff| {
                let Some(workers) = Workers::of(predicate.mapping) else { return "false".to_owned() };
                format!(
                    "(EXISTS (SELECT FROM {workers} JOIN {table} AS execution ON {of_worker} WHERE {running} AND {quiet})
                      OR EXISTS (SELECT FROM jobexec.suspects AS suspect WHERE suspect.store_id = $1 AND suspect.reason = '{reason}'))",
                    workers = workers.table(),
                    table = predicate.mapping.table(),
                    of_worker = workers.of_row(),
                    running = predicate.mapping.judged(),
                    quiet = workers.silent_by(cutoff),
                    reason = Reason::WorkerLost.as_str(),
                )
            },
        })
    }

    fn columns(&self, predicate: &StalenessPredicate<'_>) -> Vec<(String, &'static str)> {
        let Some(workers) = Workers::of(predicate.mapping) else { return Vec::new() };
        let (table, of_row) = (workers.table(), workers.of_row());
        let at = format!("(SELECT {} FROM {table} WHERE {of_row})", workers.at());
        let since = self.suspect(predicate, "$4").map_or("NULL::timestamptz".to_owned(), |suspect| {
            format!("(SELECT suspect.since FROM jobexec.suspects AS suspect WHERE {suspect})")
        });
        let mut all = columns(predicate, &format!("COALESCE({at}, {since})"));
        all.push((format!("NULLIF(left({}::text, {RECORD_CHARS}), '')", workers.named()), "worker"));
        all.push((format!("EXISTS (SELECT FROM {table} WHERE {of_row})"), "worker_known"));
        all
    }

    fn explain(
        &self,
        predicate: &StalenessPredicate<'_>,
        row: &PgRow,
    ) -> Result<Option<Finding>, sqlx::Error> {
        let Some(workers) = Workers::of(predicate.mapping).map(|workers| workers.name()) else {
            return Ok(None);
        };
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
        let seen = silence.and_whether_it_counts(seen, predicate);
        Ok(Some(Finding { reason: self.reason(), seen, stale_at: silence.lost_at }))
    }

    fn observe<'a>(
        &'a self,
        database: &'a Database,
        predicate: &'a StalenessPredicate<'a>,
    ) -> BoxFuture<'a, Result<Option<Unavailable>, DbError>> {
        Box::pin(async move {
            let Some(workers) = Workers::of(predicate.mapping) else { return Ok(None) };
            let query = Self::missing_now(predicate).unwrap_or_else(|| suspects::NOBODY.to_owned());
            let found = Found { restarts_with_detail: true, ..Found::new(self.reason().as_str(), query) };
            suspects::replace(database, predicate, &found).await?;
            // Without the operator's tables nobody counts as missing, and the condition says that.
            let (Rules::Table(_), Some(query)) = (predicate.rules, Self::nobody_alive(predicate)) else {
                return Ok(None);
            };
            let mut tx = database.read().await?;
            let query = predicate.bind(sqlx::query(AssertSqlSafe(query))).persistent(false);
            let missing: i64 = query.fetch_one(&mut *tx).await?.try_get("missing")?;
            tx.commit().await?;
            Ok((missing > 0).then(|| workers.nobody_alive(missing)))
        })
    }
}

impl Worker {
    /// Returns the query for the rows whose worker is silent. It joins them from the few workers that are.
    fn silent(&self, predicate: &StalenessPredicate<'_>, selection: Selection) -> Option<String> {
        let workers = Workers::of(predicate.mapping)?;
        let from = format!("JOIN {} ON {}", workers.table(), workers.of_row());
        let more = silent(predicate, &workers.at(), |cutoff| Some(workers.silent_by(cutoff)))?;
        Some(predicate.by_evidence(self.reason(), &from, &more, selection))
    }

    /// Returns the query for the rows whose worker has been missing for too long, and still is.
    fn missing(&self, predicate: &StalenessPredicate<'_>, selection: Selection) -> Option<String> {
        let workers = Workers::of(predicate.mapping)?;
        let from = format!("JOIN jobexec.suspects AS suspect ON {}", self.suspect(predicate, "$4")?);
        let more = format!(
            "{lost} <= {checked} AND NOT EXISTS (SELECT FROM {workers} WHERE {of_worker})
             AND {another_alive}",
            lost = predicate.heartbeat_lost_at("suspect.since")?,
            checked = predicate.heartbeats_checked(),
            workers = workers.table(),
            of_worker = workers.of_row(),
            another_alive = Self::another_alive(predicate)?,
        );
        Some(predicate.by_evidence(self.reason(), &from, &more, selection))
    }

    /// Returns the condition that the worker of a running execution is in the table, and alive.
    fn another_alive(predicate: &StalenessPredicate<'_>) -> Option<String> {
        let workers = Workers::of(predicate.mapping)?;
        let longest = predicate.effective_rules.longest_heartbeat()?;
        Some(format!(
            "EXISTS (SELECT FROM {table} AS execution JOIN {workers} ON {of_worker} WHERE {running} AND {alive})",
            table = predicate.mapping.table(),
            workers = workers.table(),
            of_worker = workers.of_row(),
            running = predicate.mapping.judged(),
            alive = workers.alive_after(&StalenessPredicate::before(longest)),
        ))
    }

    /// Returns the query for the rows whose worker is missing now, while another worker is alive. `None`: no silence counts.
    fn missing_now(predicate: &StalenessPredicate<'_>) -> Option<String> {
        let m = predicate.mapping;
        let workers = Workers::of(m)?;
        Some(format!(
            include_str!("missing.sql"),
            names_worker = workers.are_named(),
            workers = workers.table(),
            id = m.id(),
            began_at = m.began_at(),
            table = m.table(),
            running = m.judged(),
            of_worker = workers.of_row(),
            detail = workers.detail(),
            another_alive = Self::another_alive(predicate)?,
        ))
    }

    /// Returns the query for the number of rows whose worker is missing and does not count as that, at most [`MOST`].
    fn nobody_alive(predicate: &StalenessPredicate<'_>) -> Option<String> {
        let m = predicate.mapping;
        let workers = Workers::of(m)?;
        Some(format!(
            include_str!("nobody_alive.sql"),
            rules = predicate.rules(),
            rules_of_row = predicate.joined(),
            began_at = m.began_at(),
            table = m.table(),
            running = m.judged(),
            names_worker = workers.are_named(),
            workers = workers.table(),
            of_worker = workers.of_row(),
            another_alive = Self::another_alive(predicate)?,
            most = MOST,
        ))
    }

    /// Returns the condition that the `suspect` is the row `execution`, with its present worker. `store_id` is the parameter with
    /// the store's id in the operator's tables.
    fn suspect(&self, predicate: &StalenessPredicate<'_>, store_id: &str) -> Option<String> {
        let Rules::Table(_) = predicate.rules else { return None };
        let m = predicate.mapping;
        Some(format!(
            "suspect.store_id = {store_id} AND suspect.reason = '{}' AND {} = {} AND suspect.began_at = {} AND suspect.detail = {}",
            self.reason().as_str(),
            m.id(),
            predicate.suspect_key(),
            m.began_at(),
            Workers::of(m)?.detail(),
        ))
    }
}

/// The table of workers as alias `worker`.
struct Workers<'a> {
    mapping: &'a Mapping,
    names: &'a WorkerHeartbeat,
    time: TimeType,
}

impl<'a> Workers<'a> {
    /// Returns the table of workers, if there is one.
    fn of(mapping: &'a Mapping) -> Option<Self> {
        let names = mapping.layout().heartbeat.as_ref()?;
        Some(Self { mapping, names, time: mapping.types().of(RelatedTable::Workers).time? })
    }

    /// Returns its name.
    fn name(&self) -> String {
        in_schema(&self.names.schema, &self.names.table)
    }

    /// Returns the workers, each once with its last heartbeat: a table may have a row for each heartbeat, or one for each process
    /// of a host.
    fn table(&self) -> String {
        let (name, key, at) = (self.name(), quote(&self.names.key.0), quote(&self.names.at.0));
        format!("(SELECT w.{key} AS key, max(w.{at}) AS at FROM {name} AS w GROUP BY w.{key}) AS worker")
    }

    /// Returns the column of a row that names its worker.
    fn named(&self) -> String {
        column(&self.names.by)
    }

    /// Returns the condition that a row names a worker.
    fn are_named(&self) -> String {
        let named = self.named();
        format!("({named} IS NOT NULL AND {named}::text <> '')")
    }

    /// Returns the condition that a worker is that of the row.
    fn of_row(&self) -> String {
        format!("worker.key = {}", self.named())
    }

    /// Returns the time of the worker's last heartbeat as an instant.
    fn at(&self) -> String {
        self.mapping.instant("worker.at", self.time)
    }

    /// Returns the condition that the worker's last heartbeat is not after `cutoff`, which is built like that of
    /// [`Mapping::started_by`].
    fn silent_by(&self, cutoff: &str) -> String {
        self.mapping.by("worker.at", self.time, cutoff)
    }

    /// Returns the condition that the worker's last heartbeat is after `cutoff`, and not in the future.
    fn alive_after(&self, cutoff: &str) -> String {
        let at = self.at();
        format!("{at} > ({cutoff}) AND {at} <= statement_timestamp()")
    }

    /// Returns why the workers of this many executions do not count as missing.
    fn nobody_alive(&self, missing: i64) -> Unavailable {
        let workers = self.name();
        let missing = if missing < MOST { missing.to_string() } else { format!("at least {MOST}") };
        let why = format!(
            "the workers of {missing} running executions are not in {workers}, and no running execution has a worker that is alive \
             there. If the workers run, check spec.heartbeat, and whether somebody has emptied the table: until one of them is alive \
             there, only the deadlines of these executions count"
        );
        Unavailable { reason: "NoWorkerAlive", why }
    }

    /// Returns SQL for what is recorded of a missing worker, which identifies it.
    fn detail(&self) -> String {
        let (table, named) = (literal(&self.name()), self.named());
        format!("left('its worker ' || {named}::text || ' is not in ' || {table}, {RECORD_CHARS})")
    }
}
