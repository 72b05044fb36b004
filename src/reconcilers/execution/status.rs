//! Decide: computes the status of an object from the state of its row. Pure.

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;

use crate::api::conditions::{
    ConditionStatus, ConditionType, DesiredCondition, clip, find, set_conditions, time,
};
use crate::api::duration::NEVER;
use crate::api::execution::OBSERVING;
use crate::api::{JobExecution, JobExecutionStatus, Limit, Phase};
use crate::db::cancel::CANCEL_REQUESTED;
use crate::db::execution::Execution;
use crate::db::mapping::IdType;
use crate::db::staleness::Reason;
use crate::kubernetes::field_owner::requested_at;
use crate::kubernetes::guarded::Cause;

/// The reason of `Accepted` if another object takes precedence.
const OVERRIDDEN: &str = "Overridden";

/// The reason of `LongRunning` when it is True.
const LONG_RUNNING: &str = "LongRunning";

/// The reason of `Accepted` if the execution to cancel has ended since and another one has its id.
const REUSED: &str = "ExecutionReused";

/// The reason of `Accepted` if the execution was cancelled as requested.
pub(super) const CANCELLED: &str = "Cancelled";

/// The longest job id that a status shows, in bytes.
const JOB_LIMIT: usize = 253;

/// The message for a request to cancel while the store only observes.
pub(super) const ONLY_OBSERVED: &str = "spec.mode of the ExecutionStore was Observe when this was asked for, which changes no row, and it is \
     not carried out later: take it back (cancel: false), and ask again once the mode is Enforce";

/// The result of a request to cancel an execution: a reason and a message.
pub(super) type CancelFailure = (&'static str, String);

/// The state of the row behind an object.
#[derive(Clone, Copy, Debug)]
pub(super) enum RowState<'a> {
    /// The row, and the result of the request to cancel it, if that was tried.
    Row(&'a Execution, Option<&'a CancelFailure>),
    /// No such row (yet), and the result of the request to cancel it, if that was tried.
    RowNotFound(Option<&'a CancelFailure>),
    /// The id is not valid for the table.
    InvalidId(IdType),
    /// No such store (yet).
    StoreNotFound,
    /// The store is not ready; its own conditions say why.
    StoreNotReady,
}

/// Computes the status.
pub(super) fn compute(object: &JobExecution, sight: &RowState<'_>, now: DateTime<Utc>) -> JobExecutionStatus {
    let before = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    let store = &object.spec.store_ref.name;
    let mut findings = match sight {
        RowState::Row(row, unable) => return bound(object, row, *unable, now),
        RowState::RowNotFound(_) => {
            let message = format!(
                "the table has no execution {:?} (yet), or its row is outside of the store's table.filter",
                object.spec.execution_id
            );
            unbound(ConditionStatus::False, "RowNotFound", message)
        }
        RowState::InvalidId(type_) => {
            let message = format!(
                "{:?} is no id of this table, whose ids are of type {}: delete this object and create one with a valid id",
                object.spec.execution_id,
                type_.sql()
            );
            unbound(ConditionStatus::False, "InvalidExecutionId", message)
        }
        RowState::StoreNotFound => {
            let message = format!("there is no ExecutionStore {store} in this namespace (yet)");
            unbound(ConditionStatus::False, "StoreNotFound", message)
        }
        RowState::StoreNotReady => {
            // A row does not change because it cannot be read: keep what was known about it.
            let message =
                format!("the row cannot be seen at present: see the conditions of ExecutionStore {store}");
            let mut findings = unbound(ConditionStatus::Unknown, "StoreNotReady", message);
            findings.truncate(1);
            let mut conditions = set_conditions(&before.conditions, findings, generation, now);
            conditions.extend(before.conditions.iter().filter(|c| c.type_ != "Bound").cloned());
            return JobExecutionStatus { conditions, ..before };
        }
    };
    let observed = matches!(sight, RowState::RowNotFound(Some((OBSERVING, _)))) || object.was_declined();
    if object.spec.cancels() && (before.phase.is_some() || already_consumed(object)) {
        findings.push(reused());
    } else if object.spec.cancels() && observed {
        findings.push(DesiredCondition::new(ConditionType::Accepted, false, OBSERVING, ONLY_OBSERVED));
    }
    JobExecutionStatus {
        observed_generation: generation,
        conditions: set_conditions(&before.conditions, findings, generation, now),
        ..JobExecutionStatus::default()
    }
}

/// The conditions of an object that is not bound to a row.
fn unbound(truth: ConditionStatus, reason: &'static str, message: String) -> Vec<DesiredCondition> {
    let unknown = |type_| {
        DesiredCondition::new(type_, ConditionStatus::Unknown, reason, "the execution is not bound to a row")
    };
    vec![
        DesiredCondition::new(ConditionType::Bound, truth, reason, message),
        unknown(ConditionType::Finished),
        unknown(ConditionType::Succeeded),
    ]
}

fn bound(
    object: &JobExecution,
    row: &Execution,
    unable: Option<&CancelFailure>,
    now: DateTime<Utc>,
) -> JobExecutionStatus {
    let before = object.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    let reason = row.reason.clone();
    JobExecutionStatus {
        observed_generation: object.metadata.generation,
        phase: Some(row.phase),
        job_id: row.job_id.clone().map(|id| clip(id, JOB_LIMIT)),
        job_type: row.job_type.clone().map(|type_| clip(type_, JOB_LIMIT)),
        execution_number: row.number,
        started_at: row.started_at.map(time),
        completed_at: row.completed_at.map(time),
        deadline: row.deadline.map(time),
        no_deadline: (row.phase == Phase::Running && row.timeout == Limit::Never).then(|| NEVER.to_owned()),
        timeout: Some(row.timeout.to_string()),
        timeout_source: Some(row.source.clone()),
        reason,
        conditions: set_conditions(before, findings(object, row, unable), object.metadata.generation, now),
    }
}

fn findings(object: &JobExecution, row: &Execution, unable: Option<&CancelFailure>) -> Vec<DesiredCondition> {
    let mut status = format!("the row's status is {:?}", row.status);
    if row.phase == Phase::Paused {
        status.push_str(
            ": it has no deadline meanwhile, and the time for which the operator sees it so does not count",
        );
    }
    let phase = match row.phase {
        Phase::Scheduled => "Scheduled",
        Phase::Running => "Running",
        Phase::Paused => "Paused",
        Phase::Ignored => "Ignored",
        Phase::Completed => "Completed",
        Phase::Failed => "Failed",
        Phase::Cancelled => "Cancelled",
        Phase::Unmapped => "UnmappedStatus",
    };
    let ended_by_us = row.reason.as_deref().filter(|_| matches!(row.phase, Phase::Failed | Phase::Cancelled));
    let ours = ended_by_us.and_then(Reason::parse);
    let asked = ended_by_us.and_then(asked_for);
    let succeeded = match row.phase {
        Phase::Completed => ConditionStatus::True,
        Phase::Failed | Phase::Cancelled => ConditionStatus::False,
        Phase::Scheduled | Phase::Running | Phase::Paused | Phase::Ignored | Phase::Unmapped => {
            ConditionStatus::Unknown
        }
    };
    let outcome = match (ours, asked) {
        (Some(reason), _) => ended(row, reason),
        (None, Some(_)) => ended_for(row),
        (None, None) => status.clone(),
    };
    let finished = match row.phase {
        Phase::Unmapped | Phase::Ignored => ConditionStatus::Unknown,
        phase => phase.finished().into(),
    };
    let id = &object.spec.execution_id;
    let mut findings = vec![DesiredCondition::new(
        ConditionType::Bound,
        true,
        "RowFound",
        format!("execution {id:?} is a row of the table"),
    )];
    findings.extend(cancelled(object, row, unable).or_else(|| accepted(object, row)));
    findings.push(long_running(row));
    findings.push(DesiredCondition::new(ConditionType::Finished, finished, phase, status));
    findings.push(DesiredCondition::new(
        ConditionType::Succeeded,
        succeeded,
        ours.map(Reason::as_str).or(asked).unwrap_or(phase),
        outcome,
    ));
    findings
}

/// The message about why and how the operator ended it.
fn ended(row: &Execution, reason: Reason) -> String {
    let how = if row.phase == Phase::Cancelled { "cancelled" } else { "failed" };
    if let (Reason::DeadlineExceeded, Some(deadline)) = (reason, row.deadline) {
        return format!(
            "it was still running past its deadline {} and was {how} by the operator; the timeout is from {}",
            deadline.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            row.ended_by.as_ref().unwrap_or(&row.source)
        );
    }
    let note = row.note.as_ref().map_or(String::new(), |note| format!(" ({note})"));
    format!("it was {}{note} and was {how} by the operator", reason.explanation())
}

/// Returns the reason, if the operator ended the execution because somebody asked for it.
fn asked_for(reason: &str) -> Option<&'static str> {
    (reason == CANCEL_REQUESTED).then_some(CANCEL_REQUESTED)
}

/// The message about the object and the person for whom the operator ended it.
fn ended_for(row: &Execution) -> String {
    let how = if row.phase == Phase::Cancelled { "cancelled" } else { "failed" };
    let who = row.actor.as_ref().map_or(String::new(), |actor| format!(", asked for by {actor}"));
    format!("it was {how} on behalf of {}{who}", row.ended_by.as_ref().unwrap_or(&row.source))
}

/// Reports whether an object asks for its execution to be cancelled and was not answered yet. If that execution has ended
/// since, another one with the same id must not be cancelled in its place.
pub(super) fn to_cancel(object: &JobExecution, row_finished: bool) -> bool {
    object.spec.cancels() && !row_finished && !already_consumed(object) && !object.was_declined()
}

/// Reports whether the execution that an object asks to cancel is known to have ended. The object asks again only after
/// it was observed without `cancel`.
fn already_consumed(object: &JobExecution) -> bool {
    let Some(before) = &object.status else { return false };
    let reused = || find(&before.conditions, ConditionType::Accepted).is_some_and(|c| c.reason == REUSED);
    before.phase.is_some_and(Phase::finished) || reused()
}

/// The start of the object's execution, in seconds since 1970, if it was observed running.
pub(super) fn started(object: &JobExecution) -> Option<i64> {
    let before = object.status.as_ref().filter(|status| status.phase == Some(Phase::Running))?;
    let start = before.started_at.as_ref()?.0.as_second();
    // Outside this range, the status shows a clamped value rather than that of the table.
    (i64::from(i32::MIN)..253_370_764_800).contains(&start).then_some(start)
}

fn reused() -> DesiredCondition {
    let message = "the execution that was to be cancelled has ended or is gone, and another one with the same id is not: \
                   to cancel that one too take it back (cancel: false) and ask again";
    DesiredCondition::new(ConditionType::Accepted, false, REUSED, message)
}

/// The condition for the request to cancel, if the spec has one.
fn cancelled(
    object: &JobExecution,
    row: &Execution,
    unable: Option<&CancelFailure>,
) -> Option<DesiredCondition> {
    const TYPE: ConditionType = ConditionType::Accepted;
    if !object.spec.cancels() {
        return None;
    }
    let own = crate::rules::execution_source(&object.name_any());
    let finding =
        |truth: bool, reason, message: &str| Some(DesiredCondition::new(TYPE, truth, reason, message));
    if row.phase.finished() {
        let recorded = row.reason.as_deref() == Some(CANCEL_REQUESTED) && row.ended_by.as_ref() == Some(&own);
        // If there is no record, or not any more, it is known from the time when it was done.
        let done = unable.is_some_and(|(reason, _)| *reason == CANCELLED);
        let told = object.status.as_ref().is_some_and(|before| {
            before.completed_at == row.completed_at.map(time)
                && find(&before.conditions, TYPE).is_some_and(|c| c.reason == CANCELLED)
        });
        return if recorded || done || told {
            finding(true, CANCELLED, "the execution was cancelled as the spec asks")
        } else {
            finding(
                false,
                "ExecutionFinished",
                "the execution had ended before, so that cancel has no effect",
            )
        };
    }
    let other = started(object).zip(row.started_at).is_some_and(|(before, now)| before != now.timestamp());
    if already_consumed(object) || other {
        return Some(reused());
    }
    match unable {
        _ if object.was_declined() => finding(false, OBSERVING, ONLY_OBSERVED),
        Some((reason, message)) => finding(false, reason, message),
        None => finding(false, "RowLocked", "another transaction holds the row; it is tried again"),
    }
}

/// The condition for the other overrides of the spec, if it has any.
fn accepted(object: &JobExecution, row: &Execution) -> Option<DesiredCondition> {
    const TYPE: ConditionType = ConditionType::Accepted;
    let spec = &object.spec;
    if spec.timeout.is_none() && spec.extend_by.is_none() {
        return None;
    }
    let before = object.status.clone().unwrap_or_default();
    if row.phase.finished() {
        let same = before.observed_generation == object.metadata.generation;
        let before = find(&before.conditions, TYPE).filter(|_| same);
        let overridden = before.is_some_and(|c| c.reason == OVERRIDDEN);
        // The time of a request is known to the second: one from the second of the end was in time if it was observed in
        // effect.
        let seen = before.is_some_and(|c| c.status == "True");
        let late = !seen
            && row
                .completed_at
                .zip(requested_at(&object.metadata))
                .is_some_and(|(end, asked)| asked.timestamp() >= end.timestamp());
        return Some(match before {
            Some(before) if overridden && !late => {
                DesiredCondition::new(TYPE, false, OVERRIDDEN, before.message.clone())
            }
            _ if late => DesiredCondition::new(
                TYPE,
                false,
                "ExecutionFinished",
                "the execution had ended before, so that timeout and extendBy have no effect",
            ),
            _ => effective_rules(),
        });
    }
    let own = crate::rules::execution_source(&object.name_any());
    let counts = (spec.timeout.is_none() || row.source == own)
        && (spec.extend_by.is_none() || row.extend_source.as_ref() == Some(&own));
    Some(if counts {
        effective_rules()
    } else {
        DesiredCondition::new(
            TYPE,
            false,
            OVERRIDDEN,
            format!(
                "an older JobExecution for the same row counts: {}. Change that one, or delete it",
                row.extend_source.as_ref().unwrap_or(&row.source)
            ),
        )
    })
}

fn effective_rules() -> DesiredCondition {
    DesiredCondition::new(ConditionType::Accepted, true, "InForce", "what the spec asks for is in force")
}

fn long_running(row: &Execution) -> DesiredCondition {
    const TYPE: ConditionType = ConditionType::LongRunning;
    if row.phase.finished() {
        DesiredCondition::new(TYPE, false, "Finished", "it has ended")
    } else if row.phase == Phase::Paused {
        DesiredCondition::new(TYPE, false, "Paused", "it is paused, and that time does not count")
    } else if row.long_running {
        let message = format!("it has been running for longer than {} expects", row.warn_source);
        DesiredCondition::new(TYPE, true, LONG_RUNNING, message)
    } else {
        DesiredCondition::new(TYPE, false, "WithinLimits", "it has not been running for longer than expected")
    }
}

/// The conditions of an object that cannot be used. The rest of its status stays.
pub(super) fn refused(cause: &Cause, generation: Option<i64>, now: DateTime<Utc>) -> Vec<Condition> {
    let message = format!("{cause}. What it said before stays in force. {}", cause.remedy());
    let findings = vec![DesiredCondition::new(ConditionType::Bound, false, cause.reason(), message)];
    set_conditions(&[], findings, generation, now)
}
