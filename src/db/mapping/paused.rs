//! Executions that are paused on purpose, and executions that the operator ignores.

use super::Mapping;
use super::sql::column;

impl Mapping {
    /// Reports whether there are statuses of paused executions.
    pub const fn pauses(&self) -> bool {
        !self.layout.table.statuses.paused.is_empty()
    }

    /// Returns the condition that an execution is paused.
    pub fn paused(&self) -> String {
        self.status_in(&self.layout.table.statuses.paused)
    }

    /// Returns the condition that an execution has begun and has not ended.
    pub fn begun(&self) -> String {
        let statuses = &self.layout.table.statuses;
        self.status_in(&[statuses.running.as_slice(), &statuses.paused].concat())
    }

    /// Returns the condition that an execution waits, runs or is paused.
    pub fn alive(&self) -> String {
        let statuses = &self.layout.table.statuses;
        self.status_in(&[statuses.running.as_slice(), &statuses.scheduled, &statuses.paused].concat())
    }

    /// Returns the condition that the operator ignores an execution.
    pub fn ignored(&self) -> String {
        self.status_in(&self.layout.table.statuses.ignored)
    }

    /// Returns `deadline`; NULL for a paused execution, which has none.
    pub fn unless_paused(&self, deadline: String) -> String {
        if self.pauses() {
            format!("CASE WHEN ({}) IS NOT TRUE THEN {deadline} END", self.paused())
        } else {
            deadline
        }
    }

    /// Returns how long the row has been paused by its own column, from zero to 1,000,000 hours; `None`: no column is mapped.
    pub fn paused_for(&self) -> Option<String> {
        let seconds = column(self.layout.table.columns.paused_seconds.as_ref()?);
        // A number that is too small for a float is an error where it is converted.
        Some(format!(
            "make_interval(secs => CASE WHEN {seconds} >= 0.000001 THEN LEAST({seconds}, 3600000000) ELSE 0 END::float8)"
        ))
    }
}
