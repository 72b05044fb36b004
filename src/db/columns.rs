//! The columns of the table of executions: one entry each. Grants, validation and the record of what is read follow this list.

use super::Layout;
use super::mapping::{copied, each_once, quote, related, written_anew};
use crate::api::identifier::Identifier;
use crate::api::retry::RetryMethod;

/// What a column holds, which decides the types that it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// An id of executions.
    Id,
    /// Anything that has a text.
    Anything,
    /// A whole number.
    Whole,
    /// A number.
    Number,
    /// A length of time: an interval, or a number of seconds.
    Length,
    /// A status.
    Status,
    /// A text.
    Text,
    /// An instant or a local time.
    Time,
}

impl Holds {
    /// Returns the permitted types, for a message.
    pub(super) const fn expected(self) -> &'static str {
        match self {
            Self::Id => "smallint, integer, bigint, uuid, text or varchar",
            Self::Anything => "of any type",
            Self::Whole => "smallint, integer or bigint",
            Self::Number => "smallint, integer, bigint, numeric, real or double precision",
            Self::Length => "interval, smallint, integer, bigint, numeric, real or double precision",
            Self::Status => "text, varchar, char, smallint, integer, bigint, boolean or an enum",
            Self::Text => "text or varchar",
            Self::Time => "timestamptz or timestamp",
        }
    }
}

/// A mapped column.
#[derive(Clone, Copy, Debug)]
pub(super) struct MappedColumn<'a> {
    /// Its field in the spec.
    pub(super) field: &'static str,
    /// Its name.
    pub(super) name: &'a Identifier,
    /// What it holds.
    pub(super) holds: Holds,
    /// When the operator writes it.
    pub(super) written: Written,
}

/// When the operator writes a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Never, or only in a new row.
    No,
    /// When it ends an execution.
    AtEnd,
    /// When it sets an execution back, so that it runs again.
    AtRetry,
}

/// Returns the mapped columns of the table of executions.
pub(super) fn mapped_columns(layout: &Layout) -> Vec<MappedColumn<'_>> {
    let c = &layout.table.columns;
    let (no, at_end) = (Written::No, Written::AtEnd);
    let in_place = match &layout.table.retry {
        Some(retry) if retry.method == RetryMethod::InPlace => Written::AtRetry,
        _ => no,
    };
    let all = [
        ("spec.table.columns.id", Some(&c.id), Holds::Id, no),
        ("spec.table.columns.jobId", Some(&c.job_id), Holds::Anything, no),
        ("spec.table.columns.executionNumber", c.execution_number.as_ref(), Holds::Whole, no),
        ("spec.table.columns.status", Some(&c.status), Holds::Status, at_end),
        ("spec.table.columns.startedAt", Some(&c.started_at), Holds::Time, in_place),
        ("spec.table.columns.completedAt", Some(&c.completed_at), Holds::Time, at_end),
        ("spec.table.columns.error", c.error.as_ref(), Holds::Text, at_end),
        ("spec.table.columns.jobType", c.job_type.as_ref(), Holds::Anything, no),
        ("spec.table.columns.heartbeatAt", c.heartbeat_at.as_ref(), Holds::Time, in_place),
        ("spec.table.columns.checkpoint", c.checkpoint.as_ref(), Holds::Anything, no),
        ("spec.table.columns.checkpointAt", c.checkpoint_at.as_ref(), Holds::Time, no),
        ("spec.table.columns.worker", c.worker.as_ref(), Holds::Anything, in_place),
        ("spec.table.columns.createdAt", c.created_at.as_ref(), Holds::Time, no),
        ("spec.table.columns.pausedSeconds", c.paused_seconds.as_ref(), Holds::Number, in_place),
        ("spec.table.columns.timeout", c.timeout.as_ref(), Holds::Length, no),
        ("spec.table.columns.deadlineAt", c.deadline_at.as_ref(), Holds::Time, no),
        ("spec.table.columns.workload", c.workload.as_ref(), Holds::Anything, in_place),
        ("spec.table.columns.scheduledAt", c.scheduled_at.as_ref(), Holds::Time, in_place),
        ("spec.table.columns.attempt", c.attempt.as_ref(), Holds::Whole, in_place),
        ("spec.table.columns.retryOf", c.retry_of.as_ref(), Holds::Id, no),
        ("spec.table.columns.owner", c.owner.as_ref(), Holds::Anything, no),
    ];
    let mut mapped: Vec<MappedColumn<'_>> = all
        .into_iter()
        .filter_map(|(field, name, holds, written)| Some(MappedColumn { field, name: name?, holds, written }))
        .collect();
    for (field, name) in related(layout).into_iter().map(|table| table.named_by) {
        if mapped.iter().all(|column| column.field != field) {
            mapped.push(MappedColumn { field, name, holds: Holds::Anything, written: no });
        }
    }
    mapped
}

/// Returns the columns that the operator reads, each once.
pub(super) fn read_columns(layout: &Layout) -> Vec<&Identifier> {
    let filtered = layout.table.filter.iter().map(|condition| &condition.column);
    each_once(mapped_columns(layout).into_iter().map(|column| column.name).chain(filtered))
}

/// Returns the columns that the operator writes when it ends an execution, each once.
pub(super) fn write_columns(layout: &Layout) -> Vec<&Identifier> {
    written(layout, Written::AtEnd)
}

/// Returns the columns that the operator also writes when it sets an execution back, each once.
pub(super) fn retry_columns(layout: &Layout) -> Vec<&Identifier> {
    written(layout, Written::AtRetry)
}

fn written(layout: &Layout, when: Written) -> Vec<&Identifier> {
    let columns = mapped_columns(layout).into_iter().filter(|column| column.written == when);
    each_once(columns.map(|column| column.name))
}

/// Returns the columns of a row that retries another one: those that the operator writes, and those whose values it copies.
pub(super) fn insert_columns(layout: &Layout) -> Vec<&Identifier> {
    let inserts = layout.table.retry.as_ref().is_some_and(|retry| retry.method == RetryMethod::NewExecution);
    let status = [&layout.table.columns.status];
    let all = each_once(status.into_iter().chain(written_anew(layout)).chain(copied(layout)));
    if inserts { all } else { Vec::new() }
}

/// Joins the quoted names with commas.
pub(super) fn quoted(columns: &[&Identifier]) -> String {
    columns.iter().map(|name| quote(&name.0)).collect::<Vec<_>>().join(", ")
}
