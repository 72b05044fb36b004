//! The assignments of a statement that ends an execution.

use super::Mapping;
use super::sql::{condition, literal, quote};
use crate::api::OnStale;
use crate::db::ending::Ending;

impl Mapping {
    /// Reports whether an execution can be cancelled: the mapping has a status text for it, and the text fits the column.
    pub const fn can_cancel(&self) -> bool {
        self.types.can_cancel
    }

    /// Returns what became of a row that a statement has written, by its status; NULL: it keeps running, or has a status of which that
    /// is not known. A trigger may have written something other than the statement did.
    pub fn ending(&self) -> String {
        let statuses = &self.layout.table.statuses;
        let all = [
            (&statuses.failed, Ending::Failed),
            (&statuses.cancelled, Ending::Cancelled),
            (&statuses.scheduled, Ending::Retried),
            (&statuses.completed, Ending::Completed),
        ];
        let cases: String = all
            .into_iter()
            .filter(|(texts, _)| !texts.is_empty())
            .map(|(texts, ending)| {
                format!("WHEN {} THEN '{}' ", condition(&self.status(), texts), ending.as_str())
            })
            .collect();
        format!("CASE {cases}END")
    }

    /// Returns the clause that locks the rows `execution` that are to be ended, and skips rows that another transaction holds. It
    /// is the lock that the update itself takes. A stronger one would skip rows that others only refer to, such as a worker that
    /// writes its log to a table with a foreign key, and would make those others wait.
    pub const fn lock(&self) -> &'static str {
        if self.types.ends_keys {
            "FOR UPDATE OF execution SKIP LOCKED"
        } else {
            "FOR NO KEY UPDATE OF execution SKIP LOCKED"
        }
    }

    /// Returns the assignments that end an execution at the database's present time, failed or cancelled.
    pub fn end_assignments(&self, how: OnStale, explanation: &str) -> String {
        let error = self.error_assignment(&literal(explanation));
        self.end_status(how) + &error.map_or(String::new(), |error| format!(", {error}"))
    }

    /// Returns the same assignments, without that of the error.
    pub(in crate::db) fn end_status(&self, how: OnStale) -> String {
        let (columns, statuses) = (&self.layout.table.columns, &self.layout.table.statuses);
        let text = match how {
            OnStale::Cancel => statuses.cancelled.first().map_or("cancelled", |s| s.0.as_str()),
            _ => statuses.failed.first().map_or("failed", |s| s.0.as_str()),
        };
        format!(
            "{} = {}, {} = {}",
            quote(&columns.status.0),
            literal(text),
            quote(&columns.completed_at.0),
            self.stored("statement_timestamp()", self.types.completed_at)
        )
    }

    /// Returns the assignment of `explanation`, an SQL expression, to the error, if that is mapped.
    pub(in crate::db) fn error_assignment(&self, explanation: &str) -> Option<String> {
        let error = quote(&self.layout.table.columns.error.as_ref()?.0);
        Some(match self.types.error_limit {
            Some(limit) => format!("{error} = left({explanation}, {limit})"),
            None => format!("{error} = {explanation}"),
        })
    }
}
