//! `ExecutionPolicy`: the timeouts of executions and the action on stale ones.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::cel;
use super::execution::StoreRef;
use super::notifications::PolicyNotifications;
use super::retry::Retry;
use super::{Duration, Limit};

/// `ExecutionPolicy` sets the timeout of executions of a store, and the action to take when they become stale. For each
/// field, the most specific object that sets it takes precedence: the `JobExecution` of the execution, a policy that
/// selects its job, a policy that selects its job type, a policy that selects all executions, the store. Among equally
/// specific policies, the older one takes precedence, then the first by name.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "jobexec.dev",
    version = "v1alpha1",
    kind = "ExecutionPolicy",
    plural = "executionpolicies",
    namespaced,
    status = "ExecutionPolicyStatus",
    shortname = "expolicy",
    category = "jobexec",
    doc = "ExecutionPolicy sets the timeout of executions of a store, and the action to take when they become stale. For each field, the most specific object that sets it takes precedence: the JobExecution of the execution, a policy that selects its job, a policy that selects its job type, a policy that selects all executions, the store. Among equally specific policies, the older one takes precedence, then the first by name.",
    printcolumn(name = "Store", type_ = "string", json_path = ".spec.storeRef.name"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].status"
    ),
    printcolumn(name = "Timeout", type_ = "string", json_path = ".spec.timeout"),
    printcolumn(name = "On Stale", type_ = "string", json_path = ".spec.onStale"),
    printcolumn(
        name = "Governed",
        type_ = "integer",
        json_path = ".status.governedExecutions",
        description = "running executions for which this policy sets at least one field"
    ),
    printcolumn(
        name = "Computed",
        type_ = "integer",
        json_path = ".status.dynamicTimeouts.count",
        description = "timeouts computed from history"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "has(self.timeout) || has(self.gracePeriod) || has(self.heartbeatTimeout) || has(self.onStale) || has(self.retry) || has(self.warnAfter) || has(self.dynamicTimeout) || has(self.notifications)"
).message("the policy has no effect: set at least one of timeout, gracePeriod, heartbeatTimeout, onStale, retry, warnAfter, dynamicTimeout and notifications"))]
#[x_kube(validation = Rule::new(
    "!has(self.dynamicTimeout) || self.dynamicTimeout.per != 'JobType' || !has(self.selector) || !has(self.selector.jobIds) || size(self.selector.jobIds) == 0"
).message("dynamicTimeout.per JobType computes nothing for selector.jobIds: use per Job, or select by jobTypes in a policy of its own"))]
#[x_kube(validation = Rule::new(
    "!has(self.timeout) || self.timeout != 'Never' || has(self.dynamicTimeout) || !has(self.warnAfter) || !has(self.warnAfter.timeoutPercent)"
).message("warnAfter.timeoutPercent is a share of the timeout, and with timeout Never there is none: set warnAfter.duration"))]
pub struct ExecutionPolicySpec {
    /// The `ExecutionStore`, in the same namespace, whose executions the policy governs. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("storeRef is immutable: delete this object and create another"))]
    pub store_ref: StoreRef,
    /// The executions that the policy governs. An empty selector selects all executions of the store.
    #[serde(default)]
    pub selector: Selector,
    /// The maximum time an execution can run: more than 0, or `Never` for no deadline. With `dynamicTimeout`, this
    /// timeout applies while there are fewer than `dynamicTimeout.minSamples` completed executions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = cel::never_or_positive())]
    pub timeout: Option<Limit>,
    /// The time to add to the timeout, so that a commit in progress can complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period: Option<Duration>,
    /// The maximum time without a heartbeat, counted from the last heartbeat, or from the start of the execution if
    /// that is later: at least 1s, or `Never` if heartbeats do not count. Requires `table.columns.heartbeatAt`,
    /// `table.columns.checkpointAt` or `heartbeat` of the store. For an execution without any heartbeat, only the deadline applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = cel::never_or_at_least("1s"))]
    pub heartbeat_timeout: Option<Limit>,
    /// The action on a stale execution: `Fail`, `Cancel`, `Retry`, or `AlertOnly`, which does not change the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_stale: Option<OnStale>,
    /// For which reasons, how often and when an execution with `onStale: Retry` runs again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// The run time after which the operator warns, once per execution. If no policy sets it, `spec.longRunning.after`
    /// of the store applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn_after: Option<WarnAfter>,
    /// Computes the timeout from the durations of completed executions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynamic_timeout: Option<DynamicTimeout>,
    /// The channels to notify about these executions, instead of the channels of the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notifications: Option<PolicyNotifications>,
}

/// Selects executions by job id or job type. An execution is selected if either list matches. If both match, the more
/// specific `jobIds` determines the precedence of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// The ids of jobs to select, as text without control characters: at most 1000 ids of 1 to 253 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 253), regex(pattern = r"^\P{Cc}+$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub job_ids: Vec<String>,
    /// The job types to select, as stored in the mapped job type column, without control characters: at most 1000 types
    /// of 1 to 253 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 253), regex(pattern = r"^\P{Cc}+$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub job_types: Vec<String>,
}

/// The action on a stale execution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OnStale {
    /// Marks the execution as failed: writes the first text of `spec.table.statuses.failed`.
    #[default]
    Fail,
    /// Marks the execution as cancelled: writes the first text of `spec.table.statuses.cancelled`.
    Cancel,
    /// Has the execution run again, as `retry` says. Requires `spec.table.retry` of the store, or an adapter of a job system
    /// that limits attempts; otherwise the execution is failed.
    Retry,
    /// Reports the execution and does not change its row.
    AlertOnly,
}

impl OnStale {
    /// Returns the action as written in the spec.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "Fail",
            Self::Cancel => "Cancel",
            Self::Retry => "Retry",
            Self::AlertOnly => "AlertOnly",
        }
    }

    /// Returns the action with this text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Fail, Self::Cancel, Self::Retry, Self::AlertOnly]
            .into_iter()
            .find(|action| action.as_str() == text)
    }
}

/// The run time after which the operator warns about an execution. Set exactly one of `duration` and `timeoutPercent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.duration) != has(self.timeoutPercent)").message("set either duration or timeoutPercent"))]
pub struct WarnAfter {
    /// The run time: more than 0, or `Never` for no warning.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = cel::never_or_positive())]
    pub duration: Option<Limit>,
    /// The run time as a percentage of the execution's timeout: 1 to 99.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 99))]
    pub timeout_percent: Option<i32>,
}

/// A timeout computed from the durations of completed executions: their quantile, times a multiplier, limited by a
/// floor and a ceiling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = cel::ordered("floor", "ceiling"))]
pub struct DynamicTimeout {
    /// Whether to compute a timeout per job or per job type.
    #[serde(default)]
    pub per: Per,
    /// The quantile of the durations: more than 0 and less than 1. It is always one of the durations, without
    /// interpolation. A high quantile follows a job that becomes slower. The default 0.95 ignores one extremely long
    /// execution in twenty.
    #[serde(default = "defaults::quantile")]
    #[x_kube(validation = Rule::new("self > 0.0 && self < 1.0").message("must be more than 0 and less than 1"))]
    pub quantile: f64,
    /// The factor to multiply the quantile by: more than 0 and at most 1000.
    #[serde(default = "defaults::multiplier")]
    #[x_kube(validation = Rule::new("self > 0.0 && self <= 1000.0").message("must be more than 0 and at most 1000"))]
    pub multiplier: f64,
    /// The period before now in which an execution must have ended to be included: at least 1m.
    #[serde(default = "defaults::window")]
    #[x_kube(validation = cel::at_least("1m"))]
    pub window: Duration,
    /// The minimum number of completed executions: 1 to 100000. With fewer, the `timeout` of the policy applies.
    #[serde(default = "defaults::min_samples")]
    #[schemars(range(min = 1, max = 100_000))]
    pub min_samples: i32,
    /// The minimum of the computed timeout: more than 0.
    #[serde(default = "defaults::floor")]
    #[x_kube(validation = cel::positive())]
    pub floor: Duration,
    /// The maximum of the computed timeout. Must not be shorter than `floor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Duration>,
    /// The time between two computations: at least 1m.
    #[serde(default = "defaults::refresh_interval")]
    #[x_kube(validation = cel::at_least("1m"))]
    pub refresh_interval: Duration,
}

/// The unit for which a timeout is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Per {
    /// Computes one timeout per job.
    #[default]
    Job,
    /// Computes one timeout per job type.
    JobType,
}

mod defaults {
    use super::Duration;

    /// Parses a default, which a unit test shows to be valid.
    fn known(text: &str) -> Duration {
        text.parse().unwrap_or_else(|_| unreachable!("a default is a valid duration"))
    }

    /// The highest quantile that a single outlier among 20 executions, the default `minSamples`, does not change.
    pub(super) fn quantile() -> f64 {
        0.95
    }
    pub(super) fn multiplier() -> f64 {
        2.0
    }
    pub(super) fn window() -> Duration {
        known("720h")
    }
    pub(super) fn min_samples() -> i32 {
        20
    }
    pub(super) fn floor() -> Duration {
        known("1m")
    }
    pub(super) fn refresh_interval() -> Duration {
        known("1h")
    }
}

/// The last observed state of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionPolicyStatus {
    /// The generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The number of running executions for which this policy sets at least one field that takes precedence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub governed_executions: Option<i64>,
    /// The timeouts computed from completed executions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynamic_timeouts: Option<DynamicTimeouts>,
    /// The conditions of the policy: `Accepted` (False with reason `Overridden` if an equally specific policy that
    /// takes precedence sets the same field for the same executions, with `InvalidSelector` or with `NotSupported`;
    /// Unknown with `HistoryNotRead` until the operator has read the completed executions) and `StoreFound`.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// The timeouts computed from completed executions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DynamicTimeouts {
    /// The time of the computation, by the database's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub computed_at: Option<Time>,
    /// The number of computed timeouts.
    pub count: i64,
    /// The 20 longest computed timeouts, longest first.
    #[serde(default)]
    pub longest: Vec<ComputedTimeout>,
}

/// A timeout computed from completed executions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComputedTimeout {
    /// The job that the timeout applies to, if it was computed per job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// The job type that the timeout applies to, or the type of the job, if the store maps job types.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_type: Option<String>,
    /// The number of completed executions that the timeout was computed from.
    pub samples: i64,
    /// The quantile of their durations.
    pub quantile: String,
    /// The computed timeout.
    pub timeout: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid() {
        let dynamic: DynamicTimeout = serde_json::from_value(serde_json::json!({})).unwrap();
        assert_eq!((dynamic.quantile, dynamic.multiplier, dynamic.min_samples), (0.95, 2.0, 20));
        let texts = [dynamic.window, dynamic.floor, dynamic.refresh_interval].map(|d| d.to_string());
        assert_eq!(texts, ["720h", "1m", "1h"]);
    }
}
