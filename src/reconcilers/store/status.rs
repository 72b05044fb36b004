//! The status of a store, computed from the result of its reconcile. Pure.

mod consistency;
mod enforcement;
mod not_observed;
mod retries;

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use self::consistency::{consistent, violations};
use self::enforcement::paused;
use self::not_observed::unreachable_yet;
use super::adoption;
use super::reconciled::Reconciled;
use super::swept::Swept;
use crate::api::conditions::{ConditionStatus, ConditionType, DesiredCondition, find, set_conditions, time};
use crate::api::store::{LastSweep, Metrics};
use crate::api::{ExecutionStore, ExecutionStoreStatus, Limit};
use crate::db::Ledger;
use crate::db::identity;
use crate::db::observe::{RunningCounts, TableCounts};
use crate::db::staleness::evidence::{is_configured, stored};
use crate::kubernetes::guarded;
use crate::session::counts::HealthCounts;
use crate::session::handle::SyncStatus;
use crate::session::not_ready::NotReady;

/// The conditions of an object that cannot be used. The rest of its status stays.
pub fn unusable(refused: &guarded::Refused) -> Vec<Condition> {
    let cause = &refused.cause;
    let message = format!("{cause}. {}", cause.remedy());
    let ready = DesiredCondition::new(ConditionType::Ready, false, cause.reason(), message);
    set_conditions(&[], vec![ready], refused.metadata.generation, Utc::now())
}

/// The status of a store that another replica manages, with counts that were taken here.
pub fn with_counts(store: &ExecutionStore, counts: &HealthCounts) -> ExecutionStoreStatus {
    let mut status = store.status.clone().unwrap_or_default();
    let Some(live) = &counts.live else { return status };
    status.metrics = Some(metrics(live, counts, status.metrics.as_ref()));
    let healthy = set_conditions(
        &status.conditions,
        vec![healthy_by(store, live)],
        store.metadata.generation,
        Utc::now(),
    );
    status.conditions.retain(|condition| healthy.iter().all(|healthy| healthy.type_ != condition.type_));
    status.conditions.extend(healthy);
    status
}

/// Computes the status from the result of a reconcile of `store`, whose status is `before`.
pub(super) fn compute(
    store: &ExecutionStore,
    before: &ExecutionStoreStatus,
    result: &Reconciled,
    now: DateTime<Utc>,
) -> ExecutionStoreStatus {
    let desired = desired_conditions(store, result, before);
    let before = before.clone();
    let complete = result.complete();
    ExecutionStoreStatus {
        observed_generation: store.metadata.generation,
        observed_sweep_request: result.answered.sweep.clone().or(before.observed_sweep_request),
        observed_resume: result.answered.resume.clone().or(before.observed_resume),
        observed_adopt: result.answered.adopt.clone().or(before.observed_adopt),
        // If counts could not be taken, the last ones stay: their timestamp shows their age.
        metrics: match complete.and_then(|complete| complete.counts.live.as_ref().zip(Some(&complete.counts)))
        {
            Some((live, counts)) => Some(metrics(live, counts, before.metrics.as_ref())),
            None => before.metrics,
        },
        execution_objects: result
            .sync_status
            .as_ref()
            .map(|sync_status| sync_status.status)
            .or(before.execution_objects),
        violations: complete
            .and_then(|complete| complete.counts.contradictions.as_ref())
            .map(violations)
            .or(before.violations),
        last_sweep: match complete
            .and_then(|complete| complete.sweep.as_ref().zip(Some(complete.pulse.stale)))
        {
            Some((swept, remaining)) => Some(last_sweep(swept, remaining)),
            None => before.last_sweep,
        },
        retries: match complete {
            Some(complete) => complete.retries.as_ref().map(|pending| retries::counts(pending, result)),
            None => before.retries,
        },
        conditions: set_conditions(&before.conditions, desired, store.metadata.generation, now),
    }
}

fn desired_conditions(
    store: &ExecutionStore,
    result: &Reconciled,
    before: &ExecutionStoreStatus,
) -> Vec<DesiredCondition> {
    let reachable = reachable(result);
    let valid = valid(result);
    let paused = paused(store, result);
    let recording = adoption::amend(recording(result), result);
    let ready = ready(result, &[&reachable, &valid], &paused);
    let healthy = healthy(store, result, before);
    let consistent = consistent(result, before);
    let mut all = vec![ready, reachable, valid, healthy, paused, recording, consistent];
    let spec = &store.spec;
    all.extend(spec.execution_objects.enabled.then(|| sync_status(result)));
    all.extend(notifying(store, result, before));
    all.extend(retries::retries(result));
    all.extend(is_configured(spec).then(|| evidence(store, result)));
    all
}

/// The condition that `JobExecution` objects are in sync with the rows.
fn sync_status(result: &Reconciled) -> DesiredCondition {
    const TYPE: ConditionType = ConditionType::ObjectsSynced;
    match &result.sync_status {
        None => unreachable_yet(TYPE),
        Some(SyncStatus { trouble: Some((reason, why)), .. }) => {
            DesiredCondition::new(TYPE, false, reason, why.clone())
        }
        Some(SyncStatus { status, .. }) if status.executions_without_object > 0 => DesiredCondition::new(
            TYPE,
            true,
            "LimitReached",
            "the stale and the longest-running executions have JobExecution objects, status.executionObjects.executionsWithoutObject counts the \
             others: see spec.executionObjects.limit",
        ),
        Some(_) => {
            DesiredCondition::new(TYPE, true, "Synced", "running executions have JobExecution objects")
        }
    }
}

/// The condition that notifications are delivered, if any channel is configured.
fn notifying(
    store: &ExecutionStore,
    result: &Reconciled,
    before: &ExecutionStoreStatus,
) -> Option<DesiredCondition> {
    const TYPE: ConditionType = ConditionType::NotificationsDelivered;
    if let Some(report) = result.complete().and_then(|complete| complete.notifying.as_ref()) {
        return Some(DesiredCondition::new(TYPE, report.well, report.reason, report.message.clone()));
    }
    // If only policies have channels, that is not known yet.
    let wanted = store.spec.notifications.as_ref().is_some_and(|n| !n.channels.is_empty())
        || find(&before.conditions, TYPE).is_some();
    (wanted && result.complete().is_none()).then(|| unreachable_yet(TYPE))
}

/// The condition that evidence other than deadlines counts, if the store has any.
fn evidence(store: &ExecutionStore, result: &Reconciled) -> DesiredCondition {
    const TYPE: ConditionType = ConditionType::EvidenceAvailable;
    match (&result.unavailable, result.complete()) {
        (Some((reason, why)), _) => {
            let message = format!("not all evidence counts at present, deadlines do: {why}");
            DesiredCondition::new(TYPE, false, reason, message)
        }
        (None, Some(_)) => match unkept(store, result) {
            Some(kinds) => DesiredCondition::new(
                TYPE,
                false,
                "TablesMissing",
                format!(
                    "deadlines count, and {kinds} do not: what is seen of them must be kept in the operator's own tables, which are \
                     not there or not readable. Run `jobexec schema --apply`; the condition AuditAvailable says more"
                ),
            ),
            None => DesiredCondition::new(TYPE, true, "Available", "all evidence counts"),
        },
        (None, None) => unreachable_yet(TYPE),
    }
}

/// The configured evidence that needs the operator's own tables, if they are missing.
fn unkept(store: &ExecutionStore, result: &Reconciled) -> Option<String> {
    let session = result.session()?;
    let kinds = stored(&store.spec);
    let missing = matches!(session.ledger, Ledger::Missing(_)) && !kinds.is_empty();
    missing.then(|| kinds.join(" and "))
}

/// The summary: rows are read, and changed unless the spec pauses that.
fn ready(result: &Reconciled, needed: &[&DesiredCondition], paused: &DesiredCondition) -> DesiredCondition {
    if let Err(NotReady::TableClaimed(_) | NotReady::Internal) = &result.session
        && let Err(why) = &result.session
    {
        return DesiredCondition::new(ConditionType::Ready, false, why.reason(), why.to_string());
    }
    if let Some(bad) = needed.iter().find(|condition| condition.status != ConditionStatus::True) {
        return DesiredCondition::new(ConditionType::Ready, false, bad.reason, bad.message.clone());
    }
    match (paused.status, paused.reason) {
        (ConditionStatus::True, "Observing") => {
            DesiredCondition::new(ConditionType::Ready, true, "Observing", paused.message.clone())
        }
        (ConditionStatus::True, reason) => {
            DesiredCondition::new(ConditionType::Ready, false, reason, paused.message.clone())
        }
        _ => DesiredCondition::new(ConditionType::Ready, true, "Enforcing", "stale executions are ended"),
    }
}

fn reachable(result: &Reconciled) -> DesiredCondition {
    const TYPE: ConditionType = ConditionType::DatabaseReachable;
    match (&result.session, result.error()) {
        (Err(why @ (NotReady::Secret(_) | NotReady::Url(..) | NotReady::Database(_))), _) => {
            DesiredCondition::new(TYPE, false, why.reason(), why.to_string())
        }
        // An internal error says nothing about the database.
        (Err(NotReady::Internal), _) => unreachable_yet(TYPE),
        (_, Some(error)) if !error.answered() => {
            DesiredCondition::new(TYPE, false, error.reason(), error.to_string())
        }
        _ => DesiredCondition::new(TYPE, true, "Connected", "the database answers"),
    }
}

fn valid(result: &Reconciled) -> DesiredCondition {
    const TYPE: ConditionType = ConditionType::SchemaValid;
    match &result.session {
        Err(NotReady::Table(problem)) => {
            DesiredCondition::new(TYPE, false, problem.reason(), problem.to_string())
        }
        Err(NotReady::TableClaimed(_)) => {
            DesiredCondition::new(TYPE, true, "Valid", "the table fits the spec")
        }
        Err(_) => unreachable_yet(TYPE),
        Ok(connected) => match &connected.session.unwritable {
            Some(problem) => DesiredCondition::new(TYPE, false, problem.reason(), problem.to_string()),
            None => DesiredCondition::new(TYPE, true, "Valid", "the table fits the spec"),
        },
    }
}

fn recording(result: &Reconciled) -> DesiredCondition {
    const TYPE: ConditionType = ConditionType::AuditAvailable;
    if let Some(fault) = result.session().and_then(|session| session.fault()) {
        let message =
            format!("executions are ended all the same, and that is not recorded in the database: {fault}");
        return DesiredCondition::new(TYPE, false, fault.reason(), message);
    }
    match result.session.as_ref().map(|connected| (&connected.session.ledger, &connected.session.refused)) {
        Ok((Ledger::Tables { .. }, _)) => {
            match &result.session().and_then(|session| session.left.as_ref().map(ToString::to_string)) {
                Some(left) => DesiredCondition::new(TYPE, false, identity::LEFT, left.clone()),
                None => DesiredCondition::new(
                    TYPE,
                    true,
                    "TablesPresent",
                    "what is done is recorded in the schema jobexec",
                ),
            }
        }
        Ok((Ledger::Missing(why), refused)) => {
            let reason = refused.as_ref().map_or("TablesMissing", |refusal| refusal.reason);
            DesiredCondition::new(TYPE, false, reason, format!("nothing is recorded in the database: {why}"))
        }
        Err(_) => unreachable_yet(TYPE),
    }
}

fn healthy(store: &ExecutionStore, result: &Reconciled, before: &ExecutionStoreStatus) -> DesiredCondition {
    const TYPE: ConditionType = ConditionType::Healthy;
    let Some(live) = result.complete().and_then(|complete| complete.counts.live.as_ref()) else {
        // Pending counts do not turn a known condition into `Unknown`.
        return match find(&before.conditions, TYPE).filter(|_| result.complete().is_some()) {
            Some(Condition { status, message, .. }) if status == "True" => {
                DesiredCondition::new(TYPE, true, "WithinLimits", message.clone())
            }
            Some(Condition { status, message, .. }) if status == "False" => {
                DesiredCondition::new(TYPE, false, "LongRunningExecutions", message.clone())
            }
            _ => unreachable_yet(TYPE),
        };
    };
    healthy_by(store, live)
}

fn healthy_by(store: &ExecutionStore, live: &RunningCounts) -> DesiredCondition {
    const TYPE: ConditionType = ConditionType::Healthy;
    let limit = &store.spec.long_running;
    let expected = match &limit.after {
        Limit::After(after) => format!("{after}, or than a policy expects"),
        Limit::Never => "a policy expects".to_owned(),
    };
    let message = format!(
        "{} executions have been running for longer than {expected}, and up to {} may",
        live.long_running, limit.threshold
    );
    if live.long_running > i64::from(limit.threshold) {
        DesiredCondition::new(TYPE, false, "LongRunningExecutions", message)
    } else {
        DesiredCondition::new(TYPE, true, "WithinLimits", message)
    }
}

/// The metrics of the status. Counts that could not be taken this time keep their last values.
fn metrics(live: &RunningCounts, counts: &HealthCounts, before: Option<&Metrics>) -> Metrics {
    let census = counts.census.unwrap_or(TableCounts {
        scheduled: before.map_or(0, |m| m.scheduled_executions),
        recent: before.map_or(0, |m| m.recent_executions_24h),
        last_hour: 0,
    });
    Metrics {
        running_executions: live.running,
        scheduled_executions: census.scheduled,
        long_running_executions: live.long_running,
        stale_executions: live.stale,
        recent_executions_24h: census.recent,
        oldest_running_started_at: live.oldest.map(time),
        refused_transitions: counts.refused,
        timestamp: Some(time(live.now)),
    }
}

fn last_sweep(swept: &Swept, remaining: i64) -> LastSweep {
    LastSweep {
        trigger: swept.sweep.trigger.to_string(),
        started_at: time(swept.started_at),
        duration: format!("{}ms", swept.took.as_millis()),
        failed: i64::try_from(swept.ended).unwrap_or(i64::MAX),
        remaining,
    }
}
