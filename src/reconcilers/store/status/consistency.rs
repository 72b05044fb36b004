//! The condition `Consistent`, and the counts of rows that contradict themselves.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::not_observed::unreachable_yet;
use crate::api::ExecutionStoreStatus;
use crate::api::conditions::{ConditionType, DesiredCondition, find};
use crate::api::store::Violations;
use crate::db::mapping::ID_BYTES;
use crate::db::observe::{IntegrityViolations, RunningCounts};
use crate::db::staleness::Suspicion;
use crate::reconcilers::store::reconciled::Reconciled;

pub(super) fn consistent(result: &Reconciled, before: &ExecutionStoreStatus) -> DesiredCondition {
    const TYPE: ConditionType = ConditionType::Consistent;
    let counts = result.complete().map(|complete| &complete.counts);
    let pair = counts.and_then(|counts| counts.live.as_ref()).and_then(running_of_finished_jobs);
    let Some(found) = counts.and_then(|counts| counts.contradictions.as_ref()) else {
        // An unreachable database does not turn a known condition into `Unknown`.
        return match (pair, find(&before.conditions, TYPE)) {
            (Some((reason, pair)), _) => DesiredCondition::new(TYPE, false, reason, pair),
            (None, Some(Condition { status, .. })) if status == "False" => {
                let message = "rows contradicted themselves when the table was last read".to_owned();
                DesiredCondition::new(TYPE, false, "Violations", message)
            }
            (None, _) => unreachable_yet(TYPE),
        };
    };
    let versions = result.session().is_none_or(|session| session.mapping.version().is_some());
    let mut kinds = Vec::from(contradictions(found, versions));
    kinds.retain(|(count, ..)| *count > 0);
    let Some((_, first, _)) = kinds.first() else {
        return match pair {
            Some((reason, pair)) => DesiredCondition::new(TYPE, false, reason, pair),
            None => DesiredCondition::new(TYPE, true, "NoViolations", "no row contradicts itself"),
        };
    };
    let parts: Vec<String> = kinds.iter().map(|(count, _, what)| format!("{count} {what}")).collect();
    let pair = pair.map_or(String::new(), |(_, pair)| format!("; {pair}"));
    let message = format!("executions that contradict themselves: {}{pair}", parts.join("; "));
    DesiredCondition::new(TYPE, false, first, message)
}

/// The kinds of contradictions, each with its count, reason and message. `versions`: the mapping can distinguish versions
/// of a row.
fn contradictions(found: &IntegrityViolations, versions: bool) -> [(i64, &'static str, String); 9] {
    let example = found.example.as_deref().unwrap_or_default();
    let unmapped = format!("with a status that spec.table.statuses does not list, for example {example:?}");
    [
        (found.unmapped, "UnmappedStatus", unmapped),
        (
            found.running_without_start,
            "RunningWithoutStartedAt",
            if versions {
                "running without a start time, which count from when they were first seen running in the present version of their row: \
                 one that is written again counts again"
                    .to_owned()
            } else {
                "running without a start time, which are never past a deadline, since this login may not see whether a row was \
                 claimed again: as the table's owner GRANT SELECT (xmin) on it, as `jobexec schema --role` does"
                    .to_owned()
            },
        ),
        (found.finished_without_end, "FinishedWithoutCompletedAt", "finished without an end time".to_owned()),
        (found.ended_before_start, "CompletedBeforeStarted", "that ended before they started".to_owned()),
        (found.running_with_end, "RunningWithCompletedAt", "running with an end time".to_owned()),
        (found.start_in_future, "StartedInFuture", "running that start in the future".to_owned()),
        (
            found.started_before_created,
            "StartedBeforeCreated",
            "running that started before they were created, which count from then: do those who write both use one clock and \
             time zone?"
                .to_owned(),
        ),
        (
            found.started_again,
            "StartedAgain",
            "that were run again within a day and kept the start of a run that had ended, so that they are past their deadline at \
             once: what runs an execution again has to set its start"
                .to_owned(),
        ),
        (
            found.id_too_long,
            "IdTooLong",
            format!("with an id of more than {ID_BYTES} bytes, which are left alone and never ended"),
        ),
    ]
}

/// The reason and the message for executions that contradict their jobs or workloads.
fn running_of_finished_jobs(live: &RunningCounts) -> Option<(&'static str, String)> {
    let jobs = running_of_finished_job(live).into_iter().chain(suspected(live));
    let jobs = jobs.map(|text| (Suspicion::JobFinished.as_str(), text));
    let again = recreated(live).map(|text| (Suspicion::WorkloadRecreated.as_str(), text));
    let told: Vec<_> = jobs.chain(again).collect();
    let texts: Vec<&str> = told.iter().map(|(_, text)| text.as_str()).collect();
    Some((told.first()?.0, texts.join("; ")))
}

/// The message for executions whose workload was created again, which is only reported.
fn recreated(live: &RunningCounts) -> Option<String> {
    let (execution, job) = live.recreated.pair.as_ref()?;
    let more = match live.recreated.count {
        ..2 => String::new(),
        count => format!(", and {} more like it", count - 1),
    };
    Some(format!(
        "execution {execution} of job {job} runs{more}, while another Job or Pod has the name of the one that ran it: it may go \
         on with the work, so nothing is ended for it. What is dead: `jobexec cleanup --reason WorkloadRecreated`; with \
         spec.workloads.recreated: Gone it counts as WorkloadGone"
    ))
}

/// The message for suspects, which are not ended until somebody confirms them.
fn suspected(live: &RunningCounts) -> Option<String> {
    let (execution, job) = live.suspects.pair.as_ref()?;
    let more = match live.suspects.count {
        ..2 => String::new(),
        count => format!(", and {} more like it", count - 1),
    };
    Some(format!(
        "execution {execution} runs while its job {job} is finished{more}: the operator has not seen the job finish while \
         the execution ran, so that it may be the end of an earlier run, and nothing is ended for it. What is dead: \
         `jobexec cleanup --reason JobFinished`; with spec.jobs.columns.finishedAt the operator knows by itself"
    ))
}

/// The message for executions that run although their job is finished.
fn running_of_finished_job(live: &RunningCounts) -> Option<String> {
    let (execution, job) = live.pair.as_ref()?;
    let more = match live.of_finished_jobs {
        ..2 => String::new(),
        count => format!(", and {} more like it", count - 1),
    };
    Some(format!("execution {execution} runs while its job {job} is finished{more}"))
}

pub(super) fn violations(found: &IntegrityViolations) -> Violations {
    Violations {
        unmapped_status: found.unmapped,
        running_without_started_at: found.running_without_start,
        finished_without_completed_at: found.finished_without_end,
        completed_before_started: found.ended_before_start,
        running_with_completed_at: found.running_with_end,
        started_in_future: found.start_in_future,
        started_before_created: found.started_before_created,
        started_again: found.started_again,
        id_too_long: found.id_too_long,
    }
}
