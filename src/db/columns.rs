//! The columns of the application's tables that the operator reads and writes.

use super::mapping::quote;
use crate::api::Table;
use crate::api::identifier::Identifier;
use crate::api::table::Jobs;

/// Returns the columns that the operator reads.
pub(super) fn read_columns(table: &Table) -> Vec<&Identifier> {
    let c = &table.columns;
    let six = [&c.id, &c.job_id, &c.execution_number, &c.status, &c.started_at, &c.completed_at];
    let named: Vec<&Identifier> = six
        .into_iter()
        .chain(&c.error)
        .chain(&c.job_type)
        .chain(&c.heartbeat_at)
        .chain(&c.worker)
        .chain(&c.created_at)
        .chain(&c.paused_seconds)
        .chain(&c.workload)
        .chain(&c.owner)
        .collect();
    let filtered = table.filter.iter().map(|condition| &condition.column);
    let mut others: Vec<&Identifier> = Vec::new();
    for column in filtered {
        if !named.contains(&column) && !others.contains(&column) {
            others.push(column);
        }
    }
    named.into_iter().chain(others).collect()
}

/// Returns the columns of the table of jobs that the operator reads.
pub(super) fn job_columns(jobs: &Jobs) -> Vec<&Identifier> {
    let c = &jobs.columns;
    [&c.id, &c.status].into_iter().chain(&c.type_).chain(&c.finished_at).collect()
}

/// Returns the columns that the operator writes.
pub(super) fn write_columns(table: &Table) -> Vec<&Identifier> {
    let c = &table.columns;
    [&c.status, &c.completed_at].into_iter().chain(&c.error).collect()
}

/// Joins the quoted names with commas.
pub(super) fn quoted(columns: &[&Identifier]) -> String {
    columns.iter().map(|name| quote(&name.0)).collect::<Vec<_>>().join(", ")
}
