//! Later executions of a row's job, as rows `l`. Only one that ran tells that an earlier one is over: schedulers leave rows
//! behind too for runs that they skipped, because the earlier one was still at work.

use chrono::TimeDelta;

use super::Mapping;
use super::sql::{condition, literal, quote};
use crate::api::identifier::Identifier;
use crate::api::table::StatusText;
use crate::db::intervals::interval;

/// How long what did not end well must have taken at the least to have run. What is turned away ends in the moment it starts, as
/// far as the clocks of an application tell.
const MOMENT: TimeDelta = TimeDelta::seconds(1);

/// What start times are cut to, so that adding to one does not overflow.
const LAST: &str = "'9999-12-31Z'::timestamptz";

impl Mapping {
    /// The condition that a later execution of the row's job started by `cutoff`, not before `began`, which is when the row's
    /// own run began, and ran. `grace` is how long one must have taken that did not end well.
    pub fn superseded_by(&self, began: &str, cutoff: &str, grace: TimeDelta) -> String {
        let started = self.by(&later(&self.table.columns.started_at), self.types.started_at, cutoff);
        format!("EXISTS (SELECT FROM {} AND {started})", self.later_runs(began, grace))
    }

    /// When the first such execution started.
    pub fn superseded_since(&self, began: &str, grace: TimeDelta) -> String {
        let start = self.instant(&later(&self.table.columns.started_at), self.types.started_at);
        format!("(SELECT min({start}) FROM {})", self.later_runs(began, grace))
    }

    fn later_runs(&self, began: &str, grace: TimeDelta) -> String {
        let columns = &self.table.columns;
        format!(
            "{table} AS l WHERE {same_job}{filter} AND {later} > {number} AND {start} >= {began} AND {ran}",
            table = self.table(),
            same_job = self.same_job(&later(&columns.job_id)),
            filter = self.and_filter("l."),
            later = later(&columns.execution_number),
            number = self.number(),
            start = self.instant(&later(&columns.started_at), self.types.started_at),
            ran = self.ran(grace),
        )
    }

    /// The condition that the row `l` has run or runs: it started, and did not end in that moment. One that did not end well may
    /// have waited for its job to be free, and given up: it must have taken the grace period. Of a status that says neither, as
    /// `skipped` may, nobody knows.
    fn ran(&self, grace: TimeDelta) -> String {
        let (columns, statuses) = (&self.table.columns, &self.table.statuses);
        let start = self.instant(&later(&columns.started_at), self.types.started_at);
        let end = self.instant(&later(&columns.completed_at), self.types.completed_at);
        let is = |texts: &[StatusText]| condition(&later(&columns.status), texts);
        format!(
            "({well} AND ({end} > {start}) IS NOT FALSE OR {badly} AND {end} >= LEAST({start}, {LAST}) + interval {took})",
            took = literal(&interval(grace.max(MOMENT))),
            well = is(&[statuses.running.as_slice(), &statuses.paused, &statuses.completed].concat()),
            badly = is(&[statuses.failed.as_slice(), &statuses.cancelled].concat()),
        )
    }
}

fn later(name: &Identifier) -> String {
    format!("l.{}", quote(&name.0))
}
