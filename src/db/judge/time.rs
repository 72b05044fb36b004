//! From when the time of an execution counts: from its start or its creation, whichever is later, since a row of two clocks
//! may say that it started before it was made. One that runs without a start has waited for a time that nobody knows: it
//! counts from when it was first seen running, which only the operator's tables say.

use super::{Judge, Rules, TOTAL, WARN};
use crate::db::observations::Kind;

/// What the ends of Postgres' range are cut to, so that adding to them does not overflow.
const FIRST: &str = "'0001-01-01Z'::timestamptz";
const LAST: &str = "'9999-12-31Z'::timestamptz";

/// SQL expressions for what a row says of its time.
#[derive(Clone, Debug)]
pub(in crate::db) struct Times {
    /// Its id.
    pub(in crate::db) id: String,
    /// Its start as an instant.
    pub(in crate::db) start: String,
    /// Its creation as an instant, where that is mapped.
    pub(in crate::db) created: Option<String>,
}

impl Times {
    /// The later of its creation and `start`.
    fn later_than(&self, start: &str) -> String {
        let created = self.created.as_ref().map_or(String::new(), |created| format!("{created}, "));
        format!("LEAST(GREATEST({start}, {created}{FIRST}), {LAST})")
    }
}

impl Judge<'_> {
    /// What the row `t` says of its time.
    fn times(&self) -> Times {
        let m = self.mapping;
        Times { id: m.id(), start: m.started_at(), created: m.created_at() }
    }

    /// From when the row `t` counts; NULL: that is not known.
    pub(in crate::db) fn counts_from(&self) -> String {
        self.counts_from_by(&self.times())
    }

    /// The same by other expressions than those for the row `t`.
    pub(in crate::db) fn counts_from_by(&self, times: &Times) -> String {
        self.by_start(times, &times.later_than(&times.start), "$4")
    }

    /// When the run of the row `t` began; NULL: that is not known. `store_id` is the parameter with the store's id in the
    /// operator's tables.
    pub(in crate::db) fn began_running(&self, store_id: &str) -> String {
        let times = self.times();
        self.by_start(&times, &times.later_than(&times.start), store_id)
    }

    /// `dated` where there is a start, else when it was first seen running.
    fn by_start(&self, times: &Times, dated: &str, store_id: &str) -> String {
        let otherwise = match self.rules {
            Rules::Memory => String::new(),
            Rules::Table(_) => format!(
                "ELSE (SELECT {} FROM jobexec.observations AS o WHERE {} AND o.execution_id = {}::text)",
                times.later_than("o.since"),
                Self::seen_running(store_id),
                times.id
            ),
        };
        format!("CASE WHEN {} IS NOT NULL THEN {dated} {otherwise} END", times.start)
    }

    /// From when the row `t` counts that has a start. It is never before that, so that an index on the start narrows.
    pub(super) fn dated(&self) -> String {
        let times = self.times();
        times.later_than(&times.start)
    }

    /// From when the row `t` counts that has none, and was first seen running as the observation `o` says.
    pub(super) fn undated(&self) -> String {
        self.times().later_than("o.since")
    }

    /// The observations `o` of those.
    pub(super) fn seen_running(store_id: &str) -> String {
        format!("o.store_id = {store_id} AND o.kind = '{}'", Kind::RunningWithoutStart.as_str())
    }

    /// Whether a row may count from later than its start.
    pub(super) fn counts_later(&self) -> bool {
        self.mapping.created_at().is_some()
    }

    /// The condition that the row `t` has a start and counts from `cutoff` or before, so that an index on the start serves.
    pub(in crate::db) fn counts_by(&self, cutoff: &str) -> String {
        let started = self.mapping.started_by(cutoff);
        if self.counts_later() { format!("{started} AND {} <= ({cutoff})", self.dated()) } else { started }
    }

    /// The condition that the row `t` has a start and has run for longer than is expected of it by its verdict `v`.
    pub(in crate::db) fn runs_long(&self) -> String {
        let cutoff = format!("statement_timestamp() - {WARN}");
        let started = format!("{} < {cutoff}", self.mapping.started_at());
        if self.counts_later() { format!("({started} AND {} < {cutoff})", self.dated()) } else { started }
    }

    /// When the row `t` is past its deadline by its verdict `v`.
    pub(in crate::db) fn deadline(&self) -> String {
        format!("{} + {TOTAL}", self.counts_from())
    }
}
