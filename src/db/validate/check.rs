//! Compares the catalog with the spec, and decides.

use super::problem::Problem;
use super::types::{id_type, time_type, types};
use crate::api::identifier::Identifier;
use crate::api::table::Jobs;
use crate::db::catalog::{Catalog, Column, Relation};
use crate::db::columns::{job_columns, quoted, read_columns, write_columns};
use crate::db::extras::NOTIFY_TRIGGER;
use crate::db::mapping::{qualified, quote};
use crate::db::{Layout, Mapping};

/// The result of comparing a table with the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validated {
    /// The mapping onto the table.
    pub mapping: Mapping,
    /// The reason why rows cannot be changed although they can be read.
    pub unwritable: Option<Problem>,
    /// True if this server accepts no writes at all: it is a standby, or set to read only.
    pub read_only: bool,
    /// True if a trigger announces changes with NOTIFY.
    pub notifies: bool,
}

/// Returns the first problem that prevents reading the tables, or else the mapping onto them.
pub(super) fn check(layout: &Layout, catalog: &Catalog) -> Result<Validated, Problem> {
    let table = &layout.table;
    let name = qualified(table);
    let role = catalog.role.clone();
    let executions = usable(&role, catalog.executions.as_ref(), &name, "spec.table", &table.schema)?;
    if !catalog.zone_known {
        return Err(Problem::NoTimeZone(table.time_zone.clone()));
    }
    let mut types = types(table, executions, &catalog.labels)?;
    let (read, write) = (read_columns(table), write_columns(table));
    readable(&role, executions, &read, &name)?;
    if !executions.visibility.reads {
        return Err(row_security(&role, executions, &name, "sees every row", "ALL"));
    }
    if let Some(jobs) = &layout.jobs {
        let name = jobs_name(jobs);
        let found = usable(&role, catalog.jobs.as_ref(), &name, "spec.jobs", &jobs.schema)?;
        if layout.recorded && !["r", "p"].contains(&found.kind.as_str()) {
            return Err(Problem::RecordedView(name));
        }
        for (column, field) in [
            (Some(&jobs.columns.id), "id"),
            (Some(&jobs.columns.status), "status"),
            (jobs.columns.type_.as_ref(), "type"),
            (jobs.columns.finished_at.as_ref(), "finishedAt"),
        ] {
            let Some(column) = column else { continue };
            if !found.columns.contains_key(&column.0) {
                let field = format!("spec.jobs.columns.{field}");
                return Err(Problem::NoColumn { table: name, column: quote(&column.0), field });
            }
        }
        readable(&role, found, &job_columns(jobs), &name)?;
        if !found.visibility.reads {
            return Err(row_security(&role, found, &name, "sees every row", "SELECT"));
        }
        let theirs = found.columns.get(&jobs.columns.id.0).and_then(id_type);
        types.jobs_alike = theirs.is_some() && theirs == types.job_id;
        if let Some(column) = &jobs.columns.finished_at
            && let Some(found) = found.columns.get(&column.0)
        {
            types.job_finished_at = Some(time_type(column, found, "spec.jobs.columns.finishedAt")?);
        }
    }
    let unwritable = if lacks(executions, &write, |column| column.update) {
        let fix = grant("UPDATE", &write, &name, &role);
        Some(Problem::Privilege { what: "UPDATE the columns that end an execution", fix, role, table: name })
    } else {
        let hidden = !executions.visibility.writes;
        hidden.then(|| row_security(&role, executions, &name, "can change every row that it sees", "ALL"))
    };
    Ok(Validated {
        mapping: Mapping::new(layout.clone(), types),
        unwritable,
        read_only: catalog.read_only,
        notifies: executions.triggers.iter().any(|name| name == NOTIFY_TRIGGER),
    })
}

pub(super) fn jobs_name(jobs: &Jobs) -> String {
    format!("{}.{}", quote(&jobs.schema.0), quote(&jobs.name.0))
}

/// Returns the relation if the operator supports its kind and the login may use its schema.
fn usable<'a>(
    role: &str,
    relation: Option<&'a Relation>,
    name: &str,
    field: &'static str,
    schema: &Identifier,
) -> Result<&'a Relation, Problem> {
    let relation = relation.ok_or_else(|| Problem::NoTable(name.to_owned(), field))?;
    // Jobs are only read, so a view of them is enough.
    let kinds: &[&str] = if field == "spec.jobs" { &["r", "p", "v", "m", "f"] } else { &["r", "p"] };
    if !kinds.contains(&relation.kind.as_str()) {
        return Err(Problem::NotATable(name.to_owned(), field));
    }
    if !relation.usage {
        let fix = format!("GRANT USAGE ON SCHEMA {} TO {}", quote(&schema.0), quote(role));
        let (role, table) = (role.to_owned(), name.to_owned());
        return Err(Problem::Privilege { role, what: "use the schema", table, fix });
    }
    Ok(relation)
}

/// Returns the problem that rows may be hidden, with the statements that fix it.
fn row_security(
    role: &str,
    relation: &Relation,
    table: &str,
    what: &'static str,
    command: &'static str,
) -> Problem {
    let quoted = quote(role);
    let bypass = format!("as a superuser run ALTER ROLE {quoted} BYPASSRLS");
    let fix = if relation.kind == "v" {
        format!(
            "it is a view of a table that has it, so let a role own the view that sees every row, without security_invoker, or {bypass}"
        )
    } else if relation.visibility.restricted {
        format!("restrictive policies apply to it, so have them apply TO other roles, or {bypass}")
    } else {
        let check = if command == "ALL" { " WITH CHECK (true)" } else { "" };
        format!(
            "as its owner run CREATE POLICY jobexec ON {table} FOR {command} TO {quoted} USING (true){check}, or {bypass}"
        )
    };
    Problem::RowSecurity { role: role.to_owned(), what, table: table.to_owned(), fix }
}

fn readable(role: &str, relation: &Relation, columns: &[&Identifier], name: &str) -> Result<(), Problem> {
    if !lacks(relation, columns, |column| column.select) {
        return Ok(());
    }
    let fix = grant("SELECT", columns, name, role);
    let (role, table) = (role.to_owned(), name.to_owned());
    Err(Problem::Privilege { role, what: "SELECT the mapped columns", table, fix })
}

fn lacks(relation: &Relation, columns: &[&Identifier], right: fn(&Column) -> bool) -> bool {
    columns.iter().any(|column| relation.columns.get(&column.0).is_some_and(|found| !right(found)))
}

fn grant(right: &str, columns: &[&Identifier], table: &str, role: &str) -> String {
    format!("GRANT {right} ({}) ON {table} TO {}", quoted(columns), quote(role))
}
