//! The condition `RetriesAvailable`.

use super::not_observed::unreachable_yet;
use crate::api::conditions::{ConditionType, DesiredCondition};
use crate::api::store::RetriesStatus;
use crate::db::Ledger;
use crate::db::retry::Pending;
use crate::reconcilers::store::reconciled::Reconciled;

/// The condition that executions can be retried, if the operator itself retries those of the store.
pub(super) fn retries(result: &Reconciled) -> Option<DesiredCondition> {
    const TYPE: ConditionType = ConditionType::RetriesAvailable;
    let session = result.session()?;
    if !session.mapping.retries_by_operator() {
        return None;
    }
    if let Ledger::Missing(why) = &session.ledger {
        let message = format!("executions are failed and not retried: a retry needs a record, and {why}");
        return Some(DesiredCondition::new(TYPE, false, "NotRecorded", message));
    }
    if let Some(problem) = &session.unretryable {
        return Some(DesiredCondition::new(TYPE, false, problem.reason(), problem.to_string()));
    }
    let Some(pending) = result.complete().and_then(|complete| complete.retries.as_ref()) else {
        return Some(unreachable_yet(TYPE));
    };
    let waiting = waiting(pending, session.retry_budget.limit());
    Some(match pending {
        Pending { refused, fault: Some(fault), .. } if *refused > 0 => DesiredCondition::new(
            TYPE,
            false,
            "RetriesRefused",
            format!("the table refuses retries: {fault}. {waiting}"),
        ),
        _ if for_budget(pending, session.retry_budget.limit()) > 0 => DesiredCondition::new(
            TYPE,
            false,
            "BudgetSpent",
            format!(
                "as many executions were retried within the last hour as spec.retry.budget allows, and the others wait: find out \
                 what ends so many of them. {waiting}"
            ),
        ),
        _ => DesiredCondition::new(TYPE, true, "Retrying", waiting),
    })
}

/// Returns the counts for the status.
pub(super) fn counts(pending: &Pending, result: &Reconciled) -> RetriesStatus {
    let Pending { last_hour, waiting, for_worker, refused, .. } = pending;
    let budget = result.session().map_or(0, |session| session.retry_budget.limit());
    RetriesStatus {
        started_last_hour: *last_hour,
        budget,
        waiting: *waiting,
        waiting_for_worker: *for_worker,
        waiting_for_budget: for_budget(pending, budget),
        refused: *refused,
    }
}

/// Returns how many retries wait for room in the budget.
const fn for_budget(pending: &Pending, budget: i64) -> i64 {
    if pending.last_hour >= budget { pending.due } else { 0 }
}

/// Returns how many retries wait, and for what.
fn waiting(pending: &Pending, budget: i64) -> String {
    let Pending { waiting, for_worker, due, refused, .. } = pending;
    let (for_room, for_time) = (for_budget(pending, budget), waiting - for_worker - due - refused);
    let parts: Vec<String> = [
        (*for_worker, "until the worker of the ended attempt is gone"),
        (for_time, "until they are due"),
        (for_room, "for room in the budget"),
        (due - for_room, "until the operator may write to the table"),
        (*refused, "to be tried again"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    if parts.is_empty() { "no retry waits".to_owned() } else { format!("retries wait: {}", parts.join(", ")) }
}
