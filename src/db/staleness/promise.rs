//! The promise to an extended run: the deadline that it had by the rules at the time when a person last extended it. It is a floor:
//! a policy that shortens the timeout later moves no deadline before it. It counts for that run alone, and only while the extension
//! is at least as long as it was then.
//!
//! The expressions are assembled here: which columns there are, and whether the operator has tables of its own, depends on the
//! store.

use super::time::{FIRST, LAST, Times};
use super::{Rules, StalenessPredicate, TOTAL};

impl StalenessPredicate<'_> {
    /// Returns the columns of `rule` with the promise that counts, where the rules are read from the table. A value that no
    /// operator can have written does not count.
    pub(super) fn promised_columns() -> String {
        format!(
            "promised_start, CASE WHEN promised_by <= extend_by AND promised <= {LAST} THEN promised END AS promised"
        )
    }

    /// Returns the value that distinguishes the run with these times from other runs of the same row: its start, or when it was
    /// first seen running.
    fn run(&self, times: &Times) -> String {
        self.by_start(times, &times.start, "$4")
    }

    /// Returns the promise of `execution_rule` to `run`; NULL: there is none, or by the `verdict` there is no deadline.
    fn promised_to(&self, run: &str) -> Option<String> {
        matches!(self.rules, Rules::Table(_)).then(|| {
            format!(
                "CASE WHEN execution_rule.promised_start = {run} AND verdict.timeout IS NOT NULL THEN execution_rule.promised END"
            )
        })
    }

    /// Returns `deadline`, or the promise of `execution_rule` to `run` if that is later.
    pub(super) fn not_before_promised(&self, deadline: &str, run: &str) -> String {
        match self.promised_to(run) {
            Some(promised) => format!("GREATEST({deadline}, {promised})"),
            None => deadline.to_owned(),
        }
    }

    /// Returns the condition, to be appended to others, that the row `execution` is past the promise of `execution_rule`.
    pub(super) fn past_promised(&self) -> String {
        let promised = self.promised_to(&self.mapping.started_at());
        promised.map_or(String::new(), |at| format!("AND ({at} > statement_timestamp()) IS NOT TRUE"))
    }

    /// Returns the promise to the row `execution`, if its deadline by its `verdict` would be earlier.
    pub(in crate::db) fn promised(&self) -> Option<String> {
        let promised = self.promised_to(&self.run(&self.times()))?;
        Some(format!(
            "(SELECT promise.at FROM (SELECT {promised} AS at) AS promise WHERE promise.at > {} + {TOTAL})",
            self.counts_from()
        ))
    }

    /// Returns the deadline of the row `execution` by its `verdict`.
    pub(in crate::db) fn deadline(&self) -> String {
        self.deadline_by(&self.times())
    }

    /// Returns the deadline by other expressions than those for the row `execution`.
    pub(in crate::db) fn deadline_by(&self, times: &Times) -> String {
        self.not_before_promised(&format!("{} + {TOTAL}", self.counts_from_by(times)), &self.run(times))
    }

    /// Returns the statement that records the promises by the present rules, and drops those whose extension was reduced or
    /// removed.
    pub(in crate::db) fn promise(&self) -> String {
        let m = self.mapping;
        format!(
            include_str!("promise.sql"),
            first = FIRST,
            last = LAST,
            rules = self.rules(),
            table = m.table(),
            rules_of_row = self.joined(),
            run = self.run(&self.times()),
            deadline = self.deadline(),
            id = m.id(),
            begun = m.only_handled(m.begun()),
            of_this_table = m.of_record("$4"),
        )
    }
}
