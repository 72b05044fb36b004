//! The metrics of policies: their names, and what to alert on.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::PolicyNow;
use super::exposition::Page;
use super::stores::TRUTHS;

impl PolicyNow {
    fn labels(&self) -> [(&'static str, &str); 3] {
        [("namespace", &self.namespace), ("policy", &self.name), ("store", &self.store)]
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}

/// Writes them.
pub(super) fn write(page: &mut Page<'_>, policies: &[PolicyNow]) -> fmt::Result {
    page.gauge(
        "jobexec_policy_condition",
        "1 for the status that a condition of the ExecutionPolicy has, 0 for the others. Alert on Accepted with \
         status=\"false\": something that it says is not in force.",
        policies.iter().flat_map(|policy| {
            policy.conditions().iter().flat_map(move |condition| {
                TRUTHS.map(|truth| {
                    let [namespace, name, store] = policy.labels();
                    let labels = [namespace, name, store, ("type", &condition.type_), ("status", truth)];
                    (labels, i64::from(condition.status.eq_ignore_ascii_case(truth)))
                })
            })
        }),
    )?;
    page.gauge(
        "jobexec_policy_governed_executions",
        "Running executions that have any part of what governs them from this policy.",
        policies
            .iter()
            .filter_map(|policy| Some((policy.labels(), policy.status.as_ref()?.governed_executions?))),
    )?;
    page.gauge(
        "jobexec_policy_dynamic_timeout_min_ratio",
        "The smallest timeout that the policy has from history, divided by the one that is configured: the policy's own, else \
         its store's. Alert when it is far below 1: healthy executions may be ended, or the configured one is far too long.",
        policies.iter().filter_map(|policy| Some((policy.labels(), policy.ratios?.0))),
    )?;
    page.gauge(
        "jobexec_policy_dynamic_timeout_max_ratio",
        "The largest timeout that the policy has from history, divided by the one that is configured. Alert when it is far above \
         1: dead executions are noticed late, or the configured one is far too short.",
        policies.iter().filter_map(|policy| Some((policy.labels(), policy.ratios?.1))),
    )
}
