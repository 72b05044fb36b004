//! The time at which the next execution is due, so that no check has to run before.
//!
//! The parts are joined here: one for which there are no rules, or no columns, is left out, because planning it takes most of the
//! time of a check.

use chrono::TimeDelta;

use super::{Selection, StalenessPredicate, TOTAL, clamp_timestamp, within};
use crate::api::{Limit, OnStale};

/// The number of rows beyond a cutoff that are read for the next deadline. Where rules govern all of them, the next check is when
/// the last of them might be overdue: that costs little, and is early rather than late.
pub(super) const AHEAD: u8 = 100;

impl StalenessPredicate<'_> {
    /// Returns the earliest deadline of a running execution that comes within `horizon`, or a time before it at which to check
    /// again, as a scalar subquery. Needs [`Self::ctes`] with [`Selection::Look`] and that horizon. May also return a later deadline,
    /// where that costs nothing.
    pub fn next_deadline(&self, horizon: TimeDelta) -> String {
        let (m, index_probes) = (self.mapping, self.index_probes(Selection::Look(horizon)));
        let peeked = |scope| index_probes.iter().any(|peek| peek.scope == scope);
        let mut parts: Vec<String> = self.next_by_default(horizon).into_iter().collect();
        parts.push(self.next_by_rule("execution_rule", &m.id(), None));
        if self.has_rules("job_rule") {
            let which = if peeked("job_rule") { "NOT job_rule.fixed" } else { "true" };
            parts.push(self.next_by_rule("job_rule", &m.job_key().0, Some(which)));
        }
        for peek in &index_probes {
            parts.extend([peek.next(), peek.next_of_more()]);
            parts.extend(peek.next_of_more_later());
        }
        if self.has_rules("type_rule") && !peeked("type_rule") {
            parts.push(self.next_by_type());
        }
        parts.extend(self.next_by_default_later());
        parts.extend(self.next_by_row());
        parts.extend(self.next_without_start());
        parts.extend(self.next_by_pause());
        parts.extend(self.holds().then(|| "SELECT min(until) FROM running_again".to_owned()));
        format!("(SELECT min(deadline) FROM (({})) AS next (deadline))", parts.join(") UNION ALL ("))
    }

    fn next_without_start(&self) -> Option<String> {
        if !self.sees_runs() {
            return None;
        }
        let from = self.undated();
        let start = format!("{} IS NULL", self.mapping.started_column());
        Some(self.next_by_time(&self.join_seen_running(), &start, &format!("{from} + {TOTAL}"), &from))
    }

    fn next_by_pause(&self) -> Option<String> {
        if !self.sees_pauses() {
            return None;
        }
        let m = self.mapping;
        let pauses = format!("JOIN observed_pause ON observed_pause.execution_id = {}", m.id());
        let start = format!("{} IS NOT NULL", m.started_column());
        let deadline = format!("{} + {TOTAL}", self.dated_and_paused());
        Some(self.next_by_time(&pauses, &start, &deadline, &m.started_at()))
    }

    /// Returns the next deadline of rows that count from what was observed of them. `run`: the time that distinguishes their run.
    pub(super) fn next_by_time(&self, observed: &str, start: &str, deadline: &str, run: &str) -> String {
        format!(
            include_str!("next_by_time.sql"),
            deadline = self.not_before_promised(deadline, run),
            table = self.mapping.table(),
            observed = observed,
            rules_of_row = self.joined_for_due(),
            running = self.mapping.judged(),
            start = start,
        )
    }

    /// Returns the start, clamped to the year 9999 before a timeout is added, so that no start can make the sum overflow.
    pub(super) fn start(&self) -> String {
        format!("({})", clamp_timestamp(&self.mapping.started_at()))
    }

    /// Returns the next deadline by the default, of rows that would be past their deadline if they counted from their start.
    fn next_by_default_later(&self) -> Option<String> {
        let base = &self.effective_rules.base;
        let ends = base.timeout.value != Limit::Never && base.on_stale.value != OnStale::AlertOnly;
        if !self.counts_later() || !ends {
            return None;
        }
        let m = self.mapping;
        let from = self.dated();
        Some(format!(
            include_str!("next_by_default_later.sql"),
            counts_from = from,
            table = m.table(),
            running = m.judged(),
            started_by = m.started_by(&Self::default_cutoff()),
            cutoff = Self::default_cutoff(),
            without_rule = self.without_rule(&["execution_rule", "job_rule", "type_rule"]),
        ))
    }

    fn next_by_default(&self, horizon: TimeDelta) -> Option<String> {
        if self.effective_rules.base.timeout.value == Limit::Never {
            return None;
        }
        let m = self.mapping;
        let (table, running, start) = (m.table(), m.judged(), self.start());
        let by_default = m.started_by(&Self::default_cutoff());
        let without_rule = self.without_rule(&["execution_rule", "job_rule", "type_rule"]);
        // The index yields the first rows, unless clock changes put instants in another order than local times.
        Some(if m.starts_in_order() {
            format!(
                include_str!("next_by_default.sql"),
                ahead = AHEAD,
                start = start,
                without_rule = without_rule,
                table = table,
                running = running,
                by_default = by_default,
                soon = m.started_by(&within(horizon, "$1::interval - $2::interval")),
                started_at = m.started_column(),
            )
        } else {
            format!(
                "SELECT min({start}) + $1 + $2 FROM {table} AS execution
                 WHERE {running} AND NOT ({by_default}) AND {without_rule}"
            )
        })
    }

    /// Returns the next deadline of the rows with `key` by the rules of a scope for which `which` is true.
    fn next_by_rule(&self, scope: &'static str, key: &str, which: Option<&str>) -> String {
        let m = self.mapping;
        let deadline = format!("{} + {TOTAL}", self.dated());
        let past = self.counts_by(&format!("statement_timestamp() - {TOTAL}"));
        // Only an execution's own rule holds a promise; all other rules skip rows that have one.
        let (deadline, past) = if scope == "execution_rule" {
            let promised = self.not_before_promised(&deadline, &m.started_at());
            (promised, format!("{past} {}", self.past_promised()))
        } else {
            (deadline, past)
        };
        format!(
            include_str!("next_by_rule.sql"),
            settings = self.due(),
            scope = scope,
            which = which.map_or(String::new(), |which| format!("AND {which}")),
            deadline = deadline,
            table = m.table(),
            key = key,
            other_rules = self.others(scope, &[]),
            running = m.judged(),
            past = past,
        )
    }

    /// Returns the next deadline by the rules of types, where no index serves them.
    fn next_by_type(&self) -> String {
        let m = self.mapping;
        let (table, type_) = (m.table(), m.job_type());
        let from = if m.has_type_column() {
            format!("{table} AS execution ON {type_} = type_rule.applies_to")
        } else {
            format!(
                "{} ON {} = type_rule.applies_to JOIN {table} AS execution ON {}",
                m.jobs_table(),
                m.jobs_type(),
                m.of_job()
            )
        };
        format!(
            include_str!("next_by_type.sql"),
            executions = from,
            counts_from = self.dated(),
            running = m.judged(),
            past = self.counts_by("statement_timestamp() - type_rule.earliest"),
            without_rule = self.without_rule(&["execution_rule", "job_rule"]),
        )
    }
}
