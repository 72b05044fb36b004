//! The promise to an extended run: the deadline that it had by the rules at the time when a person last extended it. It is a floor:
//! a policy that shortens the timeout later moves no deadline before it. It counts for that run alone, and only while the extension
//! is at least as long as it was then.

use super::time::{FIRST, LAST, Times};
use super::{Judge, Rules, TOTAL};

impl Judge<'_> {
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

    /// Returns the promise of `execution_rule` to `run`; NULL: there is none.
    fn promised_to(&self, run: &str) -> Option<String> {
        matches!(self.rules, Rules::Table(_)).then(|| {
            format!("CASE WHEN execution_rule.promised_start = {run} THEN execution_rule.promised END")
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
            "WITH {rules},
             noted AS MATERIALIZED (
                 SELECT execution_rule.key, execution_rule.extend_by, due.run,
                        -- No more than an extension can give.
                        LEAST(due.deadline, LEAST(GREATEST(due.run, {FIRST}), {LAST}) + interval '1000000 hours') AS promised
                 FROM {table} AS execution {joined} CROSS JOIN LATERAL (SELECT {run} AS run, {deadline} AS deadline) AS due
                 WHERE {id} = ANY (ARRAY (SELECT applies_to FROM execution_rule WHERE extend_by > interval '0')) AND {begun}
                   AND due.run BETWEEN {FIRST} AND {LAST}),
             changed AS MATERIALIZED (
                 SELECT key, noted.extend_by, noted.run, noted.promised FROM jobexec.rules AS rule LEFT JOIN noted USING (key)
                 WHERE rule.store_id = $4 AND rule.scope = 'execution'
                   AND CASE WHEN noted.run IS NULL THEN rule.promised_start IS NOT NULL AND (rule.promised_by <= rule.extend_by) IS NOT TRUE
                            ELSE (rule.promised_start, rule.promised_by) IS DISTINCT FROM (noted.run, noted.extend_by) END)
             UPDATE jobexec.rules AS rule SET promised = changed.promised, promised_start = changed.run, promised_by = changed.extend_by
             FROM changed
             WHERE rule.store_id = $4 AND rule.scope = 'execution' AND rule.key = changed.key
               AND (changed.run IS NULL OR rule.extend_by = changed.extend_by) AND {own}",
            rules = self.rules(),
            table = m.table(),
            joined = self.joined(),
            run = self.run(&self.times()),
            deadline = self.deadline(),
            id = m.id(),
            begun = m.only_handled(m.begun()),
            own = m.of_record("$4"),
        )
    }
}
