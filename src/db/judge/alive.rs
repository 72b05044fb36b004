//! Until when an execution is known to be alive by its heartbeat, and how long a lost one is held.

use super::{Judge, Reason, Rules, Suspicion};
use crate::db::mapping::{RECORD_CHARS, wire};

impl Judge<'_> {
    /// The column of `b` with the times at which lost heartbeats began to be held, where any heartbeat counts.
    pub(super) fn heartbeats_held(&self) -> &'static str {
        match (self.mapping.heartbeat_at(), self.rules) {
            (None, _) => "",
            (Some(_), Rules::Memory) => ", NULL::timestamptz[] AS held",
            (Some(_), Rules::Table(_)) => {
                ", (SELECT s.heartbeats_held FROM jobexec.stores AS s WHERE s.store_id = $4) AS held"
            }
        }
    }

    /// Until when the row `t` is known to be alive by its `heartbeat`. One from before its start is not this run's: the
    /// column may have a default, or the row may have waited again; the worker then gets as long for its first one.
    pub(in crate::db) fn known_alive(&self, heartbeat: &str) -> String {
        let resumed = self.resumed_at().map_or(String::new(), |resumed| format!("{resumed}, "));
        format!("GREATEST({}, {}, {resumed}v.watched)", wire(heartbeat), self.counts_from())
    }

    /// From when on the timeout of the `heartbeat` counts: from [`Self::known_alive`], or from when the first hold after that
    /// began. A row whose workload has ended is not held.
    pub(in crate::db) fn last_alive(&self, heartbeat: &str) -> String {
        let ended = self.workload_ended().map_or(String::new(), |ended| format!("AND NOT {ended}"));
        format!(
            "(SELECT GREATEST(a.at, (SELECT min(h) FROM unnest(b.held) AS h
                                     WHERE h > a.at AND h <= statement_timestamp() {ended}))
              FROM (SELECT {} AS at) AS a)",
            self.known_alive(heartbeat)
        )
    }

    /// When the row `t` has lost its heartbeat by its verdict `v`, if nothing changes; NULL: never, since it has sent none, or it has
    /// no start and was not seen running. `None`: no heartbeat of the store counts, as there is none, or the operator has no tables
    /// of its own, so that nobody knows whether a lost one has to be held.
    pub(in crate::db) fn heartbeat_lost_at(&self) -> Option<String> {
        let Rules::Table(_) = self.rules else { return None };
        let heartbeat = self.mapping.heartbeat_at()?;
        Some(format!(
            "CASE WHEN {heartbeat} IS NOT NULL AND {began} IS NOT NULL THEN {alive} + v.heartbeat END",
            began = self.counts_from(),
            alive = self.last_alive(&heartbeat),
        ))
    }

    /// What is known of the workload of the execution with this id (a text) and beginning: why it ended, or that another one has
    /// its name.
    pub(in crate::db) fn workload_detail(&self, id: &str, began: &str) -> String {
        let (Rules::Table(_), Some(_)) = (self.rules, self.workloads) else { return "NULL::text".to_owned() };
        format!(
            "(SELECT left(s.detail, {RECORD_CHARS}) FROM jobexec.suspects AS s WHERE s.store_id = $4
              AND s.reason IN ('{}', '{}') AND s.execution_id = {id} AND s.began_at = {began} ORDER BY s.reason LIMIT 1)",
            Reason::WorkloadGone.as_str(),
            Suspicion::WorkloadRecreated.as_str()
        )
    }

    /// The condition that the workload of the row `t` is known to have ended, where that can be known.
    pub(in crate::db) fn workload_ended(&self) -> Option<String> {
        self.workloads?;
        self.is_suspect(Reason::WorkloadGone.as_str(), "AND s.certain")
    }
}
