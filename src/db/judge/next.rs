//! The time at which the next execution is due, so that no check has to run before.

use chrono::TimeDelta;

use super::{DUE, Judge, TOTAL, Take, wire, within};
use crate::api::OnStale;

/// The number of rows beyond a cutoff that are read for the next deadline. Where rules govern all of them, the next check is when
/// the last of them might be overdue: that costs little, and is early rather than late.
pub(super) const AHEAD: u8 = 100;

impl Judge<'_> {
    /// Returns the earliest deadline of a running execution that comes within `horizon`, or a time before it at which to check
    /// again, as a scalar subquery. Needs [`Self::ctes`] with [`Take::Look`] and that horizon. May also return a later deadline,
    /// where that costs nothing.
    pub fn next_deadline(&self, horizon: TimeDelta) -> String {
        let peeks = self.peeks(Take::Look(horizon));
        let peeked = |scope| peeks.iter().any(|peek| peek.scope == scope);
        let mut parts = vec![self.next_by_default(horizon), self.next_by_execution()];
        if self.has_rules("job_rule") {
            parts.push(self.next_by_job(if peeked("job_rule") { "NOT job_rule.fixed" } else { "true" }));
        }
        for peek in &peeks {
            parts.extend([peek.next(), peek.next_of_more()]);
            parts.extend(peek.next_of_more_later());
        }
        if self.has_rules("type_rule") && !peeked("type_rule") {
            parts.push(self.next_by_type());
        }
        parts.extend(self.next_by_default_later());
        parts.extend(self.next_without_start());
        parts.extend(self.next_by_pause());
        parts.extend(self.holds().then(|| "SELECT min(until) FROM running_again".to_owned()));
        format!("(SELECT min(deadline) FROM (({})) AS next (deadline))", parts.join(") UNION ALL ("))
    }

    fn next_without_start(&self) -> Option<String> {
        if !self.sees_runs() {
            return None;
        }
        let m = self.mapping;
        let from = self.undated();
        let deadline = self.not_before_promised(&format!("{from} + {TOTAL}"), &from);
        Some(format!(
            "SELECT min({deadline}) FROM {table} AS execution {seen} {joined} \
             WHERE {running} AND {start} IS NULL AND {deadline} > statement_timestamp()",
            table = m.table(),
            seen = self.join_seen_running(),
            joined = self.joined_for_due(),
            running = m.judged(),
            start = m.started_column(),
        ))
    }

    fn next_by_pause(&self) -> Option<String> {
        if !self.sees_pauses() {
            return None;
        }
        let m = self.mapping;
        let deadline = format!("{} + {TOTAL}", self.dated_and_paused());
        let deadline = self.not_before_promised(&deadline, &m.started_at());
        Some(format!(
            "SELECT min({deadline}) FROM {table} AS execution JOIN observed_pause ON observed_pause.execution_id = {id} {joined} \
             WHERE {running} AND {start} IS NOT NULL AND {deadline} > statement_timestamp()",
            table = m.table(),
            id = m.id(),
            joined = self.joined_for_due(),
            running = m.judged(),
            start = m.started_column(),
        ))
    }

    /// Returns the start, clamped to the year 9999 before a timeout is added, so that no start can make the sum overflow.
    pub(super) fn start(&self) -> String {
        format!("({})", wire(&self.mapping.started_at()))
    }

    /// Returns the next deadline by the default, of rows that would be past their deadline if they counted from their start.
    fn next_by_default_later(&self) -> Option<String> {
        if !self.counts_later() || self.effective_rules.base.on_stale.value == OnStale::AlertOnly {
            return None;
        }
        let m = self.mapping;
        let from = self.dated();
        Some(format!(
            "SELECT min({from}) + $1 + $2 FROM {table} AS execution WHERE {running} AND {started_by} AND {from} > {cutoff} AND {unruled}",
            table = m.table(),
            running = m.judged(),
            started_by = m.started_by(&Self::default_cutoff()),
            cutoff = Self::default_cutoff(),
            unruled = self.unruled(&["execution_rule", "job_rule", "type_rule"]),
        ))
    }

    fn next_by_default(&self, horizon: TimeDelta) -> String {
        let m = self.mapping;
        let (table, running, start) = (m.table(), m.judged(), self.start());
        let by_default = m.started_by(&Self::default_cutoff());
        let unruled = self.unruled(&["execution_rule", "job_rule", "type_rule"]);
        // The index yields the first rows, unless clock changes put instants in another order than local times.
        if m.starts_in_order() {
            format!(
                "SELECT COALESCE(min(start) FILTER (WHERE unruled), CASE WHEN count(*) = {AHEAD} THEN max(start) END)
                        + $1 + $2
                 FROM (SELECT {start} AS start, {unruled} AS unruled FROM {table} AS execution
                       WHERE {running} AND NOT ({by_default}) AND {soon} ORDER BY {order} LIMIT {AHEAD}) AS ahead",
                soon = m.started_by(&within(horizon, "$1::interval - $2::interval")),
                order = m.started_column(),
            )
        } else {
            format!(
                "SELECT min({start}) + $1 + $2 FROM {table} AS execution
                 WHERE {running} AND NOT ({by_default}) AND {unruled}"
            )
        }
    }

    fn next_by_execution(&self) -> String {
        let m = self.mapping;
        format!(
            "SELECT min({deadline}) FROM execution_rule JOIN {table} AS execution ON {id} = execution_rule.applies_to {others} \
             CROSS JOIN LATERAL (SELECT {DUE}) AS verdict
             WHERE execution_rule.moves AND {running} AND NOT ({by_deadline} {past_promised})",
            deadline = self.not_before_promised(&format!("{} + {TOTAL}", self.dated()), &m.started_at()),
            past_promised = self.past_promised(),
            table = m.table(),
            id = m.id(),
            others = self.others("execution_rule", &[]),
            running = m.judged(),
            by_deadline = self.counts_by(&format!("statement_timestamp() - {TOTAL}")),
        )
    }

    /// Returns the next deadline by the rules of jobs for which `which` is true.
    fn next_by_job(&self, which: &str) -> String {
        let m = self.mapping;
        format!(
            "SELECT min({start} + {TOTAL}) FROM job_rule JOIN {table} AS execution ON {job} = job_rule.applies_to {others} \
             CROSS JOIN LATERAL (SELECT {DUE}) AS verdict
             WHERE job_rule.moves AND {which} AND {running} AND NOT ({by_deadline})",
            start = self.dated(),
            table = m.table(),
            job = m.job_key().0,
            others = self.others("job_rule", &[]),
            running = m.judged(),
            by_deadline = self.counts_by(&format!("statement_timestamp() - {TOTAL}")),
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
            "SELECT min({start} + type_rule.earliest) FROM type_rule JOIN {from}
             WHERE type_rule.moves AND {running} AND NOT ({past}) AND {unruled}",
            start = self.dated(),
            running = m.judged(),
            past = self.counts_by("statement_timestamp() - type_rule.earliest"),
            unruled = self.unruled(&["execution_rule", "job_rule"]),
        )
    }
}
