//! The tables that a spec names: that of the executions, and those that the operator only reads, one entry each.

use super::sql::in_schema;
use crate::adapters::{self, Adapter, Mapped};
use crate::api::identifier::Identifier;
use crate::api::store::WorkerHeartbeat;
use crate::api::table::Jobs;
use crate::api::{ExecutionStoreSpec, Table};

/// The adapter that a spec names.
#[derive(Clone, Debug)]
pub struct AdapterUse {
    /// Its name in the spec.
    pub name: String,
    /// The adapter; `None`: this version has none with this name.
    pub adapter: Option<&'static Adapter>,
}

impl PartialEq for AdapterUse {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for AdapterUse {}

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
    /// The adapter that stands for them, if the spec names one.
    pub adapter: Option<AdapterUse>,
    /// True if the store has to know which execution of a job is later, by its number.
    pub needs_number: bool,
    /// True if this was read from the database, where every login that may update the table can write it.
    pub recorded: bool,
}

impl Layout {
    /// Returns the tables of a store.
    pub fn of(spec: &ExecutionStoreSpec) -> Self {
        let mut layout = Self {
            table: spec.table.clone(),
            jobs: spec.jobs.clone(),
            heartbeat: spec.heartbeat.clone(),
            schema_owner: spec.connection.schema_owner.clone(),
            adapter: None,
            needs_number: spec.single_active_execution.is_some(),
            recorded: false,
        };
        if let Some(name) = &spec.adapter {
            let adapter = adapters::find(name);
            if let Some(adapter) = adapter {
                let Mapped { table, jobs, heartbeat, heartbeat_timeout: _ } = adapter.mapped(spec);
                (layout.table, layout.jobs, layout.heartbeat) = (table, jobs, heartbeat);
            }
            layout.adapter = Some(AdapterUse { name: name.clone(), adapter });
        }
        layout
    }
}

impl From<Table> for Layout {
    fn from(table: Table) -> Self {
        Self { table, ..Self::default() }
    }
}

/// The tables that may be related to the executions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelatedTable {
    /// The jobs. Their time is that at which a job finished.
    Jobs,
    /// The workers. Their time is that of the last heartbeat.
    Workers,
}

impl RelatedTable {
    /// The number of tables.
    pub const COUNT: usize = 2;

    /// Reports whether its rows are workers, which send heartbeats for all their executions.
    pub(super) const fn is_of_workers(self) -> bool {
        matches!(self, Self::Workers)
    }
}

/// A table that the operator only reads.
pub(in crate::db) struct Related<'a> {
    /// Which table it is.
    pub(in crate::db) table: RelatedTable,
    /// Its field in the spec.
    pub(in crate::db) field: &'static str,
    /// What its rows are.
    pub(in crate::db) rows: &'static str,
    /// Its schema.
    pub(in crate::db) schema: &'a Identifier,
    /// Its name.
    pub(in crate::db) name: &'a Identifier,
    /// The columns that are read, by their fields below [`Self::field`].
    pub(in crate::db) columns: Vec<(&'static str, &'a Identifier)>,
    /// The column that identifies a row.
    pub(in crate::db) key: &'a Identifier,
    /// The column of the executions that is compared with the key, and its field in the spec.
    pub(in crate::db) named_by: (&'static str, &'a Identifier),
    /// True if these two must have the same type: compared as texts, values that are equal may differ.
    pub(in crate::db) same_type: bool,
    /// The column that holds a time, and its field.
    pub(in crate::db) time: Option<(&'static str, &'a Identifier)>,
}

impl Related<'_> {
    /// Returns the table with its schema, quoted.
    pub(in crate::db) fn qualified(&self) -> String {
        in_schema(self.schema, self.name)
    }

    /// Returns the names of the columns that are read, each once.
    pub(in crate::db) fn column_names(&self) -> Vec<&Identifier> {
        each_once(self.columns.iter().map(|(_, name)| *name))
    }
}

/// Returns the related tables that a layout names.
pub(in crate::db) fn related(layout: &Layout) -> Vec<Related<'_>> {
    let jobs = layout.jobs.as_ref().map(|jobs| {
        let c = &jobs.columns;
        let optional = [("columns.type", &c.type_), ("columns.finishedAt", &c.finished_at)];
        let optional = optional.into_iter().filter_map(|(field, name)| Some((field, name.as_ref()?)));
        Related {
            table: RelatedTable::Jobs,
            field: "spec.jobs",
            rows: "jobs",
            schema: &jobs.schema,
            name: &jobs.name,
            columns: [("columns.id", &c.id), ("columns.status", &c.status)]
                .into_iter()
                .chain(optional)
                .collect(),
            key: &c.id,
            named_by: ("spec.table.columns.jobId", &layout.table.columns.job_id),
            same_type: false,
            time: c.finished_at.as_ref().map(|name| ("columns.finishedAt", name)),
        }
    });
    let workers = layout.heartbeat.as_ref().map(|workers| Related {
        table: RelatedTable::Workers,
        field: "spec.heartbeat",
        rows: "workers",
        schema: &workers.schema,
        name: &workers.table,
        columns: vec![("key", &workers.key), ("at", &workers.at)],
        key: &workers.key,
        named_by: ("spec.heartbeat.by", &workers.by),
        same_type: true,
        time: Some(("at", &workers.at)),
    });
    jobs.into_iter().chain(workers).collect()
}

/// Returns each name once, in the order of its first place.
pub(in crate::db) fn each_once<'a>(all: impl Iterator<Item = &'a Identifier>) -> Vec<&'a Identifier> {
    let mut names: Vec<&Identifier> = Vec::new();
    for name in all {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
