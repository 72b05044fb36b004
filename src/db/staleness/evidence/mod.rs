//! The kinds of evidence that an execution is stale: one file each, and the list of all. To add one, write its file, add it to
//! `ALL`, and give it a [`Reason`].

mod deadline;
mod heartbeat;
mod job_finished;
mod superseded;
mod worker;
mod workload;

use futures::future::BoxFuture;
use serde::Serialize;
use sqlx::postgres::PgRow;

use super::{Selection, StalenessPredicate};
use crate::api::ExecutionStoreSpec;
use crate::db::reason::Reason;
use crate::db::{Database, DbError};

/// All kinds, in the order of [`Reason::ALL`]: if several find an execution stale, the first counts.
pub(in crate::db) const ALL: [&dyn Kind; 6] = [
    &deadline::Deadline,
    &heartbeat::Heartbeat,
    &job_finished::JobFinished,
    &superseded::Superseded,
    &workload::Workload,
    &worker::Worker,
];

/// The store as the object that configured something, by the `verdict` of a row.
pub(in crate::db) const STORE: &str = "verdict.store";

/// A kind of evidence that an execution is stale.
pub(in crate::db) trait Kind: Sync {
    /// Returns the reason with which the executions that it finds are ended.
    fn reason(&self) -> Reason;

    /// Reports whether a store checks this evidence in addition to deadlines.
    fn is_configured(&self, _spec: &ExecutionStoreSpec) -> bool {
        false
    }

    /// Returns a name for a sentence about missing tables, such as `lost heartbeats`, if what is observed of this evidence is stored
    /// in the operator's own tables.
    fn stored(&self) -> Option<&'static str> {
        None
    }

    /// Returns SQL for the object that configured this evidence, by the `verdict` of the row.
    fn source(&self) -> &'static str {
        STORE
    }

    /// Returns SQL for the note to record with the end of the execution with this id (a text) and beginning, by this evidence.
    fn note(&self, _judge: &StalenessPredicate<'_>, _id: &str, _began: &str) -> Option<String> {
        None
    }

    /// Returns queries for the stale rows, each with the columns id, reason, action and place; none if the store does not check
    /// this evidence.
    fn stale(&self, predicate: &StalenessPredicate<'_>, selection: Selection) -> Vec<String>;

    /// Returns how the row `execution` shows that its worker is alive, if it is this evidence that heartbeats stop. `store_id` is
    /// the parameter with the store's id in the operator's tables.
    fn beats(&self, _judge: &StalenessPredicate<'_>, _store_id: &str) -> Option<Beats> {
        None
    }

    /// Returns the columns that [`Self::explain`] reads, about the row `execution`: expressions and names.
    fn columns(&self, _judge: &StalenessPredicate<'_>) -> Vec<(String, &'static str)> {
        Vec::new()
    }

    /// Returns what is found of one execution, from [`Self::columns`] and the columns of the row; `None` if the store does not check
    /// this evidence, or the explanation shows it in another way.
    fn explain(&self, _judge: &StalenessPredicate<'_>, _row: &PgRow) -> Result<Option<Finding>, sqlx::Error> {
        Ok(None)
    }

    /// Records what is observed of the table now, if this evidence has to last for a while before it counts. Returns why some of it
    /// does not count at present, if so.
    fn observe<'a>(
        &'a self,
        _database: &'a Database,
        _judge: &'a StalenessPredicate<'a>,
    ) -> BoxFuture<'a, Result<Option<Unavailable>, DbError>> {
        Box::pin(async { Ok(None) })
    }
}

/// Why evidence does not count at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// The reason for a condition, one word.
    pub reason: &'static str,
    /// A text for people.
    pub why: String,
}

/// How rows show that their worker is alive.
#[derive(Clone, Debug)]
pub(in crate::db) struct Beats {
    /// Joins to the row `execution`.
    pub(in crate::db) joins: String,
    /// The time of the last heartbeat; NULL: there was none.
    pub(in crate::db) at: String,
    /// A query for the workers that may have nothing to do, with the time of their last heartbeat; empty if only executions tell.
    pub(in crate::db) idle: String,
    /// Returns the condition that a running row has sent no heartbeat since this cutoff, or may have lost its worker. The store's id
    /// in the operator's tables is `$1`.
    pub(in crate::db) quiet: fn(&StalenessPredicate<'_>, &str) -> String,
}

/// Returns how rows show that their worker is alive, if they do.
pub(in crate::db) fn beats(predicate: &StalenessPredicate<'_>, store_id: &str) -> Option<Beats> {
    ALL.iter().find_map(|kind| kind.beats(predicate, store_id))
}

/// Reports whether a store checks evidence in addition to deadlines.
pub fn is_configured(spec: &ExecutionStoreSpec) -> bool {
    ALL.iter().any(|kind| kind.is_configured(spec))
}

/// Returns the names of the evidence that a store checks and that needs the operator's own tables.
pub fn stored(spec: &ExecutionStoreSpec) -> Vec<&'static str> {
    ALL.iter().filter(|kind| kind.is_configured(spec)).filter_map(|kind| kind.stored()).collect()
}

/// Records what is observed of the table now, for the evidence that has to last for a while before it counts. Returns why some of
/// it does not count at present.
///
/// # Errors
/// Returns the errors of the database.
pub async fn observe(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
) -> Result<Vec<Unavailable>, DbError> {
    let mut unavailable = Vec::new();
    for kind in ALL {
        unavailable.extend(database.within(kind.observe(database, predicate)).await?);
    }
    Ok(unavailable)
}

/// What is found of one execution by one kind of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The kind of evidence.
    pub reason: Reason,
    /// The finding in words.
    pub seen: String,
    /// The time at which the execution becomes stale by it, if nothing changes.
    pub stale_at: Option<chrono::DateTime<chrono::Utc>>,
}
