//! Decide: computes the status of a policy from its state in the store. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::conditions::{ConditionStatus, ConditionType, DesiredCondition, set_conditions, time};
use crate::api::duration::format;
use crate::api::policy::{ComputedTimeout, DynamicTimeouts};
use crate::api::{ExecutionPolicy, ExecutionPolicyStatus};
use crate::boundary;
use crate::db::history::Figures;
use crate::kubernetes::guarded::Cause;
use crate::rules::Conflict;
use crate::runtime::overrides::Problem;

/// The most computed timeouts that a status shows.
const SHOWN: usize = 20;

/// The state of a policy.
#[derive(Clone, Debug)]
pub(super) enum PolicyState {
    /// No such store (yet).
    StoreNotFound,
    /// The store is not ready; its own conditions say why.
    StoreNotReady,
    /// A panic ended the work on it.
    Internal,
    /// The state of the policy in its store.
    Standing(Box<Standing>),
}

/// The state of a policy in its store.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) problems: Vec<Problem>,
    pub(super) conflicts: Vec<Conflict>,
    /// The number of running executions that it governs, if they have been counted.
    pub(super) governed: Option<i64>,
    /// True if it computes timeouts from history, and there is no result yet for its latest spec.
    pub(super) pending: bool,
    /// The timeouts that were computed for it.
    pub(super) history: Option<Figures>,
    pub(super) look_again: Duration,
}

/// Computes the status.
pub(super) fn compute(
    object: &ExecutionPolicy,
    sight: &PolicyState,
    now: DateTime<Utc>,
) -> ExecutionPolicyStatus {
    let before = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    let store = &object.spec.store_ref.name;
    let found = |truth: bool, reason, message| {
        DesiredCondition::new(ConditionType::StoreFound, truth, reason, message)
    };
    let there = || found(true, "StoreFound", format!("it governs executions of ExecutionStore {store}"));
    let (findings, governed, history) = match sight {
        PolicyState::StoreNotFound => {
            let message = format!("there is no ExecutionStore {store} in this namespace (yet)");
            let accepted = DesiredCondition::new(
                ConditionType::Accepted,
                ConditionStatus::Unknown,
                "StoreNotFound",
                message.clone(),
            );
            (vec![accepted, found(false, "StoreNotFound", message)], None, None)
        }
        PolicyState::StoreNotReady => {
            let message = format!("see the conditions of ExecutionStore {store}");
            let accepted = DesiredCondition::new(
                ConditionType::Accepted,
                ConditionStatus::Unknown,
                "StoreNotReady",
                message,
            );
            (vec![accepted, there()], before.governed_executions, before.dynamic_timeouts)
        }
        PolicyState::Internal => {
            let accepted = DesiredCondition::new(
                ConditionType::Accepted,
                ConditionStatus::Unknown,
                boundary::REASON,
                boundary::MESSAGE.to_owned(),
            );
            (vec![accepted, there()], before.governed_executions, before.dynamic_timeouts)
        }
        PolicyState::Standing(standing) => (
            vec![accepted(standing), there()],
            standing.governed.or(before.governed_executions),
            standing.history.as_ref().map(dynamic),
        ),
    };
    ExecutionPolicyStatus {
        observed_generation: generation,
        governed_executions: governed,
        dynamic_timeouts: history,
        conditions: set_conditions(&before.conditions, findings, generation, now),
    }
}

fn accepted(standing: &Standing) -> DesiredCondition {
    const TYPE: ConditionType = ConditionType::Accepted;
    let problems = standing.problems.iter().map(ToString::to_string);
    let conflicts = standing.conflicts.iter().map(conflict);
    let told: Vec<String> = problems.chain(conflicts).collect();
    let reason = match (standing.problems.first(), standing.conflicts.first()) {
        (Some(problem), _) => problem.reason(),
        (None, Some(_)) => "Overridden",
        (None, None) if standing.pending => {
            return DesiredCondition::new(
                TYPE,
                ConditionStatus::Unknown,
                "HistoryNotRead",
                "history was not read yet for what it says now: until then dynamicTimeout is as it was before. Without an \
                 earlier result only timeout Never applies, and no other timeout of this policy. If this does not pass, see the operator's log, and \
                 create the index on the end that `jobexec schema` prints",
            );
        }
        (None, None) => {
            return DesiredCondition::new(TYPE, true, "InForce", "all that it says is in force");
        }
    };
    DesiredCondition::new(
        TYPE,
        false,
        reason,
        format!("{}. All else that it says is in force", told.join("; ")),
    )
}

fn conflict(conflict: &Conflict) -> String {
    let Conflict { field, winner, example, count } = conflict;
    let whom = match example {
        None => "all executions".to_owned(),
        Some(example) if *count == 1 => format!("{example:?}"),
        Some(example) => format!("{count} jobs or types, for example {example:?}"),
    };
    format!("ExecutionPolicy {winner} is older and of the same rank, so its {field} counts for {whom}")
}

fn dynamic(figures: &Figures) -> DynamicTimeouts {
    let mut longest: Vec<_> = figures.computed.iter().collect();
    longest.sort_by(|a, b| {
        b.timeout.total_cmp(&a.timeout).then_with(|| (&a.job_id, &a.job_type).cmp(&(&b.job_id, &b.job_type)))
    });
    let shown = |computed: &crate::db::history::Computed| ComputedTimeout {
        job_id: computed.job_id.clone(),
        job_type: computed.job_type.clone(),
        samples: computed.samples,
        quantile: format(computed.quantile()),
        timeout: format(computed.timeout()),
    };
    DynamicTimeouts {
        computed_at: Some(time(figures.computed_at)),
        count: i64::try_from(figures.computed.len()).unwrap_or(i64::MAX),
        longest: longest.into_iter().take(SHOWN).map(shown).collect(),
    }
}

/// The conditions of an object that cannot be used. The rest of its status stays.
pub fn refused(cause: &Cause, generation: Option<i64>, now: DateTime<Utc>) -> Vec<Condition> {
    let message = format!("{cause}. What it said before stays in force. {}", cause.remedy());
    let findings = vec![DesiredCondition::new(ConditionType::Accepted, false, cause.reason(), message)];
    set_conditions(&[], findings, generation, now)
}
