//! Compares the table of a spec with the catalog: whether the columns exist and have usable types, and whether this login has the
//! privileges that the operator needs.

mod check;
mod problem;
mod retry;
mod rights;
mod types;

use sqlx::AssertSqlSafe;

pub use self::check::Validated;
use self::check::check;
pub use self::problem::Problem;
use super::catalog::{self, Catalog, Relation};
use super::mapping::related;
use super::mapping::{EXECUTION, filter, qualified, quote};
use super::{Database, DbError, Layout, Mapping, adapter, visibility};
use crate::api::{OnStale, Table};

/// Reads the catalog and checks the table. The outer error comes from the database, the inner one is about the table.
pub async fn validate(database: &Database, layout: &Layout) -> Result<Result<Validated, Problem>, DbError> {
    let catalog = catalog::read(database, layout).await?;
    let mut checked = check(layout, &catalog);
    let adapter = adapter::problem(database, layout).await?;
    match (&mut checked, adapter) {
        (_, None) => {}
        // Without the adapter the end of an execution would be wrong. It is still seen.
        (Ok(validated), Some(problem)) => validated.unwritable = Some(problem),
        (Err(_), Some(problem)) => checked = Err(problem),
    }
    if checked.is_ok()
        && let Some(problem) = unusable_filter(database, &layout.table).await?
    {
        checked = Err(problem);
    }
    if let Ok(validated) = &mut checked
        && validated.unwritable.is_none()
        && catalog.executions.as_ref().is_some_and(Relation::is_view)
    {
        validated.unwritable = not_lockable(database, &validated.mapping).await?;
    }
    match &checked {
        Ok(_) => database.set_guard(&guard(layout, &catalog)),
        // Others may still use the mapping that was valid before.
        Err(Problem::RowSecurity { .. }) => database.set_guard("SET LOCAL row_security = off"),
        // The previous result still holds, or fails by itself.
        Err(_) => {}
    }
    Ok(checked)
}

/// Returns the problem that Postgres reports with the filter of a table: only Postgres knows whether a text is a value of a
/// column's type.
async fn unusable_filter(database: &Database, table: &Table) -> Result<Option<Problem>, DbError> {
    let Some(all) = filter(table, EXECUTION) else { return Ok(None) };
    if refusal(database, table, &all).await?.is_none() {
        return Ok(None);
    }
    for condition in &table.filter {
        let one = Table { filter: vec![condition.clone()], ..table.clone() };
        let refused = match filter(&one, EXECUTION) {
            Some(condition) => refusal(database, table, &condition).await?,
            None => None,
        };
        if let Some(why) = refused {
            return Ok(Some(Problem::Filter { column: quote(&condition.column.0), why }));
        }
    }
    // Somebody fixed it in the meantime.
    Ok(None)
}

/// Returns the problem if Postgres rejects the statement that ends executions of a view. Plans the statement and does not run it.
async fn not_lockable(database: &Database, mapping: &Mapping) -> Result<Option<Problem>, DbError> {
    let sql = format!(
        include_str!("end.sql"),
        id = mapping.id(),
        table = mapping.table(),
        running = mapping.running(),
        lock = mapping.lock(),
        assignments = mapping.end_assignments(OnStale::Fail, ""),
        ending = mapping.ending(),
    );
    let why = rejected(database, sql).await?;
    Ok(why.map(|why| Problem::NotLockable { table: mapping.table(), why }))
}

/// Returns the reason if Postgres rejects a condition. Reads no rows.
async fn refusal(database: &Database, table: &Table, condition: &str) -> Result<Option<String>, DbError> {
    rejected(database, format!("SELECT FROM {} AS execution WHERE {condition} LIMIT 0", qualified(table)))
        .await
}

/// Returns the reason if Postgres rejects a statement, which is then undone.
async fn rejected(database: &Database, sql: String) -> Result<Option<String>, DbError> {
    let mut tx = database.read().await?;
    let asked = sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(&mut *tx).await;
    tx.rollback().await?;
    match asked.map_err(DbError::from) {
        Ok(_) => Ok(None),
        // There is no such operator, a text is not a value of the type, or the types do not match.
        // Or something about the relation is not supported.
        Err(DbError::Statement(why, code))
            if ["0A", "22", "42", "55"].iter().any(|class| code.starts_with(class)) =>
        {
            Ok(Some(why))
        }
        Err(error) => Err(error),
    }
}

/// Returns the statement that fails if row-level security has changed.
fn guard(layout: &Layout, catalog: &Catalog) -> String {
    let executions = catalog.executions.iter().map(|found| (qualified(&layout.table), found));
    let others = related(layout).into_iter().zip(&catalog.related);
    let others = others.filter_map(|(other, found)| Some((other.qualified(), found.as_ref()?)));
    // Only a validation finds out about the tables beneath a view.
    let tables = executions.chain(others).filter(|(_, found)| found.kind != "v");
    visibility::guard(&tables.map(|(name, found)| (name, found.visibility)).collect::<Vec<_>>())
}
