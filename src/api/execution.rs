//! `JobExecution`: one execution, seen and steered through the Kubernetes API.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;
use super::conditions::{ConditionType, find};
use super::names::SUBDOMAIN;

/// One execution of a job: one row of an `ExecutionStore`. Deleting the object changes no row.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "jobexec.dev",
    version = "v1alpha1",
    kind = "JobExecution",
    namespaced,
    status = "JobExecutionStatus",
    shortname = "jexec",
    category = "jobexec",
    doc = "One execution of a job: one row of an ExecutionStore. Deleting the object changes no row.",
    printcolumn(name = "Store", type_ = "string", json_path = ".spec.storeRef.name"),
    printcolumn(name = "Job", type_ = "string", json_path = ".status.jobId"),
    printcolumn(name = "Number", type_ = "integer", json_path = ".status.executionNumber"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Started", type_ = "date", json_path = ".status.startedAt"),
    printcolumn(name = "Deadline", type_ = "string", json_path = ".status.deadline"),
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
    /// The store that the execution belongs to, in the same namespace. It cannot be changed.
    #[x_kube(validation = Rule::new("self == oldSelf").message("storeRef is immutable: delete this object and create another"))]
    pub store_ref: StoreRef,
    /// The id of the row, as text: 1 to 253 characters. It cannot be changed.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("executionId is immutable: delete this object and create another"))]
    pub execution_id: String,
    /// How long this execution may run, whatever policies and the store say: more than 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s')").message("must be longer than 0"))]
    pub timeout: Option<Duration>,
    /// Time that is added to the timeout, whatever it comes from: the whole extension, so that saying it twice adds
    /// nothing. Counts as long as the execution runs, and the deadline that follows is a floor: a timeout that is shortened later
    /// does not move it earlier, less `extendBy` does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extend_by: Option<Duration>,
    /// Cancels the execution, once: a row that runs or waits becomes `cancelled` with an end. It can be taken back until then.
    /// What is asked of a store that only observes is refused, and not carried out later: take it back and ask again. The
    /// worker is not told: whether it stops is up to the application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
    /// The Job or Pod of this namespace that runs it, instead of what the table says. It counts where the store has
    /// `workloads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_ref: Option<WorkloadRef>,
}

impl JobExecutionSpec {
    /// Whether a person asks for anything.
    pub const fn asks(&self) -> bool {
        self.timeout.is_some() || self.extend_by.is_some() || self.cancels() || self.workload_ref.is_some()
    }

    /// Whether a person asks for it to be cancelled.
    pub const fn cancels(&self) -> bool {
        matches!(self.cancel, Some(true))
    }
}

/// The reason why nothing is cancelled in a store that only observes.
pub const OBSERVING: &str = "Observing";

impl JobExecution {
    /// Whether it was told that its store only observes when it asked to have its execution cancelled. That is an answer: nothing
    /// is carried out of what is left of it when somebody has the store enforce. It asks again once it was seen without `cancel`.
    pub fn was_declined(&self) -> bool {
        let before = self.status.as_ref().map(|before| before.conditions.as_slice()).unwrap_or_default();
        self.spec.cancels()
            && find(before, ConditionType::Accepted).is_some_and(|accepted| accepted.reason == OBSERVING)
    }
}

/// Names a workload of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRef {
    /// What it is.
    #[serde(default)]
    pub kind: WorkloadKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
}

/// What runs an execution.
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

/// Names an `ExecutionStore` of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreRef {
    /// The name of the `ExecutionStore`.
    #[schemars(length(min = 1, max = 63), regex(pattern = SUBDOMAIN))]
    pub name: String,
}

/// Where an execution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Waiting to be started.
    Scheduled,
    /// Being worked on.
    Running,
    /// Halted on purpose: it has no deadline meanwhile.
    Paused,
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed,
    /// Called off.
    Cancelled,
    /// The row has a status that the store's mapping lists as none of the operator's business.
    Ignored,
    /// The row has a status that the store's mapping does not list.
    Unmapped,
}

impl Phase {
    /// In lower case, as labels and the HTTPS API have it.
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

    /// Whether the execution has ended.
    pub const fn finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// What the operator last saw of an execution.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobExecutionStatus {
    /// The generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the execution stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The job that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// The type of that job, where the store knows types.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_type: Option<String>,
    /// Its number within the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_number: Option<i64>,
    /// When it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// When it is stale if it still runs then: its start plus its timeout, the extension and the grace period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// The timeout that governs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// The object that the timeout comes from, for example `ExecutionPolicy/nightly`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_source: Option<String>,
    /// Why it was ended by the operator, in one word, for example `DeadlineExceeded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `Bound` (the row exists), `Accepted` (what the spec asks for is in force), `LongRunning` (it has run for longer
    /// than expected), `Finished` (True once it has ended, well or not) and `Succeeded` (Unknown while it runs).
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}
