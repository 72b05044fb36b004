//! The tables that a spec names.

use crate::api::table::Jobs;
use crate::api::{ExecutionStoreSpec, Table};

/// The tables that a spec names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The executions.
    pub table: Table,
    /// The jobs, if they are named.
    pub jobs: Option<Jobs>,
    /// Who may own the operator's schema beside those who always may.
    pub schema_owner: Option<String>,
    /// Whether this was read in the database, where everybody can write it who may update the table.
    pub recorded: bool,
}

impl Layout {
    /// Those of a store.
    pub fn of(spec: &ExecutionStoreSpec) -> Self {
        Self {
            table: spec.table.clone(),
            jobs: spec.jobs.clone(),
            schema_owner: spec.connection.schema_owner.clone(),
            recorded: false,
        }
    }
}

impl From<Table> for Layout {
    fn from(table: Table) -> Self {
        Self { table, jobs: None, schema_owner: None, recorded: false }
    }
}
