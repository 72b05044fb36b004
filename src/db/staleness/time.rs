//! The time from which an execution counts: its start or its creation, whichever is later, because a row written by two clocks may
//! claim that it started before it was created. An execution that runs without a start has waited for an unknown time: it counts
//! from when it was first seen running in the present version of its row, which only the operator's tables record. Time for which
//! it was paused does not count: by its row or by the operator's observations, whichever is longer.
//!
//! No row counts from before its start, so that an index on the start narrows the search. In a statement, observed pauses are
//! `observed_pause` (execution, start, and duration): rows with observed pauses are evaluated separately from all others.
//!
//! The expressions are assembled here: which columns there are, and whether the operator has tables of its own, depends on the
//! store.

use super::{Rules, StalenessPredicate, WARN};
use crate::db::granted::SOURCE;
use crate::db::identity::extended_elsewhere;
use crate::db::ids::id_of;
use crate::db::mapping::literal;
use crate::db::observations::{Kind, SEEN_PAUSED};

/// The limits to which the ends of Postgres' range are clamped, so that adding to them does not overflow.
pub(super) const FIRST: &str = "'0001-01-01Z'::timestamptz";
pub(super) const LAST: &str = "'9999-12-31Z'::timestamptz";

/// SQL expressions for the times in a row.
#[derive(Clone, Debug)]
pub(in crate::db) struct Times {
    /// Its id.
    pub(in crate::db) id: String,
    /// Its start as an instant.
    pub(in crate::db) start: String,
    /// Its creation as an instant, if that is mapped.
    pub(in crate::db) created: Option<String>,
    /// The time for which it has been paused by its own column, if that is mapped.
    pub(in crate::db) paused: Option<String>,
    /// Its version now, or when it was evaluated; `None`: this login may not read it.
    pub(in crate::db) version: Option<String>,
}

impl Times {
    /// Returns the later of the creation and `start`.
    pub(super) fn later_than(&self, start: &str) -> String {
        let created = self.created.as_ref().map_or(String::new(), |created| format!("{created}, "));
        format!("LEAST(GREATEST({start}, {created}{FIRST}), {LAST})")
    }

    /// Returns the later of the creation and the start, plus the time for which the row was paused: by its own column, and by
    /// `seen`, an interval.
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

impl StalenessPredicate<'_> {
    /// Returns the times of the row `execution`.
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

    /// Returns the time from which the row `execution` counts; NULL: unknown.
    pub(in crate::db) fn counts_from(&self) -> String {
        self.counts_from_by(&self.times())
    }

    /// Returns the time from which a row counts, by other expressions than those for the row `execution`.
    pub(in crate::db) fn counts_from_by(&self, times: &Times) -> String {
        self.by_start(times, &times.later_and_paused(self.seen_paused(times).as_deref()), "$4")
    }

    /// Returns when the run of the row `execution` began; NULL: unknown. `store_id` is the parameter with the store's id in the
    /// operator's tables.
    pub(in crate::db) fn began_running(&self, store_id: &str) -> String {
        let times = self.times();
        self.by_start(&times, &times.later_than(&times.start), store_id)
    }

    /// Returns `dated` if there is a start, else when the row was first seen running.
    pub(super) fn by_start(&self, times: &Times, dated: &str, store_id: &str) -> String {
        let otherwise = if self.sees_runs() {
            format!(
                "ELSE (SELECT {} FROM jobexec.observations AS observation WHERE {} AND observation.execution_id = {}::text)",
                times.later_than("observation.since"),
                Self::seen_running(store_id, times.version.as_deref()),
                times.id
            )
        } else {
            String::new()
        };
        format!("CASE WHEN {} IS NOT NULL THEN {dated} {otherwise} END", times.start)
    }

    /// Returns when the run of the row `execution` began, or when it resumed after a pause.
    pub(in crate::db) fn began_or_resumed(&self) -> String {
        let began = self.began_running("$4");
        self.resumed_at().map_or(began.clone(), |resumed| format!("GREATEST({began}, {resumed})"))
    }

    /// Reports whether the operator observes pauses, and stores what it observes.
    pub(super) fn sees_pauses(&self) -> bool {
        self.mapping.pauses() && matches!(self.rules, Rules::Table(_))
    }

    /// Returns the expression `what` over the `observation` of pauses of the execution with these times.
    fn of_pauses(times: &Times, what: &str) -> String {
        format!(
            "(SELECT {what} FROM jobexec.observations AS observation WHERE observation.store_id = $4 AND observation.kind = '{}' \
             AND observation.execution_id = {}::text AND observation.started_at = {})",
            Kind::Paused.as_str(),
            times.id,
            times.start
        )
    }

    fn seen_paused(&self, times: &Times) -> Option<String> {
        self.sees_pauses().then(|| Self::of_pauses(times, SEEN_PAUSED))
    }

    /// Returns when the row `execution` was seen running again after a pause, if it was: it is known to be alive then.
    pub(in crate::db) fn resumed_at(&self) -> Option<String> {
        let what =
            "CASE WHEN observation.detail IS NULL THEN statement_timestamp() ELSE observation.since END";
        self.sees_pauses().then(|| Self::of_pauses(&self.times(), what))
    }

    /// Returns the common table expression `observed_pause` (`execution_id`, `started_at`, paused), where pauses are observed.
    pub(super) fn pauses(&self) -> Option<String> {
        let key = id_of("observation.execution_id", self.mapping.id_type());
        self.sees_pauses().then(|| {
            format!(
                include_str!("observed_pauses.sql"),
                execution_id = key,
                paused = SEEN_PAUSED,
                kind = Kind::Paused.as_str(),
            )
        })
    }

    /// Reports whether an execution that runs again with the same start gets time: there are grace periods, and the operator stores
    /// that it runs again.
    pub(super) fn holds(&self) -> bool {
        let rules = self.effective_rules.rules.iter().filter_map(|rule| rule.grace.as_ref());
        matches!(self.rules, Rules::Table(_))
            && rules
                .chain([&self.effective_rules.base.grace])
                .any(|grace| grace.value > chrono::TimeDelta::zero())
    }

    /// Returns the common table expression `running_again` (`execution_id`, until): the executions that run again with the same
    /// start, and get one grace period.
    pub(super) fn held(&self) -> Option<String> {
        let m = self.mapping;
        self.holds().then(|| {
            format!(
                include_str!("running_again.sql"),
                id = m.id(),
                table = m.table(),
                observed_id = id_of("observation.execution_id", m.id_type()),
                started_at = m.started_at(),
                rules_of_row = self.joined_for_due(),
                kind = Kind::StartedAgain.as_str(),
                running = m.judged(),
            )
        })
    }

    /// Returns the condition that a person gave the row `execution` more time in another record, while its own has no extension of
    /// it: whether that extension counts is not decided or not known yet. `None`: there is no such record. The list is a hashed
    /// subplan, which keeps the order of the index.
    pub(in crate::db) fn undecided(&self) -> Option<String> {
        let Rules::Table(_) = self.rules else { return None };
        let records: Vec<String> = self.undecided.iter().map(ToString::to_string).collect();
        (!records.is_empty()).then(|| {
            format!(
                "{id}::text IN (SELECT rule.key FROM jobexec.rules AS rule WHERE rule.store_id IN ({records}) AND {open})",
                id = self.mapping.id(),
                records = records.join(", "),
                open = extended_elsewhere(&literal(&format!("{SOURCE}%")), "$4"),
            )
        })
    }

    /// Returns the condition that the row `execution` runs and that a manual request, which takes effect at once, may end it.
    pub(super) fn judged_at_once(&self) -> String {
        let judged = self.mapping.judged();
        match self.undecided() {
            Some(undecided) => format!("({judged} AND ({undecided}) IS NOT TRUE)"),
            None => judged,
        }
    }

    /// Returns the condition that the row `execution` runs and is evaluated now.
    pub(super) fn judged(&self) -> String {
        let judged = self.judged_at_once();
        if self.holds() {
            format!(
                "({judged} AND ({} IN (SELECT execution_id FROM running_again)) IS NOT TRUE)",
                self.mapping.id()
            )
        } else {
            judged
        }
    }

    /// Returns the condition that no pause of the row `execution` was observed. It uses the key of the observations: a list of them
    /// may be too long for the memory of a statement.
    pub(super) fn unpaused(&self) -> Option<String> {
        self.sees_pauses().then(|| {
            format!(
                "(EXISTS (SELECT FROM jobexec.observations AS observation WHERE observation.store_id = $4 AND observation.kind = '{}'
                          AND observation.execution_id = {}::text)) IS NOT TRUE",
                Kind::Paused.as_str(),
                self.mapping.id()
            )
        })
    }

    /// Returns the time from which the row `execution` counts if `observed_pause` holds its observed pauses.
    pub(super) fn dated_and_paused(&self) -> String {
        let times = self.times();
        let seen =
            format!("CASE WHEN observed_pause.started_at = {} THEN observed_pause.paused END", times.start);
        times.later_and_paused(Some(&seen))
    }

    /// Returns the time from which the row `execution` counts if it has a start. It is never before the start, so that an index on
    /// the start narrows the search.
    pub(super) fn dated(&self) -> String {
        self.times().later_and_paused(None)
    }

    /// Returns the time from which the row `execution` counts if it has no start, and the `observation` says when it was first seen
    /// running.
    pub(super) fn undated(&self) -> String {
        self.times().later_than("observation.since")
    }

    /// Reports whether the operator observes since when executions without a start run, and stores it.
    pub(super) fn sees_runs(&self) -> bool {
        self.mapping.version().is_some() && matches!(self.rules, Rules::Table(_))
    }

    /// Returns the condition for the `observation` of executions without a start, of rows in this version.
    pub(super) fn seen_running(store_id: &str, version: Option<&str>) -> String {
        let version = version.map_or(String::new(), |version| format!(" AND observation.detail = {version}"));
        format!(
            "observation.store_id = {store_id} AND observation.kind = '{}'{version}",
            Kind::RunningWithoutStart.as_str()
        )
    }

    /// Reports whether columns can make a row count from later than its start.
    pub(super) fn counts_later(&self) -> bool {
        self.mapping.created_at().is_some() || self.mapping.paused_for().is_some()
    }

    /// Returns the condition that the row `execution` has a start and counts from `cutoff` or before, so that an index on the start
    /// serves.
    pub(in crate::db) fn counts_by(&self, cutoff: &str) -> String {
        let started = self.mapping.started_by(cutoff);
        if self.counts_later() { format!("{started} AND {} <= ({cutoff})", self.dated()) } else { started }
    }

    /// Returns the condition that the row `execution` has a start and has run for longer than the warning threshold of its
    /// `verdict`.
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
