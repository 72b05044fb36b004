//! Holds a spec's table against the catalog: are the columns there, of usable types, and may this login do what the
//! operator does.

use sqlx::AssertSqlSafe;

use super::catalog::{self, Catalog, Column, Relation};
use super::columns::{job_columns, quoted, read_columns, write_columns};
use super::extras::NOTIFY_TRIGGER;
use super::mapping::{ID_BYTES, IdType, TimeType, Types, filter, qualified, quote};
use super::schema::Refusal;
use super::{Database, DbError, Layout, Mapping, visibility};
use crate::api::Table;
use crate::api::filter::RowCondition;
use crate::api::identifier::Identifier;
use crate::api::table::{Jobs, StatusText};

/// What is wrong with a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is not there.
    #[error("there is no table {0}: create it, or correct {1}")]
    NoTable(String, &'static str),
    /// It is a view, a foreign table or something else that cannot be locked row by row.
    #[error("{0} is not an ordinary or partitioned table: name the table itself in {1}")]
    NotATable(String, &'static str),
    /// What is recorded in the database names something else than a table for the jobs.
    #[error(
        "what is recorded in the database names {0} as the table of jobs, which is no table: a view runs what its owner wrote, as \
         you. If you know it, describe the store with -f"
    )]
    RecordedView(String),
    /// A column is not there.
    #[error("{table} has no column {column}: correct {field}, or add the column")]
    NoColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its field in the spec.
        field: String,
    },
    /// A column has a type that the operator cannot use.
    #[error("column {column} is of type {type_}, and {field} must be {expected}")]
    WrongType {
        /// The column.
        column: String,
        /// Its type.
        type_: String,
        /// Its field in the spec.
        field: String,
        /// What it may be.
        expected: &'static str,
    },
    /// Two rows could have the same id.
    #[error(
        "the ids of {table} are not unique: {column} needs a primary key or a unique index of its own, or correct spec.table.columns.id"
    )]
    IdNotUnique {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The text that the operator writes to the status does not fit.
    #[error(
        "column {column} holds {limit} characters, too few for {text:?}: widen it, or correct spec.table.statuses.failed"
    )]
    StatusTooLong {
        /// The column.
        column: String,
        /// Its width.
        limit: i32,
        /// The text.
        text: String,
    },
    /// A status text is no label of the column's enum.
    #[error("{text:?} is not a label of the enum {type_}: correct spec.table.statuses")]
    NoLabel {
        /// The text.
        text: String,
        /// The enum.
        type_: String,
    },
    /// A condition of the filter cannot be asked of its column.
    #[error(
        "spec.table.filter: the condition on column {column} cannot be used: {why}. Correct it, or its value"
    )]
    Filter {
        /// The column.
        column: String,
        /// What Postgres says.
        why: String,
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
    /// Row-level security may hide rows.
    #[error(
        "row-level security is on for {table}, and its policies do not prove that the login {role} {what}: {fix}"
    )]
    RowSecurity {
        /// The login.
        role: String,
        /// What it may be kept from.
        what: &'static str,
        /// The table.
        table: String,
        /// What mends it.
        fix: String,
    },
    /// What is recorded of the table is not used, and who ends executions without it may end one that has more time.
    #[error("what is recorded of this table cannot be used, so no execution is ended whose time may have been extended there: {}", .0.why)]
    Records(Refusal),
}

impl Problem {
    /// One word for a condition's reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoTable(..) => "TableNotFound",
            Self::NotATable(..) | Self::RecordedView(_) => "NotATable",
            Self::NoColumn { .. } => "ColumnNotFound",
            Self::WrongType { .. } => "ColumnTypeUnsupported",
            Self::IdNotUnique { .. } => "IdNotUnique",
            Self::StatusTooLong { .. } => "StatusTooLong",
            Self::NoLabel { .. } => "StatusNotInEnum",
            Self::Filter { .. } => "FilterInvalid",
            Self::NoTimeZone(_) => "TimeZoneUnknown",
            Self::Privilege { .. } => "InsufficientPrivilege",
            Self::RowSecurity { .. } => visibility::REASON,
            Self::Records(refusal) => refusal.reason,
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
    /// Whether a trigger tells of changes by NOTIFY.
    pub notifies: bool,
}

/// Reads the catalog and judges. The outer error is the database's, the inner one the table's.
pub async fn validate(database: &Database, layout: &Layout) -> Result<Result<Validated, Problem>, DbError> {
    let catalog = catalog::read(database, layout).await?;
    let mut checked = check(layout, &catalog);
    if checked.is_ok()
        && let Some(problem) = unusable_filter(database, &layout.table).await?
    {
        checked = Err(problem);
    }
    match &checked {
        Ok(_) => database.set_guard(&guard(layout, &catalog)),
        // Others may still be at work with what was valid before.
        Err(Problem::RowSecurity { .. }) => database.set_guard("SET LOCAL row_security = off"),
        // What was found before still holds, or fails by itself.
        Err(_) => {}
    }
    Ok(checked)
}

/// What Postgres says against the filter of a table: only it knows whether a text is a value of a column's type.
async fn unusable_filter(database: &Database, table: &Table) -> Result<Option<Problem>, DbError> {
    let Some(all) = filter(table, "t.") else { return Ok(None) };
    if refusal(database, table, &all).await?.is_none() {
        return Ok(None);
    }
    for condition in &table.filter {
        let one = Table { filter: vec![condition.clone()], ..table.clone() };
        let refused = match filter(&one, "t.") {
            Some(condition) => refusal(database, table, &condition).await?,
            None => None,
        };
        if let Some(why) = refused {
            return Ok(Some(Problem::Filter { column: quote(&condition.column.0), why }));
        }
    }
    // It was mended meanwhile.
    Ok(None)
}

/// Why Postgres does not take a condition, if it does not. It reads no row.
async fn refusal(database: &Database, table: &Table, condition: &str) -> Result<Option<String>, DbError> {
    let sql = format!("SELECT FROM {} AS t WHERE {condition} LIMIT 0", qualified(table));
    let mut tx = database.read().await?;
    let asked = sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(&mut *tx).await;
    tx.rollback().await?;
    match asked.map_err(DbError::from) {
        Ok(_) => Ok(None),
        // No such operator, a text that is no value of the type, types that do not go together.
        Err(DbError::Statement(why, code)) if code.starts_with("22") || code.starts_with("42") => {
            Ok(Some(why))
        }
        Err(error) => Err(error),
    }
}

/// The statement that fails where something about row-level security has changed.
fn guard(layout: &Layout, catalog: &Catalog) -> String {
    let executions = catalog.executions.iter().map(|found| (qualified(&layout.table), found));
    let jobs = layout.jobs.iter().zip(&catalog.jobs).map(|(jobs, found)| (jobs_name(jobs), found));
    // What is beneath a view is only found out by validating.
    let tables = executions.chain(jobs).filter(|(_, found)| found.kind != "v");
    visibility::guard(&tables.map(|(name, found)| (name, found.visibility)).collect::<Vec<_>>())
}

fn jobs_name(jobs: &Jobs) -> String {
    format!("{}.{}", quote(&jobs.schema.0), quote(&jobs.name.0))
}

/// The decision: the first problem that keeps the tables from being read, else the mapping onto them.
fn check(layout: &Layout, catalog: &Catalog) -> Result<Validated, Problem> {
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

/// The relation, if it is a table whose schema the login may use.
fn usable<'a>(
    role: &str,
    relation: Option<&'a Relation>,
    name: &str,
    field: &'static str,
    schema: &Identifier,
) -> Result<&'a Relation, Problem> {
    let relation = relation.ok_or_else(|| Problem::NoTable(name.to_owned(), field))?;
    // Jobs are only read, so a view of them will do.
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

/// That rows may be hidden, and the statements that mend it.
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

fn id_type(column: &Column) -> Option<IdType> {
    match column.type_.as_str() {
        "smallint" | "integer" | "bigint" => Some(IdType::Integer),
        "uuid" => Some(IdType::Uuid),
        "text" | "character varying" => Some(IdType::Text),
        _ => None,
    }
}

/// How a column holds a time, if it does.
fn time_type(column: &Identifier, found: &Column, field: &str) -> Result<TimeType, Problem> {
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

/// The types of the mapped columns, if all are there and usable.
fn types(table: &Table, relation: &Relation, labels: &[String]) -> Result<Types, Problem> {
    let c = &table.columns;
    let find = |column: &Identifier, field: &str| {
        relation.columns.get(&column.0).ok_or_else(|| Problem::NoColumn {
            table: qualified(table),
            column: quote(&column.0),
            field: format!("spec.table.columns.{field}"),
        })
    };
    let wrong = |column: &Identifier, found: &Column, field: &str, expected| Problem::WrongType {
        column: quote(&column.0),
        type_: found.type_.clone(),
        field: format!("spec.table.columns.{field}"),
        expected,
    };
    let time = |column: &Identifier, field: &str| {
        time_type(column, find(column, field)?, &format!("spec.table.columns.{field}"))
    };
    let id = find(&c.id, "id")?;
    let job = find(&c.job_id, "jobId")?;
    let status = find(&c.status, "status")?;
    let job_type = c.job_type.as_ref().map(|type_| find(type_, "jobType")).transpose()?;
    let types = Types {
        id: id_type(id)
            .ok_or_else(|| wrong(&c.id, id, "id", "smallint, integer, bigint, uuid, text or varchar"))?,
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
    for (place, condition) in table.filter.iter().enumerate() {
        find_filtered(table, relation, place, condition)?;
    }
    if !id.unique {
        return Err(Problem::IdNotUnique { table: qualified(table), column: quote(&c.id.0) });
    }
    let number = find(&c.execution_number, "executionNumber")?;
    if !matches!(number.type_.as_str(), "smallint" | "integer" | "bigint") {
        return Err(wrong(&c.execution_number, number, "executionNumber", "smallint, integer or bigint"));
    }
    match status.kind.as_str() {
        "e" => known_labels(table, labels, &status.type_)?,
        _ if status.category == "S" => {}
        _ => return Err(wrong(&c.status, status, "status", "text, varchar, char or an enum")),
    }
    if let (Some(limit), Some(text)) =
        (status.limit, table.statuses.failed.first().filter(|t| !fits(status, t)))
    {
        return Err(Problem::StatusTooLong { column: quote(&c.status.0), limit, text: text.0.clone() });
    }
    if let Some(seconds) = &c.paused_seconds {
        let found = find(seconds, "pausedSeconds")?;
        let numeric = ["smallint", "integer", "bigint", "real", "double precision"];
        if !numeric.contains(&found.type_.as_str()) && !found.type_.starts_with("numeric") {
            return Err(wrong(
                seconds,
                found,
                "pausedSeconds",
                "smallint, integer, bigint, numeric, real or double precision",
            ));
        }
    }
    if let Some(workload) = &c.workload {
        find(workload, "workload")?;
    }
    if let Some(owner) = &c.owner {
        find(owner, "owner")?;
    }
    if let Some(worker) = &c.worker {
        find(worker, "worker")?;
    }
    if let Some(error) = &c.error {
        let found = find(error, "error")?;
        if found.category != "S" {
            return Err(wrong(error, found, "error", "text or varchar"));
        }
    }
    Ok(types)
}

/// Sees that a condition of the filter is one, and that its column is there.
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

/// Whether the column has room for a status.
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

fn grant(right: &str, columns: &[&Identifier], table: &str, role: &str) -> String {
    format!("GRANT {right} ({}) ON {table} TO {}", quoted(columns), quote(role))
}
