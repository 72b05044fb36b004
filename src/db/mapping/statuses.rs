//! The status of a row, and whether the row is an execution at all.

use super::Mapping;
use super::sql::{ID_BYTES, column, condition, cut, filter, filtered};
use crate::api::Phase;
use crate::api::table::StatusText;

impl Mapping {
    /// The status column.
    pub fn status(&self) -> String {
        column(&self.table.columns.status)
    }

    /// The status as it is read: its text, cut. All texts of the mapping are shorter.
    pub fn status_shown(&self) -> String {
        cut(&self.status())
    }

    /// The condition that an execution runs, as the partial index has it.
    pub fn running(&self) -> String {
        self.status_in(&self.table.statuses.running)
    }

    /// The condition that an execution runs and is not [left alone](Self::handled).
    pub fn judged(&self) -> String {
        self.only_handled(self.running())
    }

    /// The condition that a row has an id that is short enough to be recorded; `None`: all have. Other rows are left alone.
    pub fn handled(&self) -> Option<String> {
        self.types.unusable_ids.then(|| format!("octet_length({}::text) <= {ID_BYTES}", self.id()))
    }

    /// `condition`, and that the row is not [left alone](Self::handled).
    pub fn only_handled(&self, condition: String) -> String {
        match self.handled() {
            Some(handled) => format!("({condition}) AND {handled}"),
            None => condition,
        }
    }

    /// The condition that an execution waits.
    pub fn scheduled(&self) -> String {
        self.status_in(&self.table.statuses.scheduled)
    }

    /// The condition that an execution has ended.
    pub fn finished(&self) -> String {
        let s = &self.table.statuses;
        self.status_in(&[s.completed.as_slice(), &s.failed, &s.cancelled].concat())
    }

    /// The condition that an execution has a status of the mapping.
    pub fn mapped(&self) -> String {
        let s = &self.table.statuses;
        let all = [
            s.scheduled.as_slice(),
            &s.running,
            &s.paused,
            &s.completed,
            &s.failed,
            &s.cancelled,
            &s.ignored,
        ];
        self.status_in(&all.concat())
    }

    /// The condition that an execution has ended well.
    pub fn completed(&self) -> String {
        self.status_in(&self.table.statuses.completed)
    }

    /// The condition that an execution has failed.
    pub fn failed(&self) -> String {
        self.status_in(&self.table.statuses.failed)
    }

    /// The condition that an execution was cancelled.
    pub fn cancelled(&self) -> String {
        self.status_in(&self.table.statuses.cancelled)
    }

    /// The phase that a status text stands for.
    pub fn phase(&self, status: &str) -> Phase {
        let s = &self.table.statuses;
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

    /// The condition that a row has one of these statuses, and is one of the application's.
    pub(super) fn status_in(&self, texts: &[StatusText]) -> String {
        filtered(condition(&self.status(), texts), &self.table, "t.")
    }

    /// The condition that a row is one of the application's executions: it passes `table.filter`. Without a filter all are.
    /// Conditions on statuses hold it already.
    pub fn exists(&self) -> String {
        filter(&self.table, "t.").unwrap_or_else(|| "true".to_owned())
    }

    /// Whether there may be rows that are no executions.
    pub fn has_filter(&self) -> bool {
        !self.table.filter.is_empty()
    }

    /// The same of the rows of an alias, to be put behind another condition.
    pub(super) fn and_filter(&self, alias: &str) -> String {
        filter(&self.table, alias).map_or(String::new(), |filter| format!(" AND {filter}"))
    }

    /// The condition that a row runs or waits, also where it is not one of the application's at present.
    pub fn unfinished_anywhere(&self) -> String {
        let statuses = &self.table.statuses;
        condition(
            &self.status(),
            &[statuses.running.as_slice(), &statuses.scheduled, &statuses.paused].concat(),
        )
    }
}
