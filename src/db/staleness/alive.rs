//! The last time at which an execution is known to be alive by its heartbeat, and the hold on lost heartbeats.
//!
//! The expressions are assembled here: which columns there are, and whether the operator has tables of its own, depends on the
//! store.

use super::{Reason, Rules, StalenessPredicate, Suspicion};
use crate::db::mapping::{RECORD_CHARS, clamp_timestamp};

impl StalenessPredicate<'_> {
    /// Returns the column of `store_defaults` with the times at which holds on lost heartbeats began, where any heartbeat counts.
    pub(super) fn heartbeats_held(&self) -> &'static str {
        match (self.mapping.has_heartbeats(), self.rules) {
            (false, _) => "",
            (true, Rules::Memory) => ", NULL::timestamptz[] AS held",
            (true, Rules::Table(_)) => {
                ", (SELECT store.heartbeats_held FROM jobexec.stores AS store WHERE store.store_id = $4) AS held"
            }
        }
    }

    /// Returns the last time at which the row `execution` is known to be alive by its `heartbeat`. A heartbeat from before the
    /// start does not belong to this run: the column may have a default, or the row may have waited again. The worker then gets the
    /// full timeout for its first one.
    pub(in crate::db) fn known_alive(&self, heartbeat: &str) -> String {
        let resumed = self.resumed_at().map_or(String::new(), |resumed| format!("{resumed}, "));
        format!("GREATEST({}, {}, {resumed}verdict.watched)", clamp_timestamp(heartbeat), self.counts_from())
    }

    /// Returns the time from which the timeout of the `heartbeat` counts: [`Self::known_alive`], or the beginning of the first hold
    /// after that. A row whose workload has ended is not held.
    pub(in crate::db) fn last_alive(&self, heartbeat: &str) -> String {
        let ended = self.workload_ended().map_or(String::new(), |ended| format!("AND NOT {ended}"));
        held_after(&self.known_alive(heartbeat), &ended)
    }

    /// Returns the time `known`, or the beginning of the first hold after that.
    pub(in crate::db) fn after_holds(known: &str) -> String {
        held_after(known, "")
    }

    /// Returns when the row `execution`, whose last `heartbeat` is given, loses it by its `verdict`, if nothing changes. NULL:
    /// never, because it has sent none, or because it has no start and was not seen running. `None`: no heartbeat of the store
    /// counts, because the operator has no tables of its own and so does not know whether to hold a lost one.
    pub(in crate::db) fn heartbeat_lost_at(&self, heartbeat: &str) -> Option<String> {
        let Rules::Table(_) = self.rules else { return None };
        Some(format!(
            "CASE WHEN {heartbeat} IS NOT NULL AND {began} IS NOT NULL THEN {alive} + verdict.heartbeat END",
            began = self.counts_from(),
            alive = self.last_alive(heartbeat),
        ))
    }

    /// Returns the time by which a heartbeat must be lost to count now.
    pub(in crate::db) fn heartbeats_checked(&self) -> String {
        self.heartbeats_seen.map_or("statement_timestamp()".to_owned(), |seen| {
            format!("LEAST(statement_timestamp(), '{}'::timestamptz)", seen.to_rfc3339())
        })
    }

    /// Returns the detail about the workload of the execution with this id (a text) and beginning: why the workload ended, or that
    /// another one has its name.
    pub(in crate::db) fn workload_detail(&self, id: &str, began: &str) -> String {
        let (Rules::Table(_), Some(_)) = (self.rules, self.workloads) else { return "NULL::text".to_owned() };
        format!(
            "(SELECT left(suspect.detail, {RECORD_CHARS}) FROM jobexec.suspects AS suspect WHERE suspect.store_id = $4
              AND suspect.reason IN ('{}', '{}') AND suspect.execution_id = {id} AND suspect.began_at = {began} ORDER BY suspect.reason LIMIT 1)",
            Reason::WorkloadGone.as_str(),
            Suspicion::WorkloadRecreated.as_str()
        )
    }

    /// Returns the condition that the workload of the row `execution` is known to have ended, where the store checks workloads.
    pub(in crate::db) fn workload_ended(&self) -> Option<String> {
        self.workloads?;
        self.is_suspect(Reason::WorkloadGone.as_str(), "AND suspect.certain")
    }
}

/// Returns the time `known`, or the beginning of the first hold after that for which `more` is true.
fn held_after(known: &str, more: &str) -> String {
    format!(
        "(SELECT GREATEST(known.at, (SELECT min(held_from) FROM unnest(store_defaults.held) AS held_from
                                     WHERE held_from > known.at AND held_from <= statement_timestamp() {more}))
              FROM (SELECT {known} AS at) AS known)"
    )
}
