//! `JobExecution`: shows one execution in the Kubernetes API and lets users extend or cancel it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conditions::{ConditionType, find};
use super::duration::cel;
use super::names::SUBDOMAIN;
use super::{Duration, Limit};

/// `JobExecution` represents one execution of a job: one row of an `ExecutionStore`. Deleting the object does not
/// change the row.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "jobexec.dev",
    version = "v1alpha1",
    kind = "JobExecution",
    namespaced,
    status = "JobExecutionStatus",
    shortname = "jexec",
    category = "jobexec",
    doc = "JobExecution represents one execution of a job: one row of an ExecutionStore. Deleting the object does not change the row.",
    printcolumn(name = "Store", type_ = "string", json_path = ".spec.storeRef.name"),
    printcolumn(name = "Job", type_ = "string", json_path = ".status.jobId"),
    printcolumn(name = "Number", type_ = "integer", json_path = ".status.executionNumber"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Started", type_ = "date", json_path = ".status.startedAt"),
    printcolumn(name = "Deadline", type_ = "string", json_path = ".status['deadline','noDeadline']"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Execution", type_ = "string", json_path = ".spec.executionId", priority = 1),
    printcolumn(name = "Type", type_ = "string", json_path = ".status.jobType", priority = 1),
    printcolumn(name = "Timeout From", type_ = "string", json_path = ".status.timeoutSource", priority = 1),
    selectable = ".spec.storeRef.name",
    selectable = ".spec.executionId",
    selectable = ".status.phase",
    selectable = ".status.jobId"
)]
#[serde(rename_all = "camelCase")]
pub struct JobExecutionSpec {
    /// The `ExecutionStore` that the execution belongs to, in the same namespace. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("storeRef is immutable: delete this object and create another"))]
    pub store_ref: StoreRef,
    /// The id of the row, as text: 1 to 253 characters. Immutable.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("executionId is immutable: delete this object and create another"))]
    pub execution_id: String,
    /// The maximum time this execution can run: more than 0, or `Never` for no deadline. Overrides the timeouts of
    /// policies and of the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = cel::never_or_positive())]
    pub timeout: Option<Limit>,
    /// The total time to add to the timeout, whichever object sets the timeout. Applying the same value again adds
    /// nothing, and neither does any value while the timeout is `Never`. The extension lasts as long as the execution
    /// runs. Shortening a timeout later does not move the extended deadline earlier; lowering `extendBy` does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extend_by: Option<Duration>,
    /// Whether to cancel the execution. The operator sets the status of a scheduled, running or paused row to
    /// `cancelled` and writes its end time, once. You can remove the field before that. A store in mode `Observe`
    /// rejects the request, and the operator does not apply it later when the mode changes: remove the field and set it
    /// again. The operator does not notify the worker; the application decides whether the worker stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
    /// The Job or Pod, in the same namespace, that runs the execution. Overrides the workload that the table names.
    /// Takes effect only if the store sets `workloads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_ref: Option<WorkloadRef>,
}

impl JobExecutionSpec {
    /// Reports whether the spec requests any change to the execution.
    pub const fn asks(&self) -> bool {
        self.timeout.is_some() || self.extend_by.is_some() || self.cancels() || self.workload_ref.is_some()
    }

    /// Reports whether the spec requests cancellation.
    pub const fn cancels(&self) -> bool {
        matches!(self.cancel, Some(true))
    }
}

/// The condition reason that rejects a cancellation because the store is in mode `Observe`.
pub const OBSERVING: &str = "Observing";

impl JobExecution {
    /// Reports whether the operator already rejected this cancellation because the store was in mode `Observe`. The
    /// rejection is final: changing the mode to `Enforce` does not carry out the old request. A new request starts
    /// after the operator has observed the object without `cancel`.
    pub fn was_declined(&self) -> bool {
        let before = self.status.as_ref().map(|before| before.conditions.as_slice()).unwrap_or_default();
        self.spec.cancels()
            && find(before, ConditionType::Accepted).is_some_and(|accepted| accepted.reason == OBSERVING)
    }
}

/// A reference to a workload in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRef {
    /// The kind of the workload.
    #[serde(default)]
    pub kind: WorkloadKind,
    /// The name of the workload.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
}

/// The kind of a workload that runs an execution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadKind {
    /// A Job (batch/v1).
    #[default]
    Job,
    /// A Pod.
    Pod,
}

impl std::fmt::Display for WorkloadRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            WorkloadKind::Job => "Job",
            WorkloadKind::Pod => "Pod",
        };
        write!(f, "{kind}/{}", self.name)
    }
}

/// A reference to an `ExecutionStore` in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreRef {
    /// The name of the `ExecutionStore`.
    #[schemars(length(min = 1, max = 63), regex(pattern = SUBDOMAIN))]
    pub name: String,
}

/// The phase of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The execution waits to start.
    Scheduled,
    /// The execution is running.
    Running,
    /// The execution was halted on purpose. It has no deadline until it resumes.
    Paused,
    /// The execution ended successfully.
    Completed,
    /// The execution ended with an error.
    Failed,
    /// The execution was cancelled.
    Cancelled,
    /// The row has a status that the store's mapping lists as `ignored`.
    Ignored,
    /// The row has a status that the store's mapping does not list.
    Unmapped,
}

impl Phase {
    /// Returns the phase in lower case, as used in labels and the HTTPS API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Paused => "paused",
            Self::Ignored => "ignored",
            Self::Unmapped => "unmapped",
        }
    }

    /// Reports whether the execution has ended.
    pub const fn finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// The last observed state of an execution.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobExecutionStatus {
    /// The generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The phase of the execution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The id of the job that the execution belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// The type of the job, if the store maps job types.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_type: Option<String>,
    /// The number of the execution within its job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_number: Option<i64>,
    /// The time at which the execution started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// The time at which the execution ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// The time after which the execution is stale if it is still running: its start plus the timeout, the extension
    /// and the grace period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// `Never` if the execution is running and has no deadline, because its timeout is `Never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_deadline: Option<String>,
    /// The timeout that applies to the execution: a duration, or `Never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// The object that sets the timeout, for example `ExecutionPolicy/nightly`, or the column of the row that does, for
    /// example `column max_run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_source: Option<String>,
    /// The reason why the operator ended the execution, in one word, for example `DeadlineExceeded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The conditions of the execution: `Bound` (the row exists), `Accepted` (the requests in the spec are in effect),
    /// `LongRunning` (the execution has run for longer than expected), `Finished` (True after the execution has ended,
    /// with success or failure) and `Succeeded` (Unknown while it runs).
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}
