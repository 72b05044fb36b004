//! Holds a spec's table against the catalog: are the columns there, of usable types, and may this login do what the
//! operator does.

mod check;
mod problem;
mod types;

use sqlx::AssertSqlSafe;

pub use self::check::Validated;
use self::check::{check, jobs_name};
pub use self::problem::Problem;
use super::catalog::{self, Catalog};
use super::mapping::{filter, qualified, quote};
use super::{Database, DbError, Layout, visibility};
use crate::api::Table;

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
