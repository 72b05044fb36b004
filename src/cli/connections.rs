//! The database connections of a command. They are closed before it ends: the server counts a session whose client just disappears
//! as lost, and where several are lost at once, an operator takes that for an outage and holds lost heartbeats.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::CliError;
use crate::db::Database;
use crate::db::url::Login;

/// The time for which the end of a command waits for its connections to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

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

/// Closes all connections.
pub(super) async fn close() {
    let open = std::mem::take(&mut *OPEN.lock().unwrap_or_else(PoisonError::into_inner));
    let closed = futures::future::join_all(open.iter().map(Database::close));
    if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
        tracing::debug!("connections were still in use when the command ended");
    }
}
