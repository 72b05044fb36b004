//! What Postgres' catalog says of a table, read in one go and not judged.

use std::collections::BTreeMap;

use super::{Database, DbError};
use crate::api::Table;

/// A table in the catalog.
#[derive(Clone, Debug, Default)]
pub(super) struct Catalog {
    /// `pg_class.relkind`; `None`: there is no such relation.
    pub(super) kind: Option<String>,
    /// The login.
    pub(super) role: String,
    /// Whether the login may use the table's schema.
    pub(super) usage: bool,
    /// The columns by name.
    pub(super) columns: BTreeMap<String, Column>,
    /// The labels of the status column's type, if it is an enum.
    pub(super) labels: Vec<String>,
    /// Whether Postgres knows the mapped time zone.
    pub(super) zone_known: bool,
    /// Whether this server takes no writes: a standby, or set to read only.
    pub(super) read_only: bool,
    /// The triggers of the table that are not disabled.
    pub(super) triggers: Vec<String>,
}

/// A column.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Column {
    /// Its name.
    pub(super) name: String,
    /// Its type as `format_type` names it, without a length.
    pub(super) type_: String,
    /// `pg_type.typcategory`: `S` for strings.
    pub(super) category: String,
    /// `pg_type.typtype`: `e` for enums.
    pub(super) kind: String,
    /// Whether the login may read it.
    pub(super) select: bool,
    /// Whether the login may change it.
    pub(super) update: bool,
    /// Whether an index makes its values unique in the whole table.
    pub(super) unique: bool,
    /// How many characters it holds, where that is limited.
    pub(super) limit: Option<i32>,
}

/// Reads the catalog; no right on the table itself is needed.
pub(super) async fn read(database: &Database, table: &Table) -> Result<Catalog, DbError> {
    let mut tx = database.read().await?;
    let (role, zone_known, read_only): (String, bool, bool) = sqlx::query_as(
        "SELECT current_user::text, $1 = 'UTC' OR EXISTS (SELECT FROM pg_timezone_names WHERE name = $1),
                pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean",
    )
    .bind(&table.time_zone)
    .persistent(false)
    .fetch_one(&mut *tx)
    .await?;
    let relation: Option<(i64, String, bool, Vec<String>)> = sqlx::query_as(
        "SELECT c.oid::bigint, c.relkind::text, has_schema_privilege(n.oid, 'USAGE'),
                ARRAY(SELECT g.tgname::text FROM pg_trigger AS g WHERE g.tgrelid = c.oid AND g.tgenabled <> 'D')
         FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relname = $2",
    )
    .bind(&table.schema.0)
    .bind(&table.name.0)
    .persistent(false)
    .fetch_optional(&mut *tx)
    .await?;
    let Some((oid, kind, usage, triggers)) = relation else {
        return Ok(Catalog { role, zone_known, read_only, ..Catalog::default() });
    };
    let columns: Vec<Column> = sqlx::query_as(
        "SELECT a.attname::text AS name, format_type(a.atttypid, NULL) AS type_, t.typcategory::text AS category,
                t.typtype::text AS kind, has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS select,
                has_column_privilege(a.attrelid, a.attnum, 'UPDATE') AS update,
                EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid
                        AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum) AS unique,
                CASE WHEN t.typname IN ('varchar', 'bpchar') AND a.atttypmod > 4 THEN a.atttypmod - 4 END AS limit
         FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
         WHERE a.attrelid::bigint = $1 AND a.attnum > 0 AND NOT a.attisdropped",
    )
    .bind(oid)
    .persistent(false)
    .fetch_all(&mut *tx)
    .await?;
    let labels = sqlx::query_scalar(
        "SELECT e.enumlabel::text FROM pg_attribute AS a JOIN pg_enum AS e ON e.enumtypid = a.atttypid
         WHERE a.attrelid::bigint = $1 AND a.attname = $2",
    )
    .bind(oid)
    .bind(&table.columns.status.0)
    .persistent(false)
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    let columns = columns.into_iter().map(|column| (column.name.clone(), column)).collect();
    Ok(Catalog { kind: Some(kind), role, usage, columns, labels, zone_known, read_only, triggers })
}
