//! The manifest of an adapter.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Adapter;
use crate::api::identifier::Identifier;
use crate::api::retry::{RetryMethod, TableRetry};
use crate::api::store::WorkerHeartbeat;
use crate::api::table::Jobs;
use crate::api::{ExecutionStoreSpec, Limit as Length, Table};

/// The manifest of an adapter: `adapter.yaml`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// The name, which a spec uses.
    pub name: String,
    /// The name of the job system.
    pub title: String,
    /// The version of the adapter, which grows with each change of its SQL.
    pub version: u32,
    /// The package of the job system, and the versions with which the adapter was proven.
    pub system: Package,
    /// The schema in which the system creates its tables by default.
    pub schema: Identifier,
    /// How the adapter writes.
    pub form: Form,
    /// The fields of an `ExecutionStore` that it stands for.
    pub store: Mapped,
    /// The columns that it uses, with their types, by relation.
    pub requires: BTreeMap<String, BTreeMap<String, String>>,
    /// What each action does; `None`: the system does not know the action.
    pub actions: BTreeMap<String, Option<String>>,
    /// Whose number of attempts and backoff count for `Retry`.
    pub retry_limit: Limit,
    /// How the worker of an ended attempt is kept from finishing.
    pub fence: String,
    /// What the system rescues by itself, and what happens beside it.
    pub own_rescuer: String,
    /// What the adapter does not do.
    pub limits: Vec<String>,
}

/// A package of a job system.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub package: String,
    /// The registry that has it.
    pub registry: String,
    /// The versions with which the adapter was proven.
    pub proven: Vec<String>,
}

/// How an adapter writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Form {
    /// The operator writes to the system's own table, and a trigger completes what it writes.
    Trigger,
    /// The operator writes to a view, and its `INSTEAD OF` trigger writes to the tables.
    View,
}

/// Whose limits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Limit {
    /// The system knows how often and when an execution is tried again.
    System,
    /// It does not.
    Policy,
}

/// The fields of an `ExecutionStore` that an adapter stands for.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mapped {
    /// The table or view of executions.
    pub table: Table,
    /// The jobs.
    #[serde(default)]
    pub jobs: Option<Jobs>,
    /// The heartbeats of workers.
    #[serde(default)]
    pub heartbeat: Option<WorkerHeartbeat>,
    /// The heartbeat timeout to begin with. It takes effect only if a store or a policy sets it.
    #[serde(default)]
    pub heartbeat_timeout: Option<Length>,
}

impl Adapter {
    /// Reports whether the operator may retry executions: where the job system limits no attempts, a job that kills its worker would
    /// run again for ever.
    pub fn retries(&self) -> bool {
        let known = self.manifest.actions.get("Retry").is_some_and(Option::is_some);
        known && self.manifest.retry_limit == Limit::System
    }

    /// Returns the tables that the adapter stands for, for the store with this spec: of its table, only the time zone and the filter
    /// count.
    pub fn mapped(&self, spec: &ExecutionStoreSpec) -> Mapped {
        let schema = self.schema(spec.adapter_schema.as_ref()).clone();
        let mut mapped = self.manifest.store.clone();
        mapped.table.schema = schema.clone();
        mapped.table.time_zone.clone_from(&spec.table.time_zone);
        mapped.table.filter.clone_from(&spec.table.filter);
        mapped.table.id_unique |= self.manifest.form == Form::View;
        mapped.table.retry =
            self.retries().then(|| TableRetry { method: RetryMethod::Trigger, copy_columns: Vec::new() });
        if let Some(jobs) = &mut mapped.jobs {
            jobs.schema = schema.clone();
        }
        if let Some(heartbeat) = &mut mapped.heartbeat {
            heartbeat.schema = schema;
        }
        mapped
    }
}
