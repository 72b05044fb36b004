//! Later executions of a row's job, as rows `later`. Only one that ran proves that an earlier one is over: schedulers also leave
//! rows for runs that they skipped because the earlier one was still running.

use chrono::TimeDelta;

use super::Mapping;
use super::sql::{condition, literal, quote};
use crate::api::identifier::Identifier;
use crate::api::table::StatusText;
use crate::db::intervals::interval;

/// The shortest time that an execution that failed or was cancelled must have taken to count as one that ran. An execution that is
/// rejected ends at the moment at which it starts, within the precision of the application's clocks.
const MOMENT: TimeDelta = TimeDelta::seconds(1);

/// The limit to which start times are clamped, so that adding to one does not overflow.
const LAST: &str = "'9999-12-31Z'::timestamptz";

impl Mapping {
    /// Returns the condition that a later execution of the row's job ran, and started by `cutoff` but not before `began`, which is
    /// when the row's own run began. `grace` is how long one that failed or was cancelled must have taken.
    pub fn superseded_by(&self, began: &str, cutoff: &str, grace: TimeDelta) -> String {
        let started = self.by(&later(&self.layout.table.columns.started_at), self.types.started_at, cutoff);
        format!("EXISTS (SELECT FROM {} AND {started})", self.later_runs(began, grace))
    }

    /// Returns when the first such execution started.
    pub fn superseded_since(&self, began: &str, grace: TimeDelta) -> String {
        let start = self.instant(&later(&self.layout.table.columns.started_at), self.types.started_at);
        format!("(SELECT min({start}) FROM {})", self.later_runs(began, grace))
    }

    fn later_runs(&self, began: &str, grace: TimeDelta) -> String {
        let columns = &self.layout.table.columns;
        format!(
            "{table} AS later WHERE {same_job}{filter} AND {later} > {number} AND {start} >= {began} AND {ran}",
            table = self.table(),
            same_job = self.same_job(&later(&columns.job_id)),
            filter = self.and_filter("later."),
            later = columns.execution_number.as_ref().map_or("NULL::bigint".to_owned(), later),
            number = self.number(),
            start = self.instant(&later(&columns.started_at), self.types.started_at),
            ran = self.ran(grace),
        )
    }

    /// Returns the condition that the row `later` has run or runs: it started, and did not end at the same moment. One that failed
    /// or was cancelled may have waited for its job to be free, and given up: it must have taken the grace period. Any other
    /// status, such as `skipped`, does not show that it ran.
    fn ran(&self, grace: TimeDelta) -> String {
        let (columns, statuses) = (&self.layout.table.columns, &self.layout.table.statuses);
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
    format!("later.{}", quote(&name.0))
}
