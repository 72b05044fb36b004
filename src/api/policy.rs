//! `ExecutionPolicy`: which timeout governs which executions, and what happens then.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;
use super::execution::StoreRef;
use super::notifications::PolicyNotifications;

/// Gives executions of a store their timeout and says what follows from it. The most specific one counts, field by
/// field: the `JobExecution` of an execution, a policy that names its job, one that names its job type, one for all,
/// the store. Among equals the older counts, then the one whose name comes first.
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
    doc = "Gives executions of a store their timeout and says what follows from it. The most specific one counts, field by field: the JobExecution of an execution, a policy that names its job, one that names its job type, one for all, the store. Among equals the older counts, then the one whose name comes first.",
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
        description = "running executions that it says something of"
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
    "has(self.timeout) || has(self.gracePeriod) || has(self.heartbeatTimeout) || has(self.onStale) || has(self.warnAfter) || has(self.dynamicTimeout) || has(self.notifications)"
).message("the policy says nothing: set at least one of timeout, gracePeriod, heartbeatTimeout, onStale, warnAfter, dynamicTimeout and notifications"))]
#[x_kube(validation = Rule::new(
    "!has(self.dynamicTimeout) || self.dynamicTimeout.per != 'JobType' || !has(self.selector) || !has(self.selector.jobIds) || size(self.selector.jobIds) == 0"
).message("dynamicTimeout.per JobType computes nothing for selector.jobIds: use per Job, or select by jobTypes in a policy of its own"))]
pub struct ExecutionPolicySpec {
    /// The store whose executions it governs, in the same namespace. It cannot be changed.
    #[x_kube(validation = Rule::new("self == oldSelf").message("storeRef is immutable: delete this object and create another"))]
    pub store_ref: StoreRef,
    /// Which executions it governs; all of the store, where nothing is named.
    #[serde(default)]
    pub selector: Selector,
    /// How long they may run: more than 0. With `dynamicTimeout`, how long while there is too little history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s')").message("must be longer than 0"))]
    pub timeout: Option<Duration>,
    /// Time that is added to the timeout, for a commit that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period: Option<Duration>,
    /// How long they may go without a heartbeat after their start, where the store maps `heartbeatAt`: at least 1s. An
    /// execution without any heartbeat has only its deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s')").message("must be at least 1s"))]
    pub heartbeat_timeout: Option<Duration>,
    /// What becomes of a stale execution: `Fail`, `Cancel`, or `AlertOnly`, which changes no row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_stale: Option<OnStale>,
    /// When to warn, once for each execution; `spec.longRunning.after` of the store where no policy says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn_after: Option<WarnAfter>,
    /// A timeout that follows from how long completed executions took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynamic_timeout: Option<DynamicTimeout>,
    /// Whom to tell of these executions, instead of the channels of the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notifications: Option<PolicyNotifications>,
}

/// Names executions. One that is named by either list is selected; for a job that is named the first list counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// The ids of jobs, as text without control characters: at most 1000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 253), regex(pattern = r"^\P{Cc}+$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub job_ids: Vec<String>,
    /// Job types, as the mapped column `jobType` has them, without control characters: at most 1000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 253), regex(pattern = r"^\P{Cc}+$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub job_types: Vec<String>,
}

/// What becomes of a stale execution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OnStale {
    /// It is failed.
    #[default]
    Fail,
    /// It is cancelled: the first text of `spec.table.statuses.cancelled` is written.
    Cancel,
    /// It is reported, and runs on.
    AlertOnly,
}

impl OnStale {
    /// As the spec has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "Fail",
            Self::Cancel => "Cancel",
            Self::AlertOnly => "AlertOnly",
        }
    }
}

/// When to warn of an execution: one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.duration) != has(self.timeoutPercent)").message("set either duration or timeoutPercent"))]
pub struct WarnAfter {
    /// After it has run for so long: more than 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s')").message("must be longer than 0"))]
    pub duration: Option<Duration>,
    /// After it has used up so much of its timeout, in percent: 1 to 99.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 99))]
    pub timeout_percent: Option<i32>,
}

/// A timeout that follows from history: a quantile of the durations of completed executions, times a multiplier,
/// between a floor and a ceiling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.ceiling) || duration(self.floor) <= duration(self.ceiling)").message("floor must not be longer than ceiling"))]
pub struct DynamicTimeout {
    /// Whether each job has a timeout of its own, or each job type.
    #[serde(default)]
    pub per: Per,
    /// Which quantile of the durations: more than 0 and less than 1. It is one of them, without interpolation. A high one
    /// follows a job that becomes slower; with 0.95, one in twenty that ran for ever does not count.
    #[serde(default = "defaults::quantile")]
    #[x_kube(validation = Rule::new("self > 0.0 && self < 1.0").message("must be more than 0 and less than 1"))]
    pub quantile: f64,
    /// By what the quantile is multiplied: more than 0, at most 1000.
    #[serde(default = "defaults::multiplier")]
    #[x_kube(validation = Rule::new("self > 0.0 && self <= 1000.0").message("must be more than 0 and at most 1000"))]
    pub multiplier: f64,
    /// How far back executions count, by their end: at least 1m.
    #[serde(default = "defaults::window")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m')").message("must be at least 1m"))]
    pub window: Duration,
    /// With fewer completed executions than this the timeout is the policy's `timeout`: 1 to 100000.
    #[serde(default = "defaults::min_samples")]
    #[schemars(range(min = 1, max = 100_000))]
    pub min_samples: i32,
    /// The result is at least this long: more than 0.
    #[serde(default = "defaults::floor")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s')").message("must be longer than 0"))]
    pub floor: Duration,
    /// The result is at most this long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Duration>,
    /// How often it is computed anew: at least 1m.
    #[serde(default = "defaults::refresh_interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m')").message("must be at least 1m"))]
    pub refresh_interval: Duration,
}

/// What has a timeout of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Per {
    /// Each job.
    #[default]
    Job,
    /// Each job type.
    JobType,
}

mod defaults {
    use super::Duration;

    /// A duration known to be well written; the unit test below holds it.
    fn known(text: &str) -> Duration {
        text.parse().unwrap_or_else(|_| unreachable!("a default is a valid duration"))
    }

    /// The greatest that one execution in twenty, the least number of samples, does not move.
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

/// What the operator made of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionPolicyStatus {
    /// The generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many running executions it says something of that counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub governed_executions: Option<i64>,
    /// The timeouts that were computed from history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynamic_timeouts: Option<DynamicTimeouts>,
    /// `Accepted` (False with `Overridden` where another policy of equal rank says the same of the same executions,
    /// `InvalidSelector`, `NotSupported`; Unknown with `HistoryNotRead` until history was asked) and `StoreFound`.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// The timeouts that were computed from history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DynamicTimeouts {
    /// When, by the database's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub computed_at: Option<Time>,
    /// How many there are.
    pub count: i64,
    /// The first twenty, those with the longest timeout first.
    #[serde(default)]
    pub longest: Vec<ComputedTimeout>,
}

/// A timeout that was computed from history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComputedTimeout {
    /// The job, where it is one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// The job type, where it is one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_type: Option<String>,
    /// From how many completed executions.
    pub samples: i64,
    /// The quantile of their durations.
    pub quantile: String,
    /// The timeout that follows.
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
