//! The store and the rules of a case, as users would write them and as the operator compiles them.

use jobexec_operator::api::retry::RetryMethod;
use jobexec_operator::api::{ExecutionStore, Limit, OnStale};
use jobexec_operator::rules::{
    ComputedTimeout, ExecutionOverride, HistoryTimeout, Policy, Retry, RuleSet, Sourced, StoreDefaults, Warn,
};
use serde_json::json;

use super::case::{self, Case};
use super::field::Ground;
use super::layout::SHAPES;
use super::model::STORE;

/// The store as users would write it.
pub(super) fn store(case: &Case, ground: &Ground) -> ExecutionStore {
    let layout = SHAPES[case.shape].layout(&ground.schema);
    let mut spec = json!({
        "connection": {"secretRef": {"name": "db"}},
        "table": layout.table,
        "defaultTimeout": written(case.timeout),
        "gracePeriod": format!("{:?}", case.grace),
    });
    if let Some(jobs) = layout.jobs {
        spec["jobs"] = json!(jobs);
    }
    if let Some(workers) = layout.heartbeat {
        spec["heartbeat"] = json!(workers);
    }
    if let Some(heartbeat) = case.heartbeat {
        spec["heartbeatTimeout"] = json!(written(heartbeat));
    }
    if let Some(grace) = case.single_active_execution {
        spec["singleActiveExecution"] = json!({"gracePeriod": format!("{grace:?}")});
    }
    ExecutionStore::new("s", serde_json::from_value(spec).unwrap())
}

/// A limit as users write it.
fn written(limit: Limit<case::Length>) -> String {
    limit.length().map_or("Never".to_owned(), |length| format!("{length:?}"))
}

fn chrono(limit: Limit<case::Length>) -> Limit<chrono::TimeDelta> {
    Limit::of(limit.length().map(case::Length::delta))
}

pub(super) fn compile(case: &Case) -> RuleSet {
    let shape = &SHAPES[case.shape];
    let base = StoreDefaults {
        timeout: Sourced::new(chrono(case.timeout), STORE),
        grace: Sourced::new(case.grace.delta(), STORE),
        heartbeat: case.heartbeat.map(|heartbeat| Sourced::new(chrono(heartbeat), STORE)),
        on_stale: Sourced::new(OnStale::Fail, STORE),
        retry: None,
        warn: Sourced::new(Warn::After(chrono::TimeDelta::hours(1)), STORE),
        overruled: Vec::new(),
        store: STORE.to_owned(),
    };
    let overrides = case
        .overrides
        .iter()
        .map(|custom| ExecutionOverride {
            name: custom.name.clone(),
            created: custom.created,
            key: shape.id(custom.row),
            timeout: custom.timeout.map(chrono),
            extend_by: custom.extend_by.map(case::Length::delta),
            by: None,
        })
        .collect();
    let policies = case.policies.iter().map(|policy| said(case, policy)).collect();
    jobexec_operator::rules::compile(base, overrides, policies)
}

fn retries(retry: &case::Retry) -> Retry {
    let spec = json!({
        "onReasons": retry.reasons,
        "after": "0s",
        "backoff": {"initial": "0s"},
        "otherwise": if retry.cancels { "Cancel" } else { "Fail" },
        "maxAttempts": if retry.exhausted { 1 } else { 3 },
    });
    Retry::of(&serde_json::from_value(spec).unwrap(), RetryMethod::InPlace)
}

fn said(case: &Case, policy: &case::Policy) -> Policy {
    let shape = &SHAPES[case.shape];
    let dynamic = policy.dynamic.as_ref().map(|dynamic| match dynamic {
        case::HistoryTimeout::Pending => HistoryTimeout::Pending,
        case::HistoryTimeout::Known { jobs, kinds } => {
            let jobs = jobs.iter().map(|(job, timeout)| ComputedTimeout {
                job: Some(shape.job(*job)),
                type_: case.kind_of_job(*job).map(|kind| shape.kind(kind)),
                timeout: timeout.delta(),
            });
            let kinds = kinds.iter().map(|(kind, timeout)| ComputedTimeout {
                job: None,
                type_: Some(shape.kind(*kind)),
                timeout: timeout.delta(),
            });
            HistoryTimeout::Known(jobs.chain(kinds).collect())
        }
    });
    let (jobs, kinds) = policy.named.clone().unwrap_or_default();
    Policy {
        name: policy.name.clone(),
        created: policy.created,
        jobs: jobs.into_iter().map(|job| shape.job(job)).collect(),
        types: kinds.into_iter().map(|kind| shape.kind(kind)).collect(),
        all: policy.named.is_none(),
        timeout: policy.timeout.map(chrono),
        grace: policy.grace.map(case::Length::delta),
        heartbeat: policy.heartbeat.map(chrono),
        on_stale: policy.on_stale,
        retry: policy.retry.as_ref().map(retries),
        warn: policy.warn.map(Warn::Percent),
        dynamic,
        notifies: false,
    }
}
