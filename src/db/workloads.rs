//! The workloads of executions: records which executions run in one that has failed, is gone or was created again.
//!
//! The conditions are assembled here, because several queries share them.

use super::ids::id_of;
use super::observations::{self, Kind, Parameters};
use super::staleness::{Reason, Suspicion};
use super::suspects::{self, Found};
use super::{Database, DbError, Mapping, StalenessPredicate};
use crate::api::table::Recreated;

/// The existing workloads, and which execution runs in which according to objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workloads {
    /// The workloads that exist.
    pub seen: Vec<Workload>,
    /// The ids of executions, in the form that Postgres prints.
    pub executions: Vec<String>,
    /// The workload of each execution in `executions`, in the same order.
    pub named: Vec<String>,
}

/// A Job or Pod that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// `Kind/name`.
    pub name: String,
    /// Its UID: a workload that is created again under the same name has another one.
    pub uid: String,
    /// The state of the workload.
    pub state: State,
}

/// The state of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It may be working.
    Alive,
    /// It has done its work, which may continue elsewhere.
    Succeeded,
    /// It has failed, or should have terminated, with the reason if it is known.
    Ended(Option<String>),
}

impl Workloads {
    /// Returns the parameters `$2`, `$3` and `$4` of the statements.
    fn parameters(&self) -> Parameters {
        (self.json(), self.executions.clone(), self.named.clone())
    }

    /// Returns the JSON that the statements read.
    fn json(&self) -> String {
        let row = |workload: &Workload| {
            let (state, why) = match &workload.state {
                State::Alive => ("Alive", None),
                State::Succeeded => ("Succeeded", None),
                State::Ended(why) => ("Ended", why.as_deref()),
            };
            serde_json::json!({"name": workload.name, "uid": workload.uid, "state": state, "why": why})
        };
        serde_json::Value::Array(self.seen.iter().map(row).collect()).to_string()
    }
}

/// Synchronizes the suspects whose workload has failed or is gone, and those whose workload was created again, which counts as
/// `recreated` specifies. If `workloads` is `None`, it is unknown which workloads exist, so nothing is suspected and nothing is
/// recorded.
///
/// # Errors
/// Returns the errors of the database.
pub async fn update(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    workloads: Option<&Workloads>,
    recreated: Recreated,
) -> Result<(), DbError> {
    let nobody = Workloads::default();
    let rows = rows_with_workloads(predicate, workloads.is_some());
    if let Some(workloads) = workloads {
        observe_workloads(database, predicate, workloads, &rows).await?;
    }
    let workloads = workloads.unwrap_or(&nobody);
    let seen = |kind: Kind, what: &str| {
        format!(
            "(SELECT {what} FROM jobexec.observations AS observation WHERE observation.store_id = $1 AND observation.kind = '{}'
              AND observation.execution_id = row.execution_id AND observation.started_at = row.began_at)",
            kind.as_str()
        )
    };
    let again = format!(
        include_str!("workloads/again.sql"),
        first_seen = seen(Kind::WorkloadSeen, "observation.detail")
    );
    let joined = format!(
        "({rows}) AS row LEFT JOIN {SEEN} ON workload.name = row.workload
         WHERE row.workload IS NOT NULL AND NOT EXISTS {}",
        seen(Kind::WorkloadSucceeded, "1")
    );
    let made_again = "'another one has its name, which was made while the execution ran'";
    let counts = if recreated == Recreated::Gone { again.as_str() } else { "false" };
    let gone = format!(
        include_str!("workloads/gone.sql"),
        counts = counts,
        made_again = made_again,
        joined = joined,
        reason = Reason::WorkloadGone.as_str(),
    );
    suspects::replace(database, predicate, &found(workloads, Reason::WorkloadGone.as_str(), gone)).await?;
    let counts = if recreated == Recreated::Alive { again.as_str() } else { "false" };
    let made_again = format!(
        "SELECT execution_id, began_at, false AS certain, {made_again} AS detail
         FROM {joined} AND workload.state <> 'Ended' AND {counts}"
    );
    suspects::replace(
        database,
        predicate,
        &found(workloads, Suspicion::WorkloadRecreated.as_str(), made_again),
    )
    .await
}

fn found(workloads: &Workloads, reason: &'static str, query: String) -> Found {
    Found { parameters: Some(workloads.parameters()), ..Found::new(reason, query) }
}

/// The workloads as a relation `workload`.
const SEEN: &str = "jsonb_to_recordset($2::jsonb) AS workload (name text, uid text, state text, why text)";

/// Returns the query for the running executions with their workloads, or for none if the workloads are not `known`.
fn rows_with_workloads(predicate: &StalenessPredicate<'_>, known: bool) -> String {
    let m = predicate.mapping;
    format!(
        include_str!("workloads/rows.sql"),
        known = known,
        id = m.id(),
        began_at = m.began_at(),
        named = m.workload().unwrap_or_else(|| "NULL::text".to_owned()),
        table = m.table(),
        running = m.judged(),
        pending = pending(m, known),
        // Without the column, only the executions that objects name are relevant.
        any = if m.workload().is_some() {
            "true".to_owned()
        } else {
            format!("{} = ANY ($3::text[]::{}[])", m.id(), m.id_type().sql())
        },
    )
}

/// Returns the query for executions that have ended and whose retry waits until their worker is gone, if there can be any.
fn pending(m: &Mapping, known: bool) -> String {
    if !m.retries_by_operator() {
        return String::new();
    }
    format!(
        include_str!("workloads/pending.sql"),
        id = m.id(),
        began_at = m.began_at(),
        named = m.workload().unwrap_or_else(|| "NULL::text".to_owned()),
        table = m.table(),
        retried_id = id_of("retry.execution_id", m.id_type()),
        known = known,
        failed = m.failed(),
    )
}

/// Records the workload with which an execution was first seen, and whether its workload was seen to have succeeded.
async fn observe_workloads(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    workloads: &Workloads,
    rows: &str,
) -> Result<(), DbError> {
    let seen = |kind: Kind, which: &str| {
        let unseen = format!(
            "NOT EXISTS (SELECT FROM jobexec.observations AS observation WHERE observation.store_id = $1 AND observation.kind = '{}'
                         AND observation.execution_id = row.execution_id AND observation.started_at = row.began_at)",
            kind.as_str()
        );
        observations::Seen {
            kind,
            now: format!(
                "SELECT execution_id, began_at AS started_at, workload.name || ' ' || workload.uid AS detail
                 FROM ({rows}) AS row JOIN {SEEN} ON workload.name = row.workload WHERE {which} AND {unseen}"
            ),
            matters: Some(format!("SELECT execution_id, began_at AS started_at FROM ({rows}) AS row")),
            parameters: Some(workloads.parameters()),
        }
    };
    observations::update(database, predicate, &seen(Kind::WorkloadSeen, "true")).await?;
    observations::update(database, predicate, &seen(Kind::WorkloadSucceeded, "workload.state = 'Succeeded'"))
        .await
}
