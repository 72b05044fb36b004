//! The tables that the operator only reads, in addition to the executions: one entry each.

use super::Layout;
use super::columns::each_once;
use super::mapping::{RelatedTypes, Types, quote};
use crate::api::identifier::Identifier;

/// A table that the operator only reads.
pub(in crate::db) struct Related<'a> {
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
    /// The column that is compared with a column of the executions, and that column.
    pub(in crate::db) key: (&'a Identifier, &'a Identifier),
    /// True if these two must have the same type: compared as texts, values that are equal may differ.
    pub(in crate::db) same_type: bool,
    /// The column that holds a time, and its field.
    pub(in crate::db) time: Option<(&'static str, &'a Identifier)>,
    /// Returns the place for the types of these columns.
    pub(in crate::db) types: fn(&mut Types) -> &mut RelatedTypes,
}

impl Related<'_> {
    /// Returns the table with its schema, quoted.
    pub(in crate::db) fn qualified(&self) -> String {
        format!("{}.{}", quote(&self.schema.0), quote(&self.name.0))
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
            field: "spec.jobs",
            rows: "jobs",
            schema: &jobs.schema,
            name: &jobs.name,
            columns: [("columns.id", &c.id), ("columns.status", &c.status)]
                .into_iter()
                .chain(optional)
                .collect(),
            key: (&c.id, &layout.table.columns.job_id),
            same_type: false,
            time: c.finished_at.as_ref().map(|name| ("columns.finishedAt", name)),
            types: |types| &mut types.jobs,
        }
    });
    let workers = layout.heartbeat.as_ref().map(|workers| Related {
        field: "spec.heartbeat",
        rows: "workers",
        schema: &workers.schema,
        name: &workers.table,
        columns: vec![("key", &workers.key), ("at", &workers.at)],
        key: (&workers.key, &workers.by),
        same_type: true,
        time: Some(("at", &workers.at)),
        types: |types| &mut types.workers,
    });
    jobs.into_iter().chain(workers).collect()
}
