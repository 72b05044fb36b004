//! Executions that are halted on purpose, and those of no interest.

use super::Mapping;
use super::sql::column;

impl Mapping {
    /// Whether there are statuses of executions that are paused.
    pub const fn pauses(&self) -> bool {
        !self.table.statuses.paused.is_empty()
    }

    /// The condition that an execution is paused.
    pub fn paused(&self) -> String {
        self.status_in(&self.table.statuses.paused)
    }

    /// The condition that an execution has begun and has not ended.
    pub fn begun(&self) -> String {
        let statuses = &self.table.statuses;
        self.status_in(&[statuses.running.as_slice(), &statuses.paused].concat())
    }

    /// The condition that an execution waits, runs or is paused.
    pub fn alive(&self) -> String {
        let statuses = &self.table.statuses;
        self.status_in(&[statuses.running.as_slice(), &statuses.scheduled, &statuses.paused].concat())
    }

    /// The condition that an execution is none of the operator's business.
    pub fn ignored(&self) -> String {
        self.status_in(&self.table.statuses.ignored)
    }

    /// `deadline`, which an execution that is paused has not.
    pub fn unless_paused(&self, deadline: String) -> String {
        if self.pauses() {
            format!("CASE WHEN ({}) IS NOT TRUE THEN {deadline} END", self.paused())
        } else {
            deadline
        }
    }

    /// For how long the row says that it has been paused, from none to 1,000,000 hours; `None`: no column says it.
    pub fn paused_for(&self) -> Option<String> {
        let seconds = column(self.table.columns.paused_seconds.as_ref()?);
        Some(format!("make_interval(secs => LEAST(GREATEST({seconds}, 0), 3600000000)::float8)"))
    }
}
