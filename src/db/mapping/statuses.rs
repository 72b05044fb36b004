//! The status of a row, and whether the row is an execution at all.

use super::Mapping;
use super::sql::{EXECUTION, ID_BYTES, column, condition, cut, filter, filtered};
use crate::api::Phase;
use crate::api::table::StatusText;

impl Mapping {
    /// Returns the status column.
    pub fn status(&self) -> String {
        column(&self.layout.table.columns.status)
    }

    /// Returns the status for output: its text, truncated. All texts of the mapping are shorter.
    pub fn status_shown(&self) -> String {
        cut(&self.status())
    }

    /// Returns the condition that an execution runs, in the form that the partial index uses.
    pub fn running(&self) -> String {
        self.status_in(&self.layout.table.statuses.running)
    }

    /// Returns the condition that an execution runs and is not [left alone](Self::handled).
    pub fn judged(&self) -> String {
        self.only_handled(self.running())
    }

    /// Returns the condition that the id of a row is short enough to be recorded; `None`: every id is. Other rows are left alone.
    pub fn handled(&self) -> Option<String> {
        self.types.unusable_ids.then(|| format!("octet_length({}::text) <= {ID_BYTES}", self.id()))
    }

    /// Returns `condition`, combined with the condition that the row is not [left alone](Self::handled).
    pub fn only_handled(&self, condition: String) -> String {
        match self.handled() {
            Some(handled) => format!("({condition}) AND {handled}"),
            None => condition,
        }
    }

    /// Returns the condition that an execution waits.
    pub fn scheduled(&self) -> String {
        self.status_in(&self.layout.table.statuses.scheduled)
    }

    /// Returns the condition that an execution has ended.
    pub fn finished(&self) -> String {
        let s = &self.layout.table.statuses;
        self.status_in(&[s.completed.as_slice(), &s.failed, &s.cancelled].concat())
    }

    /// Returns the condition that an execution has a status of the mapping.
    pub fn mapped(&self) -> String {
        self.status_in(&self.layout.table.statuses.all().cloned().collect::<Vec<_>>())
    }

    /// Returns the condition that an execution has completed.
    pub fn completed(&self) -> String {
        self.status_in(&self.layout.table.statuses.completed)
    }

    /// Returns the condition that an execution has failed.
    pub fn failed(&self) -> String {
        self.status_in(&self.layout.table.statuses.failed)
    }

    /// Returns the condition that an execution was cancelled.
    pub fn cancelled(&self) -> String {
        self.status_in(&self.layout.table.statuses.cancelled)
    }

    /// Returns the phase of a status text.
    pub fn phase(&self, status: &str) -> Phase {
        let s = &self.layout.table.statuses;
        [
            (&s.scheduled, Phase::Scheduled),
            (&s.running, Phase::Running),
            (&s.paused, Phase::Paused),
            (&s.completed, Phase::Completed),
            (&s.failed, Phase::Failed),
            (&s.cancelled, Phase::Cancelled),
            (&s.ignored, Phase::Ignored),
        ]
        .into_iter()
        .find(|(texts, _)| texts.iter().any(|t| t.0 == status))
        .map_or(Phase::Unmapped, |(_, phase)| phase)
    }

    /// Returns the condition that a row has one of these statuses, and is one of the application's executions.
    pub(super) fn status_in(&self, texts: &[StatusText]) -> String {
        filtered(condition(&self.status(), texts), &self.layout.table, EXECUTION)
    }

    /// Returns the condition that a row is one of the application's executions: it passes `table.filter`. Without a filter, every
    /// row is one. Conditions on statuses already include this.
    pub fn exists(&self) -> String {
        filter(&self.layout.table, EXECUTION).unwrap_or_else(|| "true".to_owned())
    }

    /// Reports whether there may be rows that are not executions.
    pub fn has_filter(&self) -> bool {
        !self.layout.table.filter.is_empty()
    }

    /// Returns the filter for the rows of an alias, to be appended to another condition.
    pub(super) fn and_filter(&self, alias: &str) -> String {
        filter(&self.layout.table, alias).map_or(String::new(), |filter| format!(" AND {filter}"))
    }

    /// Returns the condition that a row runs, waits or is paused, even if it does not pass the filter at present.
    pub fn unfinished_anywhere(&self) -> String {
        let statuses = &self.layout.table.statuses;
        condition(
            &self.status(),
            &[statuses.running.as_slice(), &statuses.scheduled, &statuses.paused].concat(),
        )
    }
}
