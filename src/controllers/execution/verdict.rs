//! Decide: what is seen of a row means for the status of its object. Pure.

use chrono::{DateTime, Utc};

use crate::api::conditions::{Finding, Truth, find, settle, time};
use crate::api::{JobExecution, JobExecutionStatus, Phase};
use crate::controllers::events::News;
use crate::db::execution::Execution;
use crate::db::mapping::IdType;

/// What was seen of the row behind an object.
#[derive(Clone, Debug)]
pub(super) enum Sight {
    /// The row.
    Row(Box<Execution>),
    /// There is no such row (yet).
    RowNotFound,
    /// No row of the table can have this id.
    InvalidId(IdType),
    /// There is no such store (yet).
    StoreNotFound,
    /// The store cannot be worked on at present; its own conditions say why.
    StoreNotReady,
}

/// The status that follows.
pub(super) fn judge(object: &JobExecution, sight: &Sight, now: DateTime<Utc>) -> JobExecutionStatus {
    let before = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    let store = &object.spec.store_ref.name;
    let unbound = |truth, reason, message| {
        let unknown =
            |type_| Finding::new(type_, Truth::Unknown, reason, "the execution is not bound to a row");
        vec![Finding::new("Bound", truth, reason, message), unknown("Finished"), unknown("Succeeded")]
    };
    let findings = match sight {
        Sight::Row(row) => return bound(object, row, now),
        Sight::RowNotFound => {
            let message = format!("the table has no execution {:?} (yet)", object.spec.execution_id);
            unbound(Truth::False, "RowNotFound", message)
        }
        Sight::InvalidId(type_) => {
            let message = format!(
                "{:?} is no id of this table, whose ids are of type {}: delete this object and create one with a valid id",
                object.spec.execution_id,
                type_.sql()
            );
            unbound(Truth::False, "InvalidExecutionId", message)
        }
        Sight::StoreNotFound => {
            let message = format!("there is no ExecutionStore {store} in this namespace (yet)");
            unbound(Truth::False, "StoreNotFound", message)
        }
        Sight::StoreNotReady => {
            // The row does not change because it cannot be seen: keep what was known of it.
            let message =
                format!("the row cannot be seen at present: see the conditions of ExecutionStore {store}");
            let mut findings = unbound(Truth::Unknown, "StoreNotReady", message);
            findings.truncate(1);
            let mut conditions = settle(&before.conditions, findings, generation, now);
            conditions.extend(before.conditions.iter().filter(|c| c.type_ != "Bound").cloned());
            return JobExecutionStatus { conditions, ..before };
        }
    };
    JobExecutionStatus {
        observed_generation: generation,
        conditions: settle(&before.conditions, findings, generation, now),
        ..JobExecutionStatus::default()
    }
}

fn bound(object: &JobExecution, row: &Execution, now: DateTime<Utc>) -> JobExecutionStatus {
    let before = object.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    let reason = row.reason.clone();
    JobExecutionStatus {
        observed_generation: object.metadata.generation,
        phase: Some(row.phase),
        job_id: row.job_id.clone(),
        execution_number: row.number,
        started_at: row.started_at.map(time),
        completed_at: row.completed_at.map(time),
        deadline: row.deadline.map(time),
        timeout: Some(crate::api::duration::format(row.timeout)),
        timeout_source: Some(row.source.clone()),
        reason,
        conditions: settle(before, findings(object, row), object.metadata.generation, now),
    }
}

fn findings(object: &JobExecution, row: &Execution) -> Vec<Finding> {
    let status = format!("the row's status is {:?}", row.status);
    let phase = match row.phase {
        Phase::Scheduled => "Scheduled",
        Phase::Running => "Running",
        Phase::Completed => "Completed",
        Phase::Failed => "Failed",
        Phase::Cancelled => "Cancelled",
        Phase::Unmapped => "UnmappedStatus",
    };
    let why = match (row.phase, row.reason.as_deref()) {
        (Phase::Failed, Some(crate::db::sweep::DEADLINE_EXCEEDED)) => crate::db::sweep::DEADLINE_EXCEEDED,
        _ => phase,
    };
    let succeeded = match row.phase {
        Phase::Completed => Truth::True,
        Phase::Failed | Phase::Cancelled => Truth::False,
        Phase::Scheduled | Phase::Running | Phase::Unmapped => Truth::Unknown,
    };
    let outcome = match (why, row.deadline) {
        (crate::db::sweep::DEADLINE_EXCEEDED, Some(deadline)) => format!(
            "it was still running past its deadline {} and was failed by the operator; the timeout is from {}",
            deadline.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            row.source
        ),
        _ => status.clone(),
    };
    let finished = if row.phase == Phase::Unmapped { Truth::Unknown } else { row.phase.finished().into() };
    let id = &object.spec.execution_id;
    vec![
        Finding::new("Bound", true, "RowFound", format!("execution {id:?} is a row of the table")),
        Finding::new("Finished", finished, phase, status),
        Finding::new("Succeeded", succeeded, why, outcome),
    ]
}

/// What is worth an Event: an execution that was known to run has ended, or one has been failed by the operator.
pub(super) fn news(before: &JobExecutionStatus, after: &JobExecutionStatus) -> Vec<News> {
    let ours = after.reason.as_deref() == Some(crate::db::sweep::DEADLINE_EXCEEDED);
    let ended = before.phase.map_or(ours, |p| !p.finished()) && after.phase.is_some_and(Phase::finished);
    let Some(outcome) = find(&after.conditions, "Succeeded").filter(|_| ended) else { return Vec::new() };
    // The row's end names the fact: published twice, it stays one Event.
    let at = after.completed_at.as_ref().map_or(0, |t| t.0.as_second());
    vec![News {
        key: format!("finished-{at:x}"),
        warning: after.phase == Some(Phase::Failed),
        reason: outcome.reason.clone(),
        action: "Observe",
        note: outcome.message.clone(),
    }]
}

/// The status of an object that cannot be read.
pub(super) fn undecodable(error: &str, generation: Option<i64>, now: DateTime<Utc>) -> JobExecutionStatus {
    let message = format!("this object cannot be decoded: {error}. Correct it, or upgrade the operator");
    let findings = vec![Finding::new("Bound", false, "InvalidObject", message)];
    JobExecutionStatus {
        observed_generation: generation,
        conditions: settle(&[], findings, generation, now),
        ..JobExecutionStatus::default()
    }
}
