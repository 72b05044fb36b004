//! The timeout that a row has by a column of its own.

use super::Mapping;
use super::sql::{clamp_timestamp, column};

/// The shortest timeout of a row, in seconds; shorter ones do not count.
const SHORTEST: &str = "0.000001";

/// The longest time to a deadline of a row: longer than any that can pass, and short enough to be subtracted from the present time.
const FARTHEST: &str = "interval '2200000 days'";

impl Mapping {
    /// Returns the timeout or the deadline of a row as its column has it, as an interval or an instant: NULL if it has none.
    /// `None`: no column is mapped.
    pub fn row_limit(&self) -> Option<String> {
        let columns = &self.layout.table.columns;
        let Some(timeout) = columns.timeout.as_ref().map(column) else {
            let deadline = columns.deadline_at.as_ref()?;
            return Some(self.instant(&column(deadline), self.types.deadline_at?));
        };
        // In seconds, so that adding it and subtracting it mean the same: months have no fixed length.
        let seconds =
            if self.types.timeout_is_interval { format!("EXTRACT(epoch FROM {timeout})") } else { timeout };
        Some(format!(
            "CASE WHEN {seconds} >= {SHORTEST} THEN make_interval(secs => LEAST({seconds}, 3600000000)::float8) END"
        ))
    }

    /// Returns the timeout of a row with this [limit](Self::row_limit) that began to run at `began`, with this start: NULL if it has
    /// none, and never zero or negative. A deadline that is not after the start does not count. Without a start it counts, even if
    /// the row was first seen running after it.
    pub fn row_timeout(&self, limit: &str, began: &str, start: &str) -> String {
        if self.layout.table.columns.timeout.is_some() {
            return limit.to_owned();
        }
        format!(
            "CASE WHEN {limit} > {began} THEN LEAST({} - {began}, {FARTHEST}) \
             WHEN {start} IS NULL AND {limit} <= {began} THEN interval '1 microsecond' END",
            clamp_timestamp(limit)
        )
    }

    /// Returns the condition that a row that began to run at its start, `began`, has a timeout of its own; `None`: no column is
    /// mapped.
    pub fn has_row_timeout(&self, began: &str) -> Option<String> {
        let limit = self.row_limit()?;
        Some(match self.layout.table.columns.timeout {
            Some(_) => format!("{limit} IS NOT NULL"),
            None => format!("{limit} > {began}"),
        })
    }

    /// Returns a condition that is true of all rows that are past a deadline of their own, so that an index on it serves; `None`:
    /// rows have no such column.
    pub fn row_deadline_by_now(&self) -> Option<String> {
        let deadline = self.layout.table.columns.deadline_at.as_ref()?;
        Some(self.by(&column(deadline), self.types.deadline_at?, "statement_timestamp()"))
    }

    /// Returns the name of the column with the timeout or the deadline of a row.
    pub fn row_limit_column(&self) -> Option<&str> {
        let columns = &self.layout.table.columns;
        columns.timeout.as_ref().or(columns.deadline_at.as_ref()).map(|name| name.0.as_str())
    }
}
