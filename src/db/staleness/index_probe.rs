//! The first index probe for each rule when reading without locks: it finds the few rows that are past their deadline or soon will
//! be, which answers both which rows are stale and when the next one is due. Only if all of these rows are past their deadline, so
//! that there may be more, does the rule get a second query. Rows that may count from later than their start are also found by
//! their start: `past` compares the start, and `due` also the time from which the row counts.

use chrono::TimeDelta;

use super::next_deadline::AHEAD;
use super::{Reason, Selection, StalenessPredicate, within};

/// The number of rows of a rule that are read at first: enough that most rules need no second probe, and cheap to read.
const FIRST: u8 = 10;

/// The rules of one scope that a probe can answer.
pub(super) struct IndexProbe<'a> {
    predicate: &'a StalenessPredicate<'a>,
    pub(super) scope: &'static str,
    /// The column or expression of a row that the rules apply to.
    key: String,
    /// The scopes whose rules take precedence.
    others: &'static [&'static str],
    horizon: TimeDelta,
}

impl<'a> StalenessPredicate<'a> {
    /// Returns the scopes whose rows come in the order of the index.
    pub(super) fn index_probes(&'a self, selection: Selection) -> Vec<IndexProbe<'a>> {
        let (m, Selection::Look(horizon)) = (self.mapping, selection) else { return Vec::new() };
        if !m.starts_in_order() || self.asked.is_some() {
            return Vec::new();
        }
        let peek = |scope, key, others| IndexProbe { predicate: self, scope, key, others, horizon };
        let jobs = (self.has_rules("job_rule") && m.indexed_by_job())
            .then(|| peek("job_rule", m.job_key().0, &["execution_rule"]));
        let types = (self.has_rules("type_rule") && m.has_type_column() && m.indexed_by_type())
            .then(|| peek("type_rule", m.job_type(), &["execution_rule", "job_rule"]));
        jobs.into_iter().chain(types).collect()
    }
}

impl IndexProbe<'_> {
    /// Returns the common table expressions `first_of_{scope}` (`applies_to`, earliest, action, id, start, unruled, past, and where
    /// rows may count from later `counts` and `due`) and `more_of_{scope}` (`applies_to`), the rules that need a second query.
    pub(super) fn ctes(&self) -> String {
        let (m, scope) = (self.predicate.mapping, self.scope);
        format!(
            include_str!("first_of_rules.sql"),
            scope = scope,
            first = FIRST,
            action = self.predicate.action_by(
                Reason::DeadlineExceeded,
                &format!("COALESCE({scope}.on_stale, store_defaults.on_stale)"),
                &format!("COALESCE({scope}.retry, store_defaults.retry)"),
            ),
            id = m.id(),
            start = self.predicate.start(),
            without_rule = self.predicate.without_rule(self.others),
            past = self.past(),
            counts_later = self.later(),
            table = m.table(),
            key = self.key,
            running = self.predicate.judged(),
            soon = self.soon(),
            started_at = m.started_column(),
        )
    }

    fn later(&self) -> String {
        if !self.predicate.counts_later() {
            return String::new();
        }
        let counts = self.predicate.dated();
        format!(", {counts} AS counts, {counts} <= {} AS due", self.cutoff())
    }

    /// Returns the condition for the rules that the probe has not answered.
    pub(super) fn rest(&self) -> String {
        let scope = self.scope;
        format!("(NOT {scope}.fixed OR {scope}.applies_to IN (SELECT applies_to FROM more_of_{scope}))")
    }

    /// Returns the stale rows, except those of rules in `more`.
    pub(super) fn stale(&self) -> String {
        format!(
            "SELECT id, '{reason}' AS reason, action, 0 AS place FROM first_of_{scope}
             WHERE past{due} AND without_rule AND action <> 'AlertOnly' AND applies_to NOT IN (SELECT applies_to FROM more_of_{scope})",
            due = if self.predicate.counts_later() { " AND due" } else { "" },
            reason = Reason::DeadlineExceeded.as_str(),
            scope = self.scope,
        )
    }

    /// Returns the next deadline by these rules, except those in `more`; where other rules govern all rows that were read, a time
    /// before it.
    pub(super) fn next(&self) -> String {
        let later = if self.predicate.counts_later() {
            "min(counts) FILTER (WHERE without_rule AND past AND NOT due)"
        } else {
            "NULL"
        };
        format!(include_str!("next_of_first.sql"), first = FIRST, counts_later = later, scope = self.scope,)
    }

    /// Returns the next deadline by the rules in `more`.
    pub(super) fn next_of_more(&self) -> String {
        let (m, scope) = (self.predicate.mapping, self.scope);
        format!(
            include_str!("next_of_more.sql"),
            scope = scope,
            ahead = AHEAD,
            start = self.predicate.start(),
            without_rule = self.predicate.without_rule(self.others),
            table = m.table(),
            key = self.key,
            running = self.predicate.judged(),
            past = self.past(),
            soon = self.soon(),
            started_at = m.started_column(),
        )
    }

    /// Returns the next deadline by the rules in `more`, of rows that would be past their deadline if they counted from their
    /// start.
    pub(super) fn next_of_more_later(&self) -> Option<String> {
        if !self.predicate.counts_later() {
            return None;
        }
        let (m, scope) = (self.predicate.mapping, self.scope);
        let counts = self.predicate.dated();
        Some(format!(
            include_str!("next_of_more_later.sql"),
            counts_from = counts,
            scope = scope,
            table = m.table(),
            key = self.key,
            running = self.predicate.judged(),
            past = self.past(),
            cutoff = self.cutoff(),
            without_rule = self.predicate.without_rule(self.others),
        ))
    }

    /// Returns the condition that a row is past its deadline by its start.
    fn past(&self) -> String {
        self.predicate.mapping.started_by(&self.cutoff())
    }

    fn cutoff(&self) -> String {
        format!("statement_timestamp() - {}.earliest", self.scope)
    }

    /// Returns the condition that a row is past its deadline by its start, or will be within the horizon.
    fn soon(&self) -> String {
        self.predicate.mapping.started_by(&within(self.horizon, &format!("{}.earliest", self.scope)))
    }
}
