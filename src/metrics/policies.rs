//! Metrics of policies: names, help texts, and advice on alerts.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::page::Page;
use super::snapshot::PolicyNow;
use super::stores::STATUSES;

impl PolicyNow {
    fn labels(&self) -> [(&'static str, &str); 3] {
        [("namespace", &self.namespace), ("policy", &self.name), ("store", &self.store)]
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}

/// Writes the metrics.
pub(super) fn write(page: &mut Page<'_>, policies: &[PolicyNow]) -> fmt::Result {
    page.gauge(
        "jobexec_policy_condition",
        "1 for the current status of a condition of the ExecutionPolicy, 0 for the others. Alert on Accepted with \
         status=\"false\": part of its spec is not in effect.",
        policies.iter().flat_map(|policy| {
            policy.conditions().iter().flat_map(move |condition| {
                STATUSES.map(|status| {
                    let [namespace, name, store] = policy.labels();
                    let labels = [namespace, name, store, ("type", &condition.type_), ("status", status)];
                    (labels, i64::from(condition.status.eq_ignore_ascii_case(status)))
                })
            })
        }),
    )?;
    page.gauge(
        "jobexec_policy_governed_executions",
        "Running executions governed by this policy, at least in part.",
        policies
            .iter()
            .filter_map(|policy| Some((policy.labels(), policy.status.as_ref()?.governed_executions?))),
    )?;
    page.gauge(
        "jobexec_policy_dynamic_timeout_min_ratio",
        "The policy's smallest timeout from history, divided by the configured one: the policy's own, else its store's. Alert \
         if it is far below 1: healthy executions may be ended, or the configured timeout is far too long.",
        policies.iter().filter_map(|policy| Some((policy.labels(), policy.ratios?.0))),
    )?;
    page.gauge(
        "jobexec_policy_dynamic_timeout_max_ratio",
        "The policy's largest timeout from history, divided by the configured one. Alert if it is far above 1: dead executions \
         are detected late, or the configured timeout is far too short.",
        policies.iter().filter_map(|policy| Some((policy.labels(), policy.ratios?.1))),
    )
}
