//! What the commands share that set up a database as the owner of its tables.

use sqlx::{AssertSqlSafe, PgConnection};

use super::mapping::quote;
use super::{Database, DbError};

/// With this search path, every name without a schema is Postgres' own, even if somebody else created an object of the same name.
pub(super) const SEARCH_PATH: &str = "search_path = pg_catalog, pg_temp";

/// The error for a role that does not exist and is to be granted something.
#[derive(Debug, thiserror::Error)]
#[error("there is no role {0}: create it first, for example with CREATE ROLE {quoted} LOGIN PASSWORD '…'", quoted = quote(.0))]
pub struct NoRole(String);

/// The error for an index of which an earlier attempt to build it has failed: `IF NOT EXISTS` keeps it, and nothing is found by it.
#[derive(Debug, thiserror::Error)]
#[error(
    "the index {0} is not valid, as after an interrupted CREATE INDEX CONCURRENTLY: run DROP INDEX CONCURRENTLY {0}, then this again"
)]
pub struct InvalidIndex(String);

/// Runs statements that create indexes in `schema`, and checks that each is valid. The outer error is of the database.
pub(super) async fn build_indexes(
    connection: &mut PgConnection,
    schema: &str,
    statements: &[String],
) -> Result<Result<(), InvalidIndex>, DbError> {
    for statement in statements {
        execute(connection, statement).await?;
        // Before the next one, which may attach it to another. An index of a partitioned table is not valid before all partitions
        // have it, and those are built one by one.
        let invalid: Option<String> = sqlx::query_scalar(
            "SELECT format('%I.%I', namespace.nspname, class.relname)
             FROM pg_index AS index
             JOIN pg_class AS class ON class.oid = index.indexrelid AND class.relkind = 'i'
             JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
             WHERE namespace.nspname = $1 AND class.relname = $2 AND NOT index.indisvalid",
        )
        .bind(schema)
        .bind(index_name(statement))
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(name) = invalid {
            return Ok(Err(InvalidIndex(name)));
        }
    }
    Ok(Ok(()))
}

/// Returns the name of the index that a statement of ours creates.
fn index_name(statement: &str) -> Option<String> {
    let name = statement.split_once("IF NOT EXISTS ")?.1.split_whitespace().next()?;
    Some(name.trim_matches('"').to_owned())
}

/// Runs SQL as it is, which may be several statements.
pub(super) async fn execute(connection: &mut PgConnection, sql: &str) -> Result<(), DbError> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

/// Checks that a role exists. The outer error is of the database.
pub(super) async fn known(database: &Database, role: &str) -> Result<Result<(), NoRole>, DbError> {
    let mut tx = database.read_catalog().await?;
    let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
        .bind(role)
        .persistent(false)
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(if known { Ok(()) } else { Err(NoRole(role.to_owned())) })
}
