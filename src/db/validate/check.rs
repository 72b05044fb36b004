//! Compares the catalog with the spec, and decides.

use super::problem::Problem;
use super::retry;
use super::rights::{grant, lacks};
use super::types::{check_printed, find, id_type, time_type, types};
use crate::api::identifier::Identifier;
use crate::db::catalog::{Catalog, Relation};
use crate::db::columns::{read_columns, write_columns};
use crate::db::extras::NOTIFY_TRIGGER;
use crate::db::mapping::{IdType, Related, RelatedTable, RelatedTypes, qualified, quote, related};

use crate::db::{Layout, Mapping};

/// The result of comparing a table with the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validated {
    /// The mapping onto the table.
    pub mapping: Mapping,
    /// The reason why rows cannot be changed although they can be read.
    pub unwritable: Option<Problem>,
    /// The reason why the operator can retry no execution, although the table says how.
    pub unretryable: Option<Problem>,
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
    if layout.heartbeat.is_some() && table.columns.heartbeat_at.is_some() {
        return Err(Problem::TwoHeartbeats);
    }
    if table.columns.timeout.is_some() && table.columns.deadline_at.is_some() {
        return Err(Problem::TwoTimeouts);
    }
    if layout.needs_number && table.columns.execution_number.is_none() {
        return Err(Problem::NoNumber);
    }
    let executions = usable(&role, catalog.executions.as_ref(), &name, "spec.table", &table.schema)?;
    if layout.recorded && executions.is_view() {
        return Err(Problem::RecordedView(name, "executions"));
    }
    if !catalog.zone_known {
        return Err(Problem::NoTimeZone(table.time_zone.clone()));
    }
    let mut types = types(layout, executions, &catalog.labels)?;
    let (read, write) = (read_columns(layout), write_columns(layout));
    readable(&role, executions, &read, &name)?;
    if !executions.visibility.reads {
        return Err(row_security(&role, executions, &name, "sees every row", "ALL"));
    }
    for (other, found) in related(layout).iter().zip(&catalog.related) {
        let key = executions.columns.get(&other.named_by.1.0).and_then(id_type);
        types.related[other.table as usize] =
            check_related(&role, other, found.as_ref(), layout.recorded, key)?;
        if let (RelatedTable::Jobs, Some(jobs), Some(found)) = (other.table, &layout.jobs, found)
            && let Some(status) = found.columns.get(&jobs.columns.status.0)
        {
            check_printed(status, jobs.finished.iter(), "spec.jobs.finished")?;
        }
    }
    let unwritable = if lacks(executions, &write, |column| column.update) {
        let fix = grant("UPDATE", &write, &name, &role);
        Some(Problem::Privilege {
            what: "UPDATE the columns that end an execution",
            fix,
            role: role.clone(),
            table: name,
        })
    } else if !executions.updatable {
        Some(Problem::NotUpdatable(name))
    } else {
        let hidden = !executions.visibility.writes;
        hidden.then(|| row_security(&role, executions, &name, "can change every row that it sees", "ALL"))
    };
    let unretryable = retry::problem(layout, executions, &role);
    Ok(Validated {
        mapping: Mapping::new(layout.clone(), types),
        unwritable,
        unretryable,
        read_only: catalog.read_only,
        notifies: executions.triggers.iter().any(|name| name == NOTIFY_TRIGGER),
    })
}

/// Checks a table that is only read, and returns the types of its columns. `key` is the type of the column of the executions with
/// which its key is compared.
fn check_related(
    role: &str,
    table: &Related<'_>,
    found: Option<&Relation>,
    recorded: bool,
    key: Option<IdType>,
) -> Result<RelatedTypes, Problem> {
    let name = table.qualified();
    let found = usable(role, found, &name, table.field, table.schema)?;
    if recorded && !["r", "p"].contains(&found.kind.as_str()) {
        return Err(Problem::RecordedView(name, table.rows));
    }
    for (field, column) in &table.columns {
        find(found, &name, column, &format!("{}.{field}", table.field))?;
    }
    readable(role, found, &table.column_names(), &name)?;
    if !found.visibility.reads {
        return Err(row_security(role, found, &name, "sees every row", "SELECT"));
    }
    let theirs = found.columns.get(&table.key.0).and_then(id_type);
    if table.same_type && (theirs.is_none() || theirs != key) {
        let column = found.columns.get(&table.key.0);
        return Err(Problem::WrongType {
            column: quote(&table.key.0),
            type_: column.map(|column| column.type_.clone()).unwrap_or_default(),
            field: format!("{}.key", table.field),
            expected: "of the same type as the column that names it: integers, uuid or text",
        });
    }
    let time = table.time.and_then(|(field, column)| Some((field, column, found.columns.get(&column.0)?)));
    let time =
        time.map(|(field, column, found)| time_type(column, found, &format!("{}.{field}", table.field)));
    Ok(RelatedTypes { alike: theirs.is_some() && theirs == key, time: time.transpose()? })
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
    // A foreign table and a materialized view are enough where rows are only read.
    let kinds: &[&str] = if field == "spec.table" { &["r", "p", "v"] } else { &["r", "p", "v", "m", "f"] };
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
