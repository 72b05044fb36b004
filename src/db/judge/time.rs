//! From when the time of an execution counts: from its start or its creation, whichever is later, since a row of two clocks
//! may say that it started before it was made. One that runs without a start has waited for a time that nobody knows: it
//! counts from when it was first seen running in the version that its row has now, which only the operator's tables say. Time for which it was paused does not
//! count: what its row says of that, or what the operator saw, whichever is longer.
//!
//! No row counts from before its start, so that an index on the start narrows. What was seen of pauses is `p` in a statement
//! (execution, start, and for how long): rows of which there is such a thing are judged apart from all others.

use super::{Judge, Rules, WARN};
use crate::db::granted::SOURCE;
use crate::db::identity::extended_elsewhere;
use crate::db::ids::id_of;
use crate::db::mapping::literal;
use crate::db::observations::{Kind, SEEN_PAUSED};

/// What the ends of Postgres' range are cut to, so that adding to them does not overflow.
pub(super) const FIRST: &str = "'0001-01-01Z'::timestamptz";
pub(super) const LAST: &str = "'9999-12-31Z'::timestamptz";

/// SQL expressions for what a row says of its time.
#[derive(Clone, Debug)]
pub(in crate::db) struct Times {
    /// Its id.
    pub(in crate::db) id: String,
    /// Its start as an instant.
    pub(in crate::db) start: String,
    /// Its creation as an instant, where that is mapped.
    pub(in crate::db) created: Option<String>,
    /// For how long it says that it has been paused, where that is mapped.
    pub(in crate::db) paused: Option<String>,
    /// In which version it is, or was when it was judged; `None`: this login may not read it.
    pub(in crate::db) version: Option<String>,
}

impl Times {
    /// The later of its creation and `start`.
    fn later_than(&self, start: &str) -> String {
        let created = self.created.as_ref().map_or(String::new(), |created| format!("{created}, "));
        format!("LEAST(GREATEST({start}, {created}{FIRST}), {LAST})")
    }

    /// The same and the time for which it was paused: as its row says, and as `seen` says, an interval.
    fn later_and_paused(&self, seen: Option<&str>) -> String {
        let from = self.later_than(&self.start);
        match (&self.paused, seen) {
            (None, None) => from,
            (Some(paused), None) => format!("({from} + {paused})"),
            (None, Some(seen)) => format!("({from} + COALESCE({seen}, interval '0'))"),
            (Some(paused), Some(seen)) => format!("({from} + GREATEST({paused}, {seen}))"),
        }
    }
}

impl Judge<'_> {
    /// What the row `t` says of its time.
    pub(super) fn times(&self) -> Times {
        let m = self.mapping;
        Times {
            id: m.id(),
            start: m.started_at(),
            created: m.created_at(),
            paused: m.paused_for(),
            version: m.version().map(str::to_owned),
        }
    }

    /// From when the row `t` counts; NULL: that is not known.
    pub(in crate::db) fn counts_from(&self) -> String {
        self.counts_from_by(&self.times())
    }

    /// The same by other expressions than those for the row `t`.
    pub(in crate::db) fn counts_from_by(&self, times: &Times) -> String {
        self.by_start(times, &times.later_and_paused(self.seen_paused(times).as_deref()), "$4")
    }

    /// When the run of the row `t` began; NULL: that is not known. `store_id` is the parameter with the store's id in the
    /// operator's tables.
    pub(in crate::db) fn began_running(&self, store_id: &str) -> String {
        let times = self.times();
        self.by_start(&times, &times.later_than(&times.start), store_id)
    }

    /// `dated` where there is a start, else when it was first seen running.
    pub(super) fn by_start(&self, times: &Times, dated: &str, store_id: &str) -> String {
        let otherwise = if self.sees_runs() {
            format!(
                "ELSE (SELECT {} FROM jobexec.observations AS o WHERE {} AND o.execution_id = {}::text)",
                times.later_than("o.since"),
                Self::seen_running(store_id, times.version.as_deref()),
                times.id
            )
        } else {
            String::new()
        };
        format!("CASE WHEN {} IS NOT NULL THEN {dated} {otherwise} END", times.start)
    }

    /// The same, or when it went on after it was paused.
    pub(in crate::db) fn began_or_resumed(&self) -> String {
        let began = self.began_running("$4");
        self.resumed_at().map_or(began.clone(), |resumed| format!("GREATEST({began}, {resumed})"))
    }

    /// Whether the operator sees executions paused, and remembers it.
    pub(super) fn sees_pauses(&self) -> bool {
        self.mapping.pauses() && matches!(self.rules, Rules::Table(_))
    }

    /// What of the execution with these times was seen of pauses: `what` of the observation `o`.
    fn of_pauses(times: &Times, what: &str) -> String {
        format!(
            "(SELECT {what} FROM jobexec.observations AS o WHERE o.store_id = $4 AND o.kind = '{}' \
             AND o.execution_id = {}::text AND o.started_at = {})",
            Kind::Paused.as_str(),
            times.id,
            times.start
        )
    }

    fn seen_paused(&self, times: &Times) -> Option<String> {
        self.sees_pauses().then(|| Self::of_pauses(times, SEEN_PAUSED))
    }

    /// When the row `t` was seen to run again after it was paused, if it was: it is known to be alive then.
    pub(in crate::db) fn resumed_at(&self) -> Option<String> {
        let what = "CASE WHEN o.detail IS NULL THEN statement_timestamp() ELSE o.since END";
        self.sees_pauses().then(|| Self::of_pauses(&self.times(), what))
    }

    /// The common table expression `p` (k, `started_at`, paused), where pauses are seen.
    pub(super) fn pauses(&self) -> Option<String> {
        let key = id_of("o.execution_id", self.mapping.id_type());
        self.sees_pauses().then(|| {
            format!(
                "p AS MATERIALIZED (SELECT {key} AS k, o.started_at, {SEEN_PAUSED} AS paused FROM jobexec.observations AS o \
                 WHERE o.store_id = $4 AND o.kind = '{}')",
                Kind::Paused.as_str()
            )
        })
    }

    /// Whether an execution that runs again with the same start gets time: there are grace periods, and it is remembered.
    pub(super) fn holds(&self) -> bool {
        let rules = self.effective_rules.rules.iter().filter_map(|rule| rule.grace.as_ref());
        matches!(self.rules, Rules::Table(_))
            && rules
                .chain([&self.effective_rules.base.grace])
                .any(|grace| grace.value > chrono::TimeDelta::zero())
    }

    /// The common table expression `h` (k, until): those that run again with the same start, and get one grace period.
    pub(super) fn held(&self) -> Option<String> {
        let m = self.mapping;
        self.holds().then(|| {
            format!(
                "h AS MATERIALIZED (
                     SELECT {id} AS k, o.since + v.grace AS until FROM jobexec.observations AS o
                     JOIN {table} AS t ON {id} = {key} AND {start} = o.started_at {joined}
                     WHERE o.store_id = $4 AND o.kind = '{kind}' AND {running} AND o.since + v.grace > statement_timestamp())",
                id = m.id(),
                table = m.table(),
                key = id_of("o.execution_id", m.id_type()),
                start = m.started_at(),
                joined = self.joined_for_due(),
                kind = Kind::StartedAgain.as_str(),
                running = m.judged(),
            )
        })
    }

    /// The condition that a person gave the row `t` more time in another record, and its own has no extension of it: whether that
    /// counts is still to be said, or seen; `None`: there is no such record. The list is a hashed subplan, which keeps the order of
    /// the index.
    pub(in crate::db) fn undecided(&self) -> Option<String> {
        let Rules::Table(_) = self.rules else { return None };
        let records: Vec<String> = self.undecided.iter().map(ToString::to_string).collect();
        (!records.is_empty()).then(|| {
            format!(
                "{id}::text IN (SELECT r.key FROM jobexec.rules AS r WHERE r.store_id IN ({records}) AND {open})",
                id = self.mapping.id(),
                records = records.join(", "),
                open = extended_elsewhere(&literal(&format!("{SOURCE}%")), "$4"),
            )
        })
    }

    /// The condition that the row `t` runs and may be ended where a person asks for it, which is done at once.
    pub(super) fn judged_at_once(&self) -> String {
        let judged = self.mapping.judged();
        match self.undecided() {
            Some(undecided) => format!("({judged} AND ({undecided}) IS NOT TRUE)"),
            None => judged,
        }
    }

    /// The condition that the row `t` runs and is judged now.
    pub(super) fn judged(&self) -> String {
        let judged = self.judged_at_once();
        if self.holds() {
            format!("({judged} AND ({} IN (SELECT k FROM h)) IS NOT TRUE)", self.mapping.id())
        } else {
            judged
        }
    }

    /// The condition that nothing was seen of pauses of the row `t`, by the key of what is seen: a list of those may be too long
    /// for the memory that a statement has.
    pub(super) fn unpaused(&self) -> Option<String> {
        self.sees_pauses().then(|| {
            format!(
                "(EXISTS (SELECT FROM jobexec.observations AS o WHERE o.store_id = $4 AND o.kind = '{}'
                          AND o.execution_id = {}::text)) IS NOT TRUE",
                Kind::Paused.as_str(),
                self.mapping.id()
            )
        })
    }

    /// From when the row `t` counts of which `p` was seen.
    pub(super) fn dated_and_paused(&self) -> String {
        let times = self.times();
        let seen = format!("CASE WHEN p.started_at = {} THEN p.paused END", times.start);
        times.later_and_paused(Some(&seen))
    }

    /// From when the row `t` counts that has a start. It is never before that, so that an index on the start narrows.
    pub(super) fn dated(&self) -> String {
        self.times().later_and_paused(None)
    }

    /// From when the row `t` counts that has none, and was first seen running as the observation `o` says.
    pub(super) fn undated(&self) -> String {
        self.times().later_than("o.since")
    }

    /// Whether the operator sees since when an execution without a start runs, and remembers it.
    pub(super) fn sees_runs(&self) -> bool {
        self.mapping.version().is_some() && matches!(self.rules, Rules::Table(_))
    }

    /// The observations `o` of those, of rows in this version.
    pub(super) fn seen_running(store_id: &str, version: Option<&str>) -> String {
        let version = version.map_or(String::new(), |version| format!(" AND o.detail = {version}"));
        format!("o.store_id = {store_id} AND o.kind = '{}'{version}", Kind::RunningWithoutStart.as_str())
    }

    /// Whether columns may have a row count from later than its start.
    pub(super) fn counts_later(&self) -> bool {
        self.mapping.created_at().is_some() || self.mapping.paused_for().is_some()
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
        if self.counts_later() || self.sees_pauses() {
            format!("({started} AND {} < {cutoff})", self.counts_from())
        } else {
            started
        }
    }
}
