//! Reads what the catalog of Postgres contains about a table, without judging it.

use std::collections::BTreeMap;

use sqlx::postgres::types::Oid;
use sqlx::{AssertSqlSafe, PgConnection};

use super::decode::List;
use super::mapping::literal;
use super::mapping::{qualified, related};
use super::visibility::{self, Visibility};
use super::{Database, DbError, Layout};
use crate::api::Table;
use crate::api::identifier::Identifier;

/// The catalog's entries for the tables of a layout.
#[derive(Clone, Debug)]
pub(super) struct Catalog {
    /// The name of the login.
    pub(super) role: String,
    /// The table of executions; `None` if there is no such relation.
    pub(super) executions: Option<Relation>,
    /// The related tables, in the order of [`related`]; `None` if there is no such relation.
    pub(super) related: Vec<Option<Relation>>,
    /// The labels of the status column's type, if it is an enum.
    pub(super) labels: Vec<String>,
    /// True if Postgres knows the mapped time zone.
    pub(super) zone_known: bool,
    /// True if this server accepts no writes: it is a standby, or set to read only.
    pub(super) read_only: bool,
}

/// A relation.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    /// `pg_class.oid`.
    oid: Oid,
    /// `pg_class.relkind`.
    pub(super) kind: String,
    /// True if the login may use its schema.
    pub(super) usage: bool,
    /// The columns by name.
    pub(super) columns: BTreeMap<String, Column>,
    /// Its triggers that are not disabled.
    pub(super) triggers: Vec<String>,
    /// The effect of row-level security for the login.
    pub(super) visibility: Visibility,
    /// True if the login may read `xmin`.
    pub(super) versions: bool,
    /// True if Postgres can update it: it is a table, a view that is updatable by itself, or one with a rule or an enabled
    /// `INSTEAD OF UPDATE` trigger.
    pub(super) updatable: bool,
}

impl Relation {
    /// Reports whether it is a view, which has neither indexes nor versions of rows.
    pub(super) fn is_view(&self) -> bool {
        self.kind == "v"
    }
}

/// A column.
#[derive(Clone, Debug, sqlx::FromRow)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own in the catalog")]
pub(super) struct Column {
    /// Its name.
    pub(super) name: String,
    /// Its type as `format_type` names it, without a length.
    pub(super) type_: String,
    /// `pg_type.typcategory`: `S` for strings.
    pub(super) category: String,
    /// `pg_type.typtype`: `e` for enums.
    pub(super) kind: String,
    /// True if Postgres itself has an operator that compares two of its values.
    pub(super) comparable: bool,
    /// True if the login may read it.
    pub(super) select: bool,
    /// True if the login may change it.
    pub(super) update: bool,
    /// True if an index makes its values unique in the whole table.
    pub(super) unique: bool,
    /// True if a partial index on running executions covers it and the start.
    pub(super) indexed: bool,
    /// True if an index on all rows begins with it.
    pub(super) leads: bool,
    /// True if it is part of a unique index that a foreign key could refer to, even one of a partition: then a change of it takes
    /// the strongest lock that a row can have.
    pub(super) keyed: bool,
    /// Its maximum length in characters, if it is limited.
    pub(super) limit: Option<i32>,
    /// True if it is NOT NULL.
    pub(super) required: bool,
    /// True if the login may give a new row a value for it.
    pub(super) insert: bool,
    /// True if a new row gets a value for it by itself.
    pub(super) has_default: bool,
    /// True if its value is computed from other columns.
    pub(super) generated: bool,
}

/// Reads the catalog. The login needs no privilege on the tables themselves.
pub(super) async fn read(database: &Database, layout: &Layout) -> Result<Catalog, DbError> {
    let table = &layout.table;
    let mut tx = database.read_catalog().await?;
    let (role, zone_known, read_only): (String, bool, bool) =
        sqlx::query_as(include_str!("catalog/settings.sql"))
            .bind(&table.time_zone)
            .persistent(false)
            .fetch_one(&mut *tx)
            .await?;
    let executions = relation(&mut tx, &table.schema, &table.name, table).await?;
    let mut others = Vec::new();
    for other in related(layout) {
        others.push(relation(&mut tx, other.schema, other.name, table).await?);
    }
    let labels = match &executions {
        Some(Relation { oid, .. }) => {
            sqlx::query_scalar(include_str!("catalog/labels.sql"))
                .bind(oid)
                .bind(&table.columns.status.0)
                .persistent(false)
                .fetch_all(&mut *tx)
                .await?
        }
        None => Vec::new(),
    };
    tx.commit().await?;
    let mut executions = executions;
    if let Some(view) = executions.as_mut().filter(|found| found.is_view()) {
        view.visibility = of_view(database, &qualified(table)).await?;
    }
    for (other, found) in related(layout).iter().zip(&mut others) {
        if let Some(view) = found.as_mut().filter(|found| found.is_view()) {
            view.visibility = of_view(database, &other.qualified()).await?;
        }
    }
    Ok(Catalog { role, executions, related: others, labels, zone_known, read_only })
}

/// Returns the effect of row-level security of the tables beneath a view. Only Postgres can determine it: with row
/// security off, it refuses to read the view if any would apply.
async fn of_view(database: &Database, view: &str) -> Result<Visibility, DbError> {
    let read = format!("SELECT FROM {view} LIMIT 0");
    let mut tx = database.read_catalog().await?;
    sqlx::raw_sql("SET LOCAL row_security = off").execute(&mut *tx).await?;
    let tried = sqlx::query(AssertSqlSafe(read)).persistent(false).execute(&mut *tx).await;
    tx.rollback().await?;
    match tried.map_err(DbError::from) {
        // The check of the columns finds a missing privilege.
        Ok(_) | Err(DbError::Privilege(_)) => Ok(Visibility::default()),
        Err(DbError::RowSecurity) => Ok(Visibility { active: true, reads: false, ..Visibility::default() }),
        Err(error) => Err(error),
    }
}

/// Returns a relation if it exists. `table` determines which columns an index serves for running executions.
async fn relation(
    tx: &mut PgConnection,
    schema: &Identifier,
    name: &Identifier,
    table: &Table,
) -> Result<Option<Relation>, DbError> {
    let found: Option<(Oid, String, bool, List<String>, bool, bool)> =
        sqlx::query_as(include_str!("catalog/relation.sql"))
            .bind(&schema.0)
            .bind(&name.0)
            .persistent(false)
            .fetch_optional(&mut *tx)
            .await?;
    let Some((oid, kind, usage, List(triggers), versions, updatable)) = found else { return Ok(None) };
    let visibility = format!("SELECT {}", visibility::columns("$1"));
    let visibility: Visibility =
        sqlx::query_as(AssertSqlSafe(visibility)).bind(oid).persistent(false).fetch_one(&mut *tx).await?;
    let running: Vec<String> = table.statuses.running.iter().map(|text| literal(&text.0)).collect();
    let columns: Vec<Column> = sqlx::query_as(include_str!("catalog/columns.sql"))
        .bind(oid)
        .bind(&table.columns.started_at.0)
        .bind(running)
        .bind(&table.columns.status.0)
        .persistent(false)
        .fetch_all(&mut *tx)
        .await?;
    let columns = columns.into_iter().map(|column| (column.name.clone(), column)).collect();
    Ok(Some(Relation { oid, kind, usage, columns, triggers, visibility, versions, updatable }))
}
