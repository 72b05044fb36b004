//! The worker of a row, and the table of workers as alias `worker`.

use super::Mapping;
use super::sql::{column, quote};

impl Mapping {
    /// Reports whether executions or their workers send heartbeats.
    pub const fn has_heartbeats(&self) -> bool {
        self.table.columns.heartbeat_at.is_some() || self.heartbeat.is_some()
    }

    /// Returns a text that identifies the worker of a row and is the same for all its rows: the worker, else the workload, else the
    /// row itself.
    pub fn worker(&self) -> String {
        let mapped = self.table.columns.worker.as_ref().map(column);
        let worker = self.worker_named().or(mapped);
        let worker = worker.map(|worker| format!("'worker ' || NULLIF({worker}::text, '')"));
        let workload = self.workload().map(|workload| format!("'workload ' || {workload}"));
        let known: Vec<String> = worker.into_iter().chain(workload).collect();
        let row = format!("'execution ' || {}::text", self.id());
        format!("COALESCE({})", known.into_iter().chain([row]).collect::<Vec<_>>().join(", "))
    }

    /// Returns the column that names the worker of a row, if there is a table of workers.
    pub fn worker_named(&self) -> Option<String> {
        Some(column(&self.heartbeat.as_ref()?.by))
    }

    /// Returns the name of the table of workers.
    pub fn workers_name(&self) -> Option<String> {
        self.heartbeat
            .as_ref()
            .map(|workers| format!("{}.{}", quote(&workers.schema.0), quote(&workers.table.0)))
    }

    /// Returns the workers as alias `worker`, each once with its last heartbeat: a table may have a row for each heartbeat, or one
    /// for each process of a host.
    pub fn workers_table(&self) -> Option<String> {
        let (name, workers) = (self.workers_name()?, self.heartbeat.as_ref()?);
        let (key, at) = (quote(&workers.key.0), quote(&workers.at.0));
        Some(format!(
            "(SELECT w.{key} AS key, max(w.{at}) AS at FROM {name} AS w GROUP BY w.{key}) AS worker"
        ))
    }

    /// Returns the condition that a worker is that of the row.
    pub fn of_worker(&self) -> Option<String> {
        Some(format!("worker.key = {}", self.worker_named()?))
    }

    /// Returns the condition that the row names a worker.
    pub fn names_worker(&self) -> Option<String> {
        let named = self.worker_named()?;
        Some(format!("({named} IS NOT NULL AND {named}::text <> '')"))
    }

    /// Returns the time of the worker's last heartbeat as an instant.
    pub fn worker_at(&self) -> Option<String> {
        Some(self.instant("worker.at", self.types.workers.time?))
    }

    /// Returns the condition that the worker's last heartbeat is not after `cutoff`, built like [`Self::started_by`].
    pub fn worker_by(&self, cutoff: &str) -> Option<String> {
        Some(self.by("worker.at", self.types.workers.time?, cutoff))
    }

    /// Returns the condition that the worker's last heartbeat is after `cutoff`, and not in the future.
    pub fn worker_after(&self, cutoff: &str) -> Option<String> {
        let at = self.worker_at()?;
        Some(format!("{at} > ({cutoff}) AND {at} <= statement_timestamp()"))
    }
}
