//! Installs an adapter, or prints its installation as a script.

use super::state::{Found, foreign, objects, owner, unsupported};
use crate::adapters::Adapter;
use crate::db::mapping::quote;
use crate::db::set_up::{InvalidIndex, NoRole, SEARCH_PATH, build_indexes, execute, known};
use crate::db::validate::Problem;
use crate::db::{Database, DbError};

/// The reason why an adapter could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// The database returned an error.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The tables are not those for which the adapter was made.
    #[error("nothing was changed: {0}")]
    Unsupported(Problem),
    /// The login is not the owner of the tables, whose rights the adapter's functions get.
    #[error(
        "nothing was changed: the tables belong to {owner}, and this is {user}. Log in as {owner}, or add ?options=-c%20role%3D{owner} to the URL if {user} is a member of it"
    )]
    NotOwner {
        /// The owner.
        owner: String,
        /// The login.
        user: String,
    },
    /// Somebody else created an object with the name of one of the adapter's.
    #[error("nothing was changed: {0}")]
    Foreign(String),
    /// An index is there and not valid.
    #[error(transparent)]
    InvalidIndex(#[from] InvalidIndex),
    /// The role to grant to does not exist.
    #[error(transparent)]
    NoRole(#[from] NoRole),
}

/// Installs an adapter for the tables in `schema`, and grants `role` what suffices. It changes nothing that is there already, and
/// nothing at all if the tables are not those for which the adapter was made.
///
/// # Errors
/// See [`AdapterError`]. Statements before a failed one stay, except those of `install.sql`, which are one transaction.
pub async fn apply(
    database: &Database,
    adapter: &Adapter,
    schema: &str,
    role: Option<&str>,
) -> Result<(), AdapterError> {
    if let Some(problem) = unsupported(database, adapter, schema).await? {
        return Err(AdapterError::Unsupported(problem));
    }
    as_owner(database, adapter, schema).await?;
    if let Some(role) = role {
        known(database, role).await??;
    }
    together(database, &Adapter::filled(adapter.install, &quote(schema), "")).await?;
    let mut connection = database.outside().await.map_err(DbError::from)?;
    execute(&mut connection, &format!("SET {SEARCH_PATH}")).await?;
    let indexes = statements(&Adapter::filled(adapter.indexes, &quote(schema), ""));
    build_indexes(&mut connection, schema, &indexes).await??;
    drop(connection);
    if let Some(role) = role {
        together(database, &Adapter::filled(adapter.grants, &quote(schema), &quote(role))).await?;
    }
    Ok(())
}

/// Removes an adapter, after which the job system works as before. Returns whether anything of it was there.
///
/// # Errors
/// See [`AdapterError`].
pub async fn remove(database: &Database, adapter: &Adapter, schema: &str) -> Result<bool, AdapterError> {
    let there = !as_owner(database, adapter, schema).await?.is_empty();
    together(database, &Adapter::filled(adapter.remove, &quote(schema), "")).await?;
    Ok(there)
}

/// Returns the installation as a script for psql that can be run repeatedly.
pub fn script(adapter: &Adapter, schema: &str, role: Option<&str>) -> String {
    let fill = |sql: &str| Adapter::filled(sql, &quote(schema), &role.map_or(String::new(), quote));
    let mut out = format!(
        "-- The adapter {} {}, for psql. It may be run again: what is there is left as it is. It ends at the first error.\n\n\
         \\set ON_ERROR_STOP on\nSET {SEARCH_PATH};\nSET client_min_messages = warning;\n\nBEGIN;\n{}\nCOMMIT;\n\n{}\n",
        adapter.manifest.name,
        adapter.manifest.version,
        fill(adapter.install),
        fill(adapter.indexes),
    );
    if role.is_some() {
        out.push_str(&fill(adapter.grants));
    }
    out
}

/// Checks that the login owns the tables, and that everything with the name of an object of the adapter does so too: its owner could
/// change what it does. Returns the objects with these names.
async fn as_owner(database: &Database, adapter: &Adapter, schema: &str) -> Result<Vec<Found>, AdapterError> {
    let (owner, user) = owner(database, adapter, schema).await?;
    if let Some(owner) = owner.clone().filter(|owner| *owner != user) {
        return Err(AdapterError::NotOwner { owner, user });
    }
    let found = objects(database, adapter, schema).await?;
    match foreign(&found, owner.as_deref()) {
        Some(what) => Err(AdapterError::Foreign(what)),
        None => Ok(found),
    }
}

/// Runs SQL in one transaction.
async fn together(database: &Database, sql: &str) -> Result<(), AdapterError> {
    let mut tx = database.write().await.map_err(DbError::from)?;
    execute(&mut tx, &format!("SET LOCAL {SEARCH_PATH}; SET LOCAL client_min_messages = warning")).await?;
    execute(&mut tx, sql).await?;
    Ok(tx.commit().await.map_err(DbError::from)?)
}

/// Returns the statements of a file that has no semicolon within one.
fn statements(sql: &str) -> Vec<String> {
    let lines = sql.lines().filter(|line| !line.trim_start().starts_with("--"));
    let text = lines.collect::<Vec<_>>().join("\n");
    text.split(';').map(|statement| statement.trim().to_owned()).filter(|s| !s.is_empty()).collect()
}
