//! The tables that a spec names.

use crate::api::table::{Jobs, WorkerHeartbeat};
use crate::api::{ExecutionStoreSpec, Table};

/// The tables that a spec names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The executions.
    pub table: Table,
    /// The jobs, if they are named.
    pub jobs: Option<Jobs>,
    /// The workers, if they are named.
    pub heartbeat: Option<WorkerHeartbeat>,
    /// An additional permitted owner of the operator's schema.
    pub schema_owner: Option<String>,
    /// True if this was read from the database, where every login that may update the table can write it.
    pub recorded: bool,
}

impl Layout {
    /// Returns the tables of a store.
    pub fn of(spec: &ExecutionStoreSpec) -> Self {
        Self {
            table: spec.table.clone(),
            jobs: spec.jobs.clone(),
            heartbeat: spec.heartbeat.clone(),
            schema_owner: spec.connection.schema_owner.clone(),
            recorded: false,
        }
    }
}

impl From<Table> for Layout {
    fn from(table: Table) -> Self {
        Self { table, ..Self::default() }
    }
}
