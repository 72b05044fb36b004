//! The condition `EnforcementPaused`.

use super::not_observed::unreachable_yet;
use crate::api::conditions::{ConditionType, DesiredCondition};
use crate::api::{ExecutionStore, Mode};
use crate::db::held::Held;
use crate::db::sweep::Refused;
use crate::reconcilers::store::breaker;
use crate::reconcilers::store::reconciled::{Complete, Progress, Reconciled};
use crate::reconcilers::store::swept::SAMPLE;
use crate::session::session::Session;

pub(super) fn paused(store: &ExecutionStore, result: &Reconciled) -> DesiredCondition {
    const TYPE: ConditionType = ConditionType::EnforcementPaused;
    let session: Option<&Session> = result.session().map(|session| &**session);
    match session {
        _ if store.spec.mode == Mode::Observe => DesiredCondition::new(
            TYPE,
            true,
            "Observing",
            "spec.mode is Observe: stale executions are reported and not failed; set it to Enforce to resume",
        ),
        Some(session) if session.read_only => DesiredCondition::new(
            TYPE,
            true,
            "DatabaseReadOnly",
            "the database is read-only: point the Secret's URL at the primary, or make the database writable",
        ),
        Some(Session { unwritable: Some(problem), .. }) => {
            DesiredCondition::new(TYPE, true, problem.reason(), problem.to_string())
        }
        Some(_) if matches!(result.progress, Progress::CacheNotSynced) => DesiredCondition::new(
            TYPE,
            true,
            "CacheNotSynced",
            "not all JobExecution and ExecutionPolicy objects have been seen, whose timeouts count: see that the \
             operator's ServiceAccount may list and watch jobexecutions and executionpolicies, and that their CRDs are \
             installed. Where AuditAvailable is False, correct or delete those whose condition says that they cannot be used: \
             what they said before is recorded nowhere",
        ),
        Some(_) => enforcement(result),
        None => unreachable_yet(TYPE),
    }
}

/// The condition that enforcement is paused, unless something rules it out from the start.
fn enforcement(result: &Reconciled) -> DesiredCondition {
    const TYPE: ConditionType = ConditionType::EnforcementPaused;
    match &result.progress {
        Progress::Complete(complete) => {
            let Complete { open, refused, held, .. } = &**complete;
            // One whose worker is asked to stop is not refused: it is about to end.
            let refused: Vec<Refused> = refused.iter().filter(|row| !row.is_asked()).cloned().collect();
            if let Some(why) = open {
                DesiredCondition::new(TYPE, true, breaker::OPEN, why.clone())
            } else if !refused.is_empty() {
                DesiredCondition::new(TYPE, true, "ExecutionsRefused", refused_text(&refused))
            } else if !held.is_empty() {
                DesiredCondition::new(TYPE, true, "ExecutionsHeld", held_text(held))
            } else {
                DesiredCondition::new(TYPE, false, "Enforcing", "stale executions are ended")
            }
        }
        Progress::Failed(error) if error.answered() => {
            DesiredCondition::new(TYPE, true, error.reason(), error.to_string())
        }
        Progress::Failed(_) | Progress::NotConnected | Progress::CacheNotSynced => unreachable_yet(TYPE),
    }
}

fn refused_text(rows: &[Refused]) -> String {
    let told: Vec<String> =
        rows.iter().take(SAMPLE.into()).map(|row| format!("{}: {}", row.id, row.why)).collect();
    let more = rows.len().saturating_sub(told.len());
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("stale executions that cannot be ended, while all others are: {}{rest}", told.join("; "))
}

fn held_text(rows: &[Held]) -> String {
    let told: Vec<String> = rows.iter().take(SAMPLE.into()).map(ToString::to_string).collect();
    let more = rows.len().saturating_sub(told.len());
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!(
        "stale executions whose rows another transaction holds, perhaps that of a worker that is gone, while all others are \
         ended: {}{rest}",
        told.join("; ")
    )
}
