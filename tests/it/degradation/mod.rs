//! The features that keep working, those that stop, and the status, while something that a store depends on is missing or
//! disappears: one test for each cell of the matrix.

mod connection;
mod server;
mod tables;

use jobexec_operator::api::ExecutionStoreStatus;

use crate::support::is;

fn enforces(status: &ExecutionStoreStatus) -> bool {
    is(&status.conditions, "Ready", "True", "Enforcing")
}

fn records(status: &ExecutionStoreStatus) -> bool {
    is(&status.conditions, "AuditAvailable", "True", "TablesPresent")
}

/// A row that began this long ago.
fn running(id: i64, age: &str) -> String {
    format!("INSERT INTO job_executions VALUES ({id}, 1, {id}, 'running', now() - interval '{age}')")
}
