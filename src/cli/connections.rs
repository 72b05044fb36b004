//! The database connections of a command. They are closed before it ends: the server counts a session whose client just disappears
//! as lost, and where several are lost at once, an operator takes that for an outage and holds lost heartbeats.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::CliError;
use crate::db::Database;
use crate::db::url::{self, Login};
use crate::secrets::{ExposeSecret as _, SecretString};

/// The time for which the end of a command waits for its connections to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time limit of a statement: building an index on a large table takes long.
const OWNER_TIMEOUT: Duration = Duration::from_hours(1);

static OPEN: Mutex<Vec<Database>> = Mutex::new(Vec::new());

/// Connects to a database.
///
/// # Errors
/// Returns the errors of the connection.
pub(super) async fn connect(
    login: impl Into<Login>,
    connections: u32,
    statement_timeout: Duration,
) -> Result<Database, CliError> {
    let database = Database::connect(login, connections, statement_timeout).await?;
    OPEN.lock().unwrap_or_else(PoisonError::into_inner).push(database.clone());
    Ok(database)
}

/// Connects as the owner of tables, for statements that may take long.
///
/// # Errors
/// Returns an error if no URL is given or it is invalid, and those of the connection.
pub(super) async fn open(url: Option<SecretString>) -> Result<Database, CliError> {
    let url = url.ok_or(CliError::NoDatabase)?;
    let login = url::login(url.expose_secret(), None)?;
    connect(login, 1, OWNER_TIMEOUT).await
}

/// Closes all connections.
pub(super) async fn close() {
    let open = std::mem::take(&mut *OPEN.lock().unwrap_or_else(PoisonError::into_inner));
    let closed = futures::future::join_all(open.iter().map(Database::close));
    if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
        tracing::debug!("connections were still in use when the command ended");
    }
}
