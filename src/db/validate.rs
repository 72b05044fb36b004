//! Holds a spec's table against the catalog: are the columns there, of usable types, and may this login do what the
//! operator does.

use std::collections::BTreeMap;

use super::mapping::{IdType, TimeType, Types, literal, qualified, quote};
use super::{Database, DbError, Mapping};
use crate::api::Table;
use crate::api::table::{Identifier, StatusText};

/// What is wrong with a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is not there.
    #[error("there is no table {0}: create it, or correct spec.table")]
    NoTable(String),
    /// It is a view, a foreign table or something else that cannot be locked row by row.
    #[error("{0} is not an ordinary or partitioned table: name the table itself in spec.table")]
    NotATable(String),
    /// A column is not there.
    #[error("{table} has no column {column}: correct spec.table.columns.{field}, or add the column")]
    NoColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its field in the spec.
        field: &'static str,
    },
    /// A column has a type that the operator cannot use.
    #[error("column {column} is of type {type_}, and spec.table.columns.{field} must be {expected}")]
    WrongType {
        /// The column.
        column: String,
        /// Its type.
        type_: String,
        /// Its field in the spec.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// A status text is no label of the column's enum.
    #[error("{text:?} is not a label of the enum {type_}: correct spec.table.statuses")]
    NoLabel {
        /// The text.
        text: String,
        /// The enum.
        type_: String,
    },
    /// Postgres does not know the time zone.
    #[error(
        "Postgres knows no time zone {0:?}: use a name such as UTC or Europe/Berlin in spec.table.timeZone"
    )]
    NoTimeZone(String),
    /// A right is missing.
    #[error("the login {role} may not {what} on {table}: as its owner run {fix}")]
    Privilege {
        /// The login.
        role: String,
        /// What it may not do.
        what: &'static str,
        /// The table.
        table: String,
        /// The statement that mends it.
        fix: String,
    },
}

impl Problem {
    /// One word for a condition's reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoTable(_) => "TableNotFound",
            Self::NotATable(_) => "NotATable",
            Self::NoColumn { .. } => "ColumnNotFound",
            Self::WrongType { .. } => "ColumnTypeUnsupported",
            Self::NoLabel { .. } => "StatusNotInEnum",
            Self::NoTimeZone(_) => "TimeZoneUnknown",
            Self::Privilege { .. } => "InsufficientPrivilege",
        }
    }
}

/// What the catalog says of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validated {
    /// The mapping onto it.
    pub mapping: Mapping,
    /// Why its rows cannot be changed, although they can be read.
    pub unwritable: Option<Problem>,
    /// Whether this server takes no writes at all: a standby, or set to read only.
    pub read_only: bool,
}

struct Column {
    type_: String,
    category: String,
    kind: String,
    type_oid: i64,
    select: bool,
    update: bool,
}

/// Reads the catalog. The outer error is the database's, the inner one the table's.
pub async fn validate(database: &Database, table: &Table) -> Result<Result<Validated, Problem>, DbError> {
    let mut tx = database.read().await?;
    let name = qualified(table);
    let relation: Option<(String, String, bool)> = sqlx::query_as(
        "SELECT c.relkind::text, current_user::text, has_schema_privilege(n.oid, 'USAGE')
         FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relname = $2",
    )
    .bind(&table.schema.0)
    .bind(&table.name.0)
    .persistent(false)
    .fetch_optional(&mut *tx)
    .await?;
    let (kind, role, usage) = match relation {
        None => return Ok(Err(Problem::NoTable(name))),
        Some((kind, ..)) if !matches!(kind.as_str(), "r" | "p") => return Ok(Err(Problem::NotATable(name))),
        Some(found) => found,
    };
    debug_assert!(matches!(kind.as_str(), "r" | "p"));
    if !usage {
        let fix = format!("GRANT USAGE ON SCHEMA {} TO {}", quote(&table.schema.0), quote(&role));
        return Ok(Err(Problem::Privilege { role, what: "use the schema", table: name, fix }));
    }
    let columns = columns(&mut tx, table).await?;
    let labels = labels(&mut tx, &columns, table).await?;
    let (zone, read_only): (bool, bool) = sqlx::query_as(
        "SELECT EXISTS (SELECT FROM pg_timezone_names WHERE name = $1),
                pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean",
    )
    .bind(&table.time_zone)
    .persistent(false)
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    if !zone {
        return Ok(Err(Problem::NoTimeZone(table.time_zone.clone())));
    }
    Ok(check(table, &columns, &labels, &role, read_only))
}

async fn columns(tx: &mut sqlx::PgConnection, table: &Table) -> Result<BTreeMap<String, Column>, DbError> {
    let rows: Vec<(String, String, String, String, i64, bool, bool)> = sqlx::query_as(
        "SELECT a.attname::text, format_type(a.atttypid, NULL), t.typcategory::text, t.typtype::text,
                t.oid::bigint, has_column_privilege(c.oid, a.attnum, 'SELECT'),
                has_column_privilege(c.oid, a.attnum, 'UPDATE')
         FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
         JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_type AS t ON t.oid = a.atttypid
         WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped",
    )
    .bind(&table.schema.0)
    .bind(&table.name.0)
    .persistent(false)
    .fetch_all(&mut *tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(name, type_, category, kind, type_oid, select, update)| {
            (name, Column { type_, category, kind, type_oid, select, update })
        })
        .collect())
}

/// The labels of the status column's type, if it is an enum.
async fn labels(
    tx: &mut sqlx::PgConnection,
    columns: &BTreeMap<String, Column>,
    table: &Table,
) -> Result<Vec<String>, DbError> {
    let Some(status) = columns.get(&table.columns.status.0) else { return Ok(Vec::new()) };
    let labels = sqlx::query_scalar("SELECT enumlabel::text FROM pg_enum WHERE enumtypid::bigint = $1")
        .bind(status.type_oid)
        .persistent(false)
        .fetch_all(tx)
        .await?;
    Ok(labels)
}

/// The decision, apart from how the catalog was read.
fn check(
    table: &Table,
    columns: &BTreeMap<String, Column>,
    labels: &[String],
    role: &str,
    read_only: bool,
) -> Result<Validated, Problem> {
    let name = qualified(table);
    let find = |column: &Identifier, field| {
        columns.get(&column.0).ok_or_else(|| Problem::NoColumn {
            table: name.clone(),
            column: quote(&column.0),
            field,
        })
    };
    let wrong = |column: &Identifier, found: &Column, field, expected| Problem::WrongType {
        column: quote(&column.0),
        type_: found.type_.clone(),
        field,
        expected,
    };
    let c = &table.columns;
    let time = |column: &Identifier, field| {
        let found = find(column, field)?;
        match found.type_.as_str() {
            "timestamp with time zone" => Ok(TimeType::Instant),
            "timestamp without time zone" => Ok(TimeType::Local),
            _ => Err(wrong(column, found, field, "timestamptz or timestamp")),
        }
    };
    let id = find(&c.id, "id")?;
    let types = Types {
        id: match id.type_.as_str() {
            "smallint" | "integer" | "bigint" => IdType::Integer,
            "uuid" => IdType::Uuid,
            "text" | "character varying" => IdType::Text,
            _ => return Err(wrong(&c.id, id, "id", "smallint, integer, bigint, uuid, text or varchar")),
        },
        started_at: time(&c.started_at, "startedAt")?,
        completed_at: time(&c.completed_at, "completedAt")?,
    };
    find(&c.job_id, "jobId")?;
    let number = find(&c.execution_number, "executionNumber")?;
    if !matches!(number.type_.as_str(), "smallint" | "integer" | "bigint") {
        return Err(wrong(&c.execution_number, number, "executionNumber", "smallint, integer or bigint"));
    }
    let status = find(&c.status, "status")?;
    match status.kind.as_str() {
        "e" => known_labels(table, labels, &status.type_)?,
        _ if status.category == "S" => {}
        _ => return Err(wrong(&c.status, status, "status", "text, varchar, char or an enum")),
    }
    if let Some(error) = &c.error {
        let found = find(error, "error")?;
        if found.category != "S" {
            return Err(wrong(error, found, "error", "text or varchar"));
        }
    }
    let read: Vec<_> = read_columns(table);
    if read.iter().any(|n| columns.get(&n.0).is_some_and(|found| !found.select)) {
        let fix = grant("SELECT", &read, &name, role);
        return Err(Problem::Privilege {
            role: role.to_owned(),
            what: "SELECT the mapped columns",
            table: name,
            fix,
        });
    }
    let write: Vec<_> = [&c.status, &c.completed_at].into_iter().chain(&c.error).collect();
    let unwritable = write.iter().any(|n| columns.get(&n.0).is_some_and(|found| !found.update)).then(|| {
        Problem::Privilege {
            role: role.to_owned(),
            what: "UPDATE the columns that end an execution",
            fix: grant("UPDATE", &write, &name, role),
            table: name.clone(),
        }
    });
    Ok(Validated { mapping: Mapping::new(table.clone(), types), unwritable, read_only })
}

fn read_columns(table: &Table) -> Vec<&Identifier> {
    let c = &table.columns;
    let six = [&c.id, &c.job_id, &c.execution_number, &c.status, &c.started_at, &c.completed_at];
    six.into_iter().chain(&c.error).collect()
}

fn grant(right: &str, columns: &[&Identifier], table: &str, role: &str) -> String {
    let columns = columns.iter().map(|name| quote(&name.0)).collect::<Vec<_>>().join(", ");
    format!("GRANT {right} ({columns}) ON {table} TO {}", quote(role))
}

fn known_labels(table: &Table, labels: &[String], type_: &str) -> Result<(), Problem> {
    let s = &table.statuses;
    let all = [&s.scheduled, &s.running, &s.completed, &s.failed, &s.cancelled];
    let unknown = |text: &&StatusText| !labels.contains(&text.0);
    match all.into_iter().flatten().find(unknown) {
        None => Ok(()),
        Some(text) => Err(Problem::NoLabel { text: text.0.clone(), type_: literal(type_) }),
    }
}
