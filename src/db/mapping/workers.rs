//! The worker of a row.

use super::Mapping;
use super::layout::related;
use super::sql::column;

impl Mapping {
    /// Reports whether executions or their workers send heartbeats.
    pub fn has_heartbeats(&self) -> bool {
        self.heartbeat_at().is_some()
            || related(&self.layout).iter().any(|related| related.table.is_of_workers())
    }

    /// Returns a text that identifies the worker of a row and is the same for all its rows: the worker, else the workload, else the
    /// row itself.
    pub fn worker(&self) -> String {
        let named = related(&self.layout)
            .into_iter()
            .find(|related| related.table.is_of_workers())
            .map(|related| related.named_by.1);
        let worker = named.or(self.layout.table.columns.worker.as_ref()).map(column);
        let worker = worker.map(|worker| format!("'worker ' || NULLIF({worker}::text, '')"));
        let workload = self.workload().map(|workload| format!("'workload ' || {workload}"));
        let known: Vec<String> = worker.into_iter().chain(workload).collect();
        let row = format!("'execution ' || {}::text", self.id());
        format!("COALESCE({})", known.into_iter().chain([row]).collect::<Vec<_>>().join(", "))
    }
}
