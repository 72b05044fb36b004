//! The last time at which an execution is known to be alive by its heartbeat, and the hold on lost heartbeats.

use super::{Judge, Reason, Rules, Suspicion};
use crate::db::mapping::{RECORD_CHARS, wire};

impl Judge<'_> {
    /// Returns the column of `b` with the times at which holds on lost heartbeats began, where any heartbeat counts.
    pub(super) fn heartbeats_held(&self) -> &'static str {
        match (self.mapping.has_heartbeats(), self.rules) {
            (false, _) => "",
            (true, Rules::Memory) => ", NULL::timestamptz[] AS held",
            (true, Rules::Table(_)) => {
                ", (SELECT s.heartbeats_held FROM jobexec.stores AS s WHERE s.store_id = $4) AS held"
            }
        }
    }

    /// Returns the last time at which the row `t` is known to be alive by its `heartbeat`. A heartbeat from before the start does
    /// not belong to this run: the column may have a default, or the row may have waited again. The worker then gets the full
    /// timeout for its first one.
    pub(in crate::db) fn known_alive(&self, heartbeat: &str) -> String {
        let resumed = self.resumed_at().map_or(String::new(), |resumed| format!("{resumed}, "));
        format!("GREATEST({}, {}, {resumed}v.watched)", wire(heartbeat), self.counts_from())
    }

    /// Returns the time from which the timeout of the `heartbeat` counts: [`Self::known_alive`], or the beginning of the first hold
    /// after that. A row whose workload has ended is not held.
    pub(in crate::db) fn last_alive(&self, heartbeat: &str) -> String {
        let ended = self.workload_ended().map_or(String::new(), |ended| format!("AND NOT {ended}"));
        format!(
            "(SELECT GREATEST(a.at, (SELECT min(h) FROM unnest(b.held) AS h
                                     WHERE h > a.at AND h <= statement_timestamp() {ended}))
              FROM (SELECT {} AS at) AS a)",
            self.known_alive(heartbeat)
        )
    }

    /// Returns when the row `t`, whose last `heartbeat` is given, loses it by its verdict `v`, if nothing changes. NULL: never,
    /// because it has sent none, or because it has no start and was not seen running. `None`: no heartbeat of the store counts,
    /// because the operator has no tables of its own and so does not know whether to hold a lost one.
    pub(in crate::db) fn heartbeat_lost_at(&self, heartbeat: &str) -> Option<String> {
        let Rules::Table(_) = self.rules else { return None };
        Some(format!(
            "CASE WHEN {heartbeat} IS NOT NULL AND {began} IS NOT NULL THEN {alive} + v.heartbeat END",
            began = self.counts_from(),
            alive = self.last_alive(heartbeat),
        ))
    }

    /// Returns the detail about the workload of the execution with this id (a text) and beginning: why the workload ended, or that
    /// another one has its name.
    pub(in crate::db) fn workload_detail(&self, id: &str, began: &str) -> String {
        let (Rules::Table(_), Some(_)) = (self.rules, self.workloads) else { return "NULL::text".to_owned() };
        format!(
            "(SELECT left(s.detail, {RECORD_CHARS}) FROM jobexec.suspects AS s WHERE s.store_id = $4
              AND s.reason IN ('{}', '{}') AND s.execution_id = {id} AND s.began_at = {began} ORDER BY s.reason LIMIT 1)",
            Reason::WorkloadGone.as_str(),
            Suspicion::WorkloadRecreated.as_str()
        )
    }

    /// Returns the condition that the workload of the row `t` is known to have ended, where the store checks workloads.
    pub(in crate::db) fn workload_ended(&self) -> Option<String> {
        self.workloads?;
        self.is_suspect(Reason::WorkloadGone.as_str(), "AND s.certain")
    }
}
