//! The timeout of a row, which comes from the first of these that has one: a rule for the execution, a column of the row, a rule for
//! its job or its type, and the defaults. A rule whose timeout has a source and is NULL sets `Never`, and then there is no deadline.

use super::time::{FIRST, Times};
use super::{GRACE_AND_ACTION, Selection, StalenessPredicate, TOTAL};
use crate::db::mapping::literal;

/// Returns the join of `own`: the limit of a row, when it began to run, and its start.
fn joined(limit: &str, began: &str, start: &str) -> String {
    format!("\nCROSS JOIN LATERAL (SELECT {limit} AS until, {began} AS began, {start} AS start) AS own")
}

impl StalenessPredicate<'_> {
    /// Returns the settings for the deadline of a row, from the rules and the limit that were joined to it.
    pub(super) fn due(&self) -> String {
        let own = self.row_timeout().unwrap_or_default();
        format!("{}, {GRACE_AND_ACTION}{}", self.by_precedence(&own, "timeout"), self.retry_settings())
    }

    /// Returns the source of the timeout in [`Self::due`].
    pub(super) fn timeout_source(&self) -> String {
        self.by_precedence(&self.row_source(), "timeout_source")
    }

    /// Returns the source of a timeout of the row itself.
    pub(in crate::db) fn row_source(&self) -> String {
        literal(&format!("column {}", self.mapping.row_limit_column().unwrap_or_default()))
    }

    /// Returns `column` of the rule that counts, or `own` if the timeout of the row does.
    fn by_precedence(&self, own: &str, column: &str) -> String {
        let of_row = self
            .row_timeout()
            .map_or(String::new(), |timeout| format!("WHEN ({timeout}) IS NOT NULL THEN {own} "));
        format!(
            "CASE WHEN execution_rule.timeout_source IS NOT NULL THEN execution_rule.{column} \
             {of_row}\
             WHEN job_rule.timeout_rank <= COALESCE(type_rule.timeout_rank, 99) THEN job_rule.{column} \
             WHEN type_rule.timeout_source IS NOT NULL THEN type_rule.{column} \
             ELSE store_defaults.{column} END AS {column}"
        )
    }

    /// Returns the join of the row `execution` to its own limit as `own`, if it can have one.
    pub(super) fn own_limit(&self) -> String {
        let times = self.times();
        let began = self.by_start(&times, &times.later_than(&times.start), "$4");
        self.mapping.row_limit().map_or(String::new(), |limit| joined(&limit, &began, &times.start))
    }

    /// Returns the same join for a row with this limit and these times. A row whose start was cleared has its limit nevertheless.
    pub(in crate::db) fn own_limit_of(&self, limit: &str, times: &Times) -> String {
        let began = self.by_start(times, &times.later_than(&times.start), "$4");
        joined(limit, &format!("COALESCE({began}, {FIRST})"), &times.start)
    }

    /// Returns the timeout of the row by the joined `own`: NULL if it has none. `None`: no column is mapped.
    pub(in crate::db) fn row_timeout(&self) -> Option<String> {
        let m = self.mapping;
        m.row_limit_column().map(|_| m.row_timeout("own.until", "own.began", "own.start"))
    }

    /// Returns the condition that the row `execution`, which has a start, has no timeout of its own.
    pub(super) fn without_row_timeout(&self) -> Option<String> {
        let times = self.times();
        self.mapping
            .has_row_timeout(&times.later_than(&times.start))
            .map(|has| format!("({has}) IS NOT TRUE"))
    }

    /// Returns the condition that the timeout of the row `execution` is its own, if it can have one.
    fn counts_by_row(&self) -> Option<String> {
        let timeout = self.row_timeout()?;
        Some(format!("({timeout}) IS NOT NULL AND execution_rule.timeout_source IS NULL"))
    }

    /// Returns the condition, to be appended to others, that neither a promise nor a timeout of its own gives the row `execution`,
    /// which is past its deadline by the rule for it, another deadline.
    pub(super) fn unless_otherwise(&self) -> String {
        let of_row = self.counts_by_row().map_or(String::new(), |own| format!(" AND ({own}) IS NOT TRUE"));
        self.past_promised() + &of_row
    }

    /// Returns the rows that are past their deadline by their own timeout.
    pub(super) fn by_row(&self, selection: Selection) -> Option<String> {
        let m = self.mapping;
        let more = [
            Some(self.counts_by_row()?),
            Some(format!("{} IS NOT NULL", m.started_column())),
            m.row_deadline_by_now(),
            Some(format!("{} + {TOTAL} <= statement_timestamp()", self.dated())),
            self.unpaused(),
        ];
        let more: Vec<String> = more.into_iter().flatten().collect();
        let more = format!("{} {}", more.join(" AND "), self.past_promised());
        Some(self.by_time("", &more, selection))
    }

    /// Returns the next deadline of rows with a timeout of their own.
    pub(super) fn next_by_row(&self) -> Option<String> {
        let m = self.mapping;
        let more = format!("{} IS NOT NULL AND {}", m.started_column(), self.counts_by_row()?);
        Some(self.next_by_time("", &more, &format!("{} + {TOTAL}", self.dated()), &m.started_at()))
    }
}
