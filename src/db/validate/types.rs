//! Checks that the types of the mapped columns are usable.

use std::ops::RangeInclusive;

use super::problem::Problem;
use crate::api::Table;
use crate::api::filter::RowCondition;
use crate::api::identifier::Identifier;
use crate::api::table::StatusText;
use crate::db::Layout;
use crate::db::catalog::{Column, Relation};
use crate::db::columns::{Holds, MappedColumn, Written, mapped_columns, retry_columns, write_columns};
use crate::db::mapping::{ID_BYTES, IdType, RelatedTable, RelatedTypes, TimeType, Types, qualified, quote};

pub(super) fn id_type(column: &Column) -> Option<IdType> {
    match column.type_.as_str() {
        "smallint" | "integer" | "bigint" => Some(IdType::Integer),
        "uuid" => Some(IdType::Uuid),
        "text" | "character varying" => Some(IdType::Text),
        _ => None,
    }
}

/// Returns how a column stores a time, or an error if its type is not a timestamp.
pub(super) fn time_type(column: &Identifier, found: &Column, field: &str) -> Result<TimeType, Problem> {
    stored_time(found).ok_or_else(|| wrong(column, found, field, Holds::Time))
}

fn stored_time(column: &Column) -> Option<TimeType> {
    match column.type_.as_str() {
        "timestamp with time zone" => Some(TimeType::Instant),
        "timestamp without time zone" => Some(TimeType::Local),
        _ => None,
    }
}

fn wrong(column: &Identifier, found: &Column, field: &str, holds: Holds) -> Problem {
    Problem::WrongType {
        column: quote(&column.0),
        type_: found.type_.clone(),
        field: field.to_owned(),
        expected: holds.expected(),
    }
}

/// Returns the column of a relation, or an error that names its field.
pub(super) fn find<'a>(
    relation: &'a Relation,
    table: &str,
    column: &Identifier,
    field: &str,
) -> Result<&'a Column, Problem> {
    relation.columns.get(&column.0).ok_or_else(|| Problem::NoColumn {
        table: table.to_owned(),
        column: quote(&column.0),
        field: field.to_owned(),
    })
}

/// Returns the types of the mapped columns if all of them exist and are usable.
pub(super) fn types(layout: &Layout, relation: &Relation, labels: &[String]) -> Result<Types, Problem> {
    let table = &layout.table;
    let name = qualified(table);
    check_written_once(layout)?;
    for column in mapped_columns(layout) {
        let found = find(relation, &name, column.name, column.field)?;
        if !fits_type(column.holds, found) {
            return Err(wrong(column.name, found, column.field, column.holds));
        }
    }
    for (place, condition) in table.filter.iter().enumerate() {
        check_filtered(relation, &name, place, condition)?;
    }
    let c = &table.columns;
    let get = |column: &Identifier, field| find(relation, &name, column, field);
    let time =
        |column: &Identifier| time_type(column, get(column, "spec.table.columns")?, "spec.table.columns");
    let (id, job) = (get(&c.id, "spec.table.columns.id")?, get(&c.job_id, "spec.table.columns.jobId")?);
    let job_type = c.job_type.as_ref().and_then(|type_| relation.columns.get(&type_.0));
    let status = get(&c.status, "spec.table.columns.status")?;
    if !id.unique && !table.id_unique {
        return Err(Problem::IdNotUnique { table: name, column: quote(&c.id.0) });
    }
    check_statuses(table, status, labels)?;
    if let Some(retry_of) = &c.retry_of {
        let found = get(retry_of, "spec.table.columns.retryOf")?;
        if id_type(found) != id_type(id) {
            return Err(wrong(retry_of, found, "spec.table.columns.retryOf", Holds::Id));
        }
    }
    Ok(Types {
        id: id_type(id).ok_or_else(|| wrong(&c.id, id, "spec.table.columns.id", Holds::Id))?,
        started_at: time(&c.started_at)?,
        completed_at: time(&c.completed_at)?,
        job_id: id_type(job),
        job_type_is_text: job_type.is_some_and(|found| id_type(found) == Some(IdType::Text)),
        heartbeat_at: c.heartbeat_at.as_ref().map(time).transpose()?,
        checkpoint_at: c.checkpoint_at.as_ref().map(time).transpose()?,
        created_at: c.created_at.as_ref().map(time).transpose()?,
        timeout_is_interval: c
            .timeout
            .as_ref()
            .and_then(|timeout| relation.columns.get(&timeout.0))
            .is_some_and(|found| found.type_ == "interval"),
        deadline_at: c.deadline_at.as_ref().map(time).transpose()?,
        job_leads: job.leads,
        scheduled_at: c.scheduled_at.as_ref().map(time).transpose()?,
        indexed_by_job: job.indexed && id_type(job).is_some(),
        indexed_by_type: job_type.is_some_and(|found| found.indexed && id_type(found) == Some(IdType::Text)),
        related: [RelatedTypes::default(); RelatedTable::COUNT],
        jobs_comparable: id_type(job).is_some() || job.comparable,
        versions: relation.versions,
        unusable_ids: !id.required
            || (id_type(id) == Some(IdType::Text)
                && id.limit.is_none_or(|limit| limit > i32::from(ID_BYTES) / 4)),
        indexed_by_end: relation.columns.get(&c.completed_at.0).is_some_and(|found| found.leads),
        ends_keys: writes_keys(layout, relation),
        can_cancel: table.statuses.cancelled.first().is_some_and(|text| fits(status, text)),
        error_limit: c.error.as_ref().and_then(|error| relation.columns.get(&error.0)?.limit),
    })
}

/// Reports whether a column that the operator changes is one that a foreign key could refer to.
fn writes_keys(layout: &Layout, relation: &Relation) -> bool {
    let keyed = |name: &&Identifier| relation.columns.get(&name.0).is_some_and(|found| found.keyed);
    write_columns(layout).iter().chain(&retry_columns(layout)).any(keyed)
}

/// Checks that no column that the operator writes has a second meaning.
fn check_written_once(layout: &Layout) -> Result<(), Problem> {
    let columns = mapped_columns(layout);
    for written in columns.iter().filter(|column| column.written != Written::No) {
        let twice = |other: &&MappedColumn<'_>| other.name == written.name && other.field != written.field;
        if let Some(other) = columns.iter().find(twice) {
            let column = quote(&written.name.0);
            return Err(Problem::ColumnTwice { first: written.field, second: other.field, column });
        }
    }
    Ok(())
}

fn fits_type(holds: Holds, found: &Column) -> bool {
    let whole = whole_range(found).is_some();
    let number = whole
        || matches!(found.type_.as_str(), "real" | "double precision")
        || found.type_.starts_with("numeric");
    match holds {
        Holds::Id => id_type(found).is_some(),
        Holds::Anything => true,
        Holds::Whole => whole,
        Holds::Number => number,
        Holds::Length => number || found.type_ == "interval",
        Holds::Status => found.kind == "e" || found.category == "S" || whole || found.type_ == "boolean",
        Holds::Text => found.category == "S",
        Holds::Time => stored_time(found).is_some(),
    }
}

/// Returns the numbers that a column of whole numbers can hold.
fn whole_range(column: &Column) -> Option<RangeInclusive<i64>> {
    match column.type_.as_str() {
        "smallint" => Some(i16::MIN.into()..=i16::MAX.into()),
        "integer" => Some(i32::MIN.into()..=i32::MAX.into()),
        "bigint" => Some(i64::MIN..=i64::MAX),
        _ => None,
    }
}

/// Checks that the status texts can be stored, and that Postgres prints them so.
fn check_statuses(table: &Table, status: &Column, labels: &[String]) -> Result<(), Problem> {
    if status.kind == "e" {
        known_labels(table, labels, &status.type_)?;
    }
    check_printed(status, table.statuses.all(), "spec.table.statuses")?;
    let failed = table.statuses.failed.first().filter(|text| !fits(status, text));
    match (status.limit, failed) {
        (Some(limit), Some(text)) => Err(Problem::StatusTooLong {
            column: quote(&table.columns.status.0),
            limit,
            text: text.0.clone(),
        }),
        _ => Ok(()),
    }
}

/// Checks that Postgres prints statuses of the type of the column as these texts.
pub(super) fn check_printed<'a>(
    status: &Column,
    mut texts: impl Iterator<Item = &'a StatusText>,
    field: &'static str,
) -> Result<(), Problem> {
    let range = whole_range(status);
    let printed = |text: &str| match &range {
        Some(range) => {
            text.parse::<i64>().is_ok_and(|number| range.contains(&number) && number.to_string() == text)
        }
        None => status.type_ != "boolean" || matches!(text, "true" | "false"),
    };
    match texts.find(|text| !printed(&text.0)) {
        None => Ok(()),
        Some(text) => Err(Problem::NoStatus { text: text.0.clone(), type_: status.type_.clone(), field }),
    }
}

/// Checks that a condition of the filter is valid and that its column exists.
fn check_filtered(
    relation: &Relation,
    table: &str,
    place: usize,
    condition: &RowCondition,
) -> Result<(), Problem> {
    find(relation, table, &condition.column, &format!("spec.table.filter[{place}].column"))?;
    match condition.test() {
        Some(_) => Ok(()),
        None => Err(Problem::Filter {
            column: quote(&condition.column.0),
            why: "it has to say exactly one of equals, in, isNull: true and notNull: true".to_owned(),
        }),
    }
}

/// Reports whether a status fits into the column.
pub(super) fn fits(status: &Column, text: &StatusText) -> bool {
    let length = i32::try_from(text.0.chars().count()).unwrap_or(i32::MAX);
    status.limit.is_none_or(|limit| length <= limit)
}

fn known_labels(table: &Table, labels: &[String], type_: &str) -> Result<(), Problem> {
    let unknown = |text: &&StatusText| !labels.contains(&text.0);
    match table.statuses.all().find(unknown) {
        None => Ok(()),
        Some(text) => Err(Problem::NoLabel { text: text.0.clone(), type_: type_.to_owned() }),
    }
}
