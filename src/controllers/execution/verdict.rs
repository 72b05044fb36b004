//! Decide: what is seen of a row means for the status of its object. Pure.

use chrono::{DateTime, Utc};
use kube::ResourceExt as _;

use crate::api::conditions::{Finding, Truth, find, settle, time};
use crate::api::{JobExecution, JobExecutionStatus, Phase};
use crate::controllers::events::News;
use crate::controllers::wishes::moved_at;
use crate::db::execution::Execution;
use crate::db::judge::Reason;
use crate::db::mapping::IdType;

/// The reason of `Accepted` where another object counts.
const CONFLICTED: &str = "Conflicted";

/// The reason of `LongRunning` when it is True.
const LONG_RUNNING: &str = "LongRunning";

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
    let ours = row
        .reason
        .as_deref()
        .and_then(Reason::parse)
        .filter(|_| matches!(row.phase, Phase::Failed | Phase::Cancelled));
    let succeeded = match row.phase {
        Phase::Completed => Truth::True,
        Phase::Failed | Phase::Cancelled => Truth::False,
        Phase::Scheduled | Phase::Running | Phase::Unmapped => Truth::Unknown,
    };
    let outcome = ours.map_or_else(|| status.clone(), |reason| ended(row, reason));
    let finished = if row.phase == Phase::Unmapped { Truth::Unknown } else { row.phase.finished().into() };
    let id = &object.spec.execution_id;
    let mut findings =
        vec![Finding::new("Bound", true, "RowFound", format!("execution {id:?} is a row of the table"))];
    findings.extend(accepted(object, row));
    findings.push(long_running(row));
    findings.push(Finding::new("Finished", finished, phase, status));
    findings.push(Finding::new("Succeeded", succeeded, ours.map_or(phase, Reason::as_str), outcome));
    findings
}

/// Why and how the operator ended it.
fn ended(row: &Execution, reason: Reason) -> String {
    let how = if row.phase == Phase::Cancelled { "cancelled" } else { "failed" };
    match (reason, row.deadline) {
        (Reason::DeadlineExceeded, Some(deadline)) => format!(
            "it was still running past its deadline {} and was {how} by the operator; the timeout is from {}",
            deadline.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            row.ended_by.as_ref().unwrap_or(&row.source)
        ),
        _ => format!("it was {} and was {how} by the operator", reason.explanation()),
    }
}

/// Whether what the spec asks for is in force, where it asks for anything.
fn accepted(object: &JobExecution, row: &Execution) -> Option<Finding> {
    const TYPE: &str = "Accepted";
    let spec = &object.spec;
    if spec.timeout.is_none() && spec.extend_by.is_none() {
        return None;
    }
    let before = object.status.clone().unwrap_or_default();
    if row.phase.finished() {
        let same = before.observed_generation == object.metadata.generation;
        let before = find(&before.conditions, TYPE).filter(|_| same);
        let conflicted = before.is_some_and(|c| c.reason == CONFLICTED);
        // When it was asked for is known to the second: what was asked for in the second of the end was in time if it
        // was seen to be in force.
        let seen = before.is_some_and(|c| c.status == "True");
        let late = row
            .completed_at
            .zip(moved_at(&object.metadata))
            .is_some_and(|(end, asked)| asked > end || (asked.timestamp() == end.timestamp() && !seen));
        return Some(match before {
            Some(before) if conflicted && !late => {
                Finding::new(TYPE, false, CONFLICTED, before.message.clone())
            }
            _ if late => Finding::new(
                TYPE,
                false,
                "ExecutionFinished",
                "the execution had ended before, so that timeout and extendBy have no effect",
            ),
            _ => in_force(),
        });
    }
    let own = crate::policy::execution_source(&object.name_any());
    let counts = (spec.timeout.is_none() || row.source == own)
        && (spec.extend_by.is_none() || row.extend_source.as_ref() == Some(&own));
    Some(if counts {
        in_force()
    } else {
        Finding::new(
            TYPE,
            false,
            CONFLICTED,
            format!(
                "an older JobExecution for the same row counts: {}. Change that one, or delete it",
                row.extend_source.as_ref().unwrap_or(&row.source)
            ),
        )
    })
}

fn in_force() -> Finding {
    Finding::new("Accepted", true, "InForce", "what the spec asks for is in force")
}

fn long_running(row: &Execution) -> Finding {
    const TYPE: &str = "LongRunning";
    if row.phase.finished() {
        Finding::new(TYPE, false, "Finished", "it has ended")
    } else if row.long_running {
        let message = format!("it has been running for longer than {} expects", row.warn_source);
        Finding::new(TYPE, true, LONG_RUNNING, message)
    } else {
        Finding::new(TYPE, false, "WithinLimits", "it has not been running for longer than expected")
    }
}

/// What is worth an Event: an execution that was known to run has ended, or one has been ended by the operator; and,
/// once, that it runs for long.
pub(super) fn news(before: &JobExecutionStatus, after: &JobExecutionStatus) -> Vec<News> {
    let mut news = Vec::new();
    let is_long = |status: &JobExecutionStatus| {
        find(&status.conditions, "LongRunning").filter(|c| c.status == "True").cloned()
    };
    if let Some(long) = is_long(after).filter(|_| is_long(before).is_none()) {
        let at = after.started_at.as_ref().map_or(0, |t| t.0.as_second());
        news.push(News {
            key: format!("long-running-{at:x}"),
            warning: true,
            reason: long.reason,
            action: "Observe",
            note: long.message,
        });
    }
    let ours = after.reason.as_deref().is_some_and(|reason| Reason::parse(reason).is_some());
    let ended = before.phase.map_or(ours, |p| !p.finished()) && after.phase.is_some_and(Phase::finished);
    if let Some(outcome) = find(&after.conditions, "Succeeded").filter(|_| ended) {
        // The row's end names the fact: published twice, it stays one Event.
        let at = after.completed_at.as_ref().map_or(0, |t| t.0.as_second());
        news.push(News {
            key: format!("finished-{at:x}"),
            warning: after.phase == Some(Phase::Failed) || ours,
            reason: outcome.reason.clone(),
            action: "Observe",
            note: outcome.message.clone(),
        });
    }
    news
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
