//! Checks that the types of the mapped columns are usable.

use super::problem::Problem;
use crate::api::Table;
use crate::api::filter::RowCondition;
use crate::api::identifier::Identifier;
use crate::api::table::StatusText;
use crate::db::catalog::{Column, Relation};
use crate::db::columns::write_columns;
use crate::db::mapping::{ID_BYTES, IdType, TimeType, Types, qualified, quote};

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
    match found.type_.as_str() {
        "timestamp with time zone" => Ok(TimeType::Instant),
        "timestamp without time zone" => Ok(TimeType::Local),
        _ => Err(Problem::WrongType {
            column: quote(&column.0),
            type_: found.type_.clone(),
            field: field.to_owned(),
            expected: "timestamptz or timestamp",
        }),
    }
}

/// Returns the types of the mapped columns if all of them exist and are usable.
pub(super) fn types(table: &Table, relation: &Relation, labels: &[String]) -> Result<Types, Problem> {
    let c = &table.columns;
    let of = Columns { table, relation };
    let find = |column: &Identifier, field: &str| of.find(column, field);
    let time = |column: &Identifier, field: &str| {
        time_type(column, find(column, field)?, &format!("spec.table.columns.{field}"))
    };
    let id = find(&c.id, "id")?;
    let job = find(&c.job_id, "jobId")?;
    let status = find(&c.status, "status")?;
    let job_type = c.job_type.as_ref().map(|type_| find(type_, "jobType")).transpose()?;
    let types = Types {
        id: id_type(id).ok_or_else(|| {
            Columns::wrong(&c.id, id, "id", "smallint, integer, bigint, uuid, text or varchar")
        })?,
        started_at: time(&c.started_at, "startedAt")?,
        completed_at: time(&c.completed_at, "completedAt")?,
        job_id: id_type(job),
        job_type_is_text: job_type.is_some_and(|found| id_type(found) == Some(IdType::Text)),
        heartbeat_at: c.heartbeat_at.as_ref().map(|at| time(at, "heartbeatAt")).transpose()?,
        created_at: c.created_at.as_ref().map(|at| time(at, "createdAt")).transpose()?,
        indexed_by_job: job.indexed && id_type(job).is_some(),
        indexed_by_type: job_type.is_some_and(|found| found.indexed && id_type(found) == Some(IdType::Text)),
        jobs_alike: false,
        job_finished_at: None,
        jobs_comparable: id_type(job).is_some() || job.comparable,
        versions: relation.versions,
        unusable_ids: !id.required
            || (id_type(id) == Some(IdType::Text)
                && id.limit.is_none_or(|limit| limit > i32::from(ID_BYTES) / 4)),
        indexed_by_end: relation.columns.get(&c.completed_at.0).is_some_and(|found| found.leads),
        ends_keys: write_columns(table)
            .iter()
            .any(|column| relation.columns.get(&column.0).is_some_and(|found| found.keyed)),
        can_cancel: table.statuses.cancelled.first().is_some_and(|text| fits(status, text)),
        error_limit: c.error.as_ref().and_then(|error| relation.columns.get(&error.0)?.limit),
    };
    of.check_others(id, status, labels)?;
    Ok(types)
}

/// The mapped columns, as the catalog describes them.
struct Columns<'a> {
    table: &'a Table,
    relation: &'a Relation,
}

impl<'a> Columns<'a> {
    fn find(&self, column: &Identifier, field: &str) -> Result<&'a Column, Problem> {
        self.relation.columns.get(&column.0).ok_or_else(|| Problem::NoColumn {
            table: qualified(self.table),
            column: quote(&column.0),
            field: format!("spec.table.columns.{field}"),
        })
    }

    fn wrong(column: &Identifier, found: &Column, field: &str, expected: &'static str) -> Problem {
        Problem::WrongType {
            column: quote(&column.0),
            type_: found.type_.clone(),
            field: format!("spec.table.columns.{field}"),
            expected,
        }
    }

    /// Checks that the filter, the id, the execution number, the status and the optional columns can be used.
    fn check_others(&self, id: &Column, status: &Column, labels: &[String]) -> Result<(), Problem> {
        let Self { table, relation } = self;
        let c = &table.columns;
        for (place, condition) in table.filter.iter().enumerate() {
            find_filtered(table, relation, place, condition)?;
        }
        if !id.unique {
            return Err(Problem::IdNotUnique { table: qualified(table), column: quote(&c.id.0) });
        }
        let number = self.find(&c.execution_number, "executionNumber")?;
        if !matches!(number.type_.as_str(), "smallint" | "integer" | "bigint") {
            return Err(Self::wrong(
                &c.execution_number,
                number,
                "executionNumber",
                "smallint, integer or bigint",
            ));
        }
        match status.kind.as_str() {
            "e" => known_labels(table, labels, &status.type_)?,
            _ if status.category == "S" => {}
            _ => return Err(Self::wrong(&c.status, status, "status", "text, varchar, char or an enum")),
        }
        if let (Some(limit), Some(text)) =
            (status.limit, table.statuses.failed.first().filter(|t| !fits(status, t)))
        {
            return Err(Problem::StatusTooLong { column: quote(&c.status.0), limit, text: text.0.clone() });
        }
        self.check_optional()
    }

    fn check_optional(&self) -> Result<(), Problem> {
        let c = &self.table.columns;
        if let Some(seconds) = &c.paused_seconds {
            let found = self.find(seconds, "pausedSeconds")?;
            let numeric = ["smallint", "integer", "bigint", "real", "double precision"];
            if !numeric.contains(&found.type_.as_str()) && !found.type_.starts_with("numeric") {
                return Err(Self::wrong(
                    seconds,
                    found,
                    "pausedSeconds",
                    "smallint, integer, bigint, numeric, real or double precision",
                ));
            }
        }
        if let Some(workload) = &c.workload {
            self.find(workload, "workload")?;
        }
        if let Some(owner) = &c.owner {
            self.find(owner, "owner")?;
        }
        if let Some(worker) = &c.worker {
            self.find(worker, "worker")?;
        }
        if let Some(error) = &c.error {
            let found = self.find(error, "error")?;
            if found.category != "S" {
                return Err(Self::wrong(error, found, "error", "text or varchar"));
            }
        }
        Ok(())
    }
}

/// Checks that a condition of the filter is valid and that its column exists.
fn find_filtered(
    table: &Table,
    relation: &Relation,
    place: usize,
    condition: &RowCondition,
) -> Result<(), Problem> {
    let column = quote(&condition.column.0);
    if !relation.columns.contains_key(&condition.column.0) {
        let field = format!("spec.table.filter[{place}].column");
        return Err(Problem::NoColumn { table: qualified(table), column, field });
    }
    match condition.test() {
        Some(_) => Ok(()),
        None => Err(Problem::Filter {
            column,
            why: "it has to say exactly one of equals, in, isNull: true and notNull: true".to_owned(),
        }),
    }
}

/// Reports whether a status fits into the column.
fn fits(status: &Column, text: &StatusText) -> bool {
    let length = i32::try_from(text.0.chars().count()).unwrap_or(i32::MAX);
    status.limit.is_none_or(|limit| length <= limit)
}

fn known_labels(table: &Table, labels: &[String], type_: &str) -> Result<(), Problem> {
    let s = &table.statuses;
    let all = [&s.scheduled, &s.running, &s.paused, &s.completed, &s.failed, &s.cancelled, &s.ignored];
    let unknown = |text: &&StatusText| !labels.contains(&text.0);
    match all.into_iter().flatten().find(unknown) {
        None => Ok(()),
        Some(text) => Err(Problem::NoLabel { text: text.0.clone(), type_: type_.to_owned() }),
    }
}
