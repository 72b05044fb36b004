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

    /// Returns the promise of rule `e` to `run`; NULL: there is none.
    fn promised_to(&self, run: &str) -> Option<String> {
        matches!(self.rules, Rules::Table(_))
            .then(|| format!("CASE WHEN e.promised_start = {run} THEN e.promised END"))
    }

    /// Returns `deadline`, or the promise of rule `e` to `run` if that is later.
    pub(super) fn not_before_promised(&self, deadline: &str, run: &str) -> String {
        match self.promised_to(run) {
            Some(promised) => format!("GREATEST({deadline}, {promised})"),
            None => deadline.to_owned(),
        }
    }

    /// Returns the condition, to be appended to others, that the row `t` is past the promise of rule `e`.
    pub(super) fn past_promised(&self) -> String {
        let promised = self.promised_to(&self.mapping.started_at());
        promised.map_or(String::new(), |at| format!("AND ({at} > statement_timestamp()) IS NOT TRUE"))
    }

    /// Returns the promise to the row `t`, if its deadline by its verdict `v` would be earlier.
    pub(in crate::db) fn promised(&self) -> Option<String> {
        let promised = self.promised_to(&self.run(&self.times()))?;
        Some(format!(
            "(SELECT f.at FROM (SELECT {promised} AS at) AS f WHERE f.at > {} + {TOTAL})",
            self.counts_from()
        ))
    }

    /// Returns the deadline of the row `t` by its verdict `v`.
    pub(in crate::db) fn deadline(&self) -> String {
        self.deadline_by(&self.times())
    }

    /// Returns the deadline by other expressions than those for the row `t`.
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
                 SELECT e.key, e.extend_by, d.run,
                        -- No more than an extension can give.
                        LEAST(d.deadline, LEAST(GREATEST(d.run, {FIRST}), {LAST}) + interval '1000000 hours') AS promised
                 FROM {table} AS t {joined} CROSS JOIN LATERAL (SELECT {run} AS run, {deadline} AS deadline) AS d
                 WHERE {id} = ANY (ARRAY (SELECT k FROM e WHERE extend_by > interval '0')) AND {begun}
                   AND d.run BETWEEN {FIRST} AND {LAST}),
             changed AS MATERIALIZED (
                 SELECT key, n.extend_by, n.run, n.promised FROM jobexec.rules AS r LEFT JOIN noted AS n USING (key)
                 WHERE r.store_id = $4 AND r.scope = 'execution'
                   AND CASE WHEN n.run IS NULL THEN r.promised_start IS NOT NULL AND (r.promised_by <= r.extend_by) IS NOT TRUE
                            ELSE (r.promised_start, r.promised_by) IS DISTINCT FROM (n.run, n.extend_by) END)
             UPDATE jobexec.rules AS r SET promised = c.promised, promised_start = c.run, promised_by = c.extend_by
             FROM changed AS c
             WHERE r.store_id = $4 AND r.scope = 'execution' AND r.key = c.key
               AND (c.run IS NULL OR r.extend_by = c.extend_by) AND {own}",
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
