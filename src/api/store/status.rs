//! The status of an `ExecutionStore`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The last observed state of a store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionStoreStatus {
    /// The generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The value of the annotation `jobexec.dev/sweep-requested` for which the operator last ran a sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_sweep_request: Option<String>,
    /// The value of the annotation `jobexec.dev/resume` that the operator last read. A new value closes the circuit
    /// breaker if it is open, and otherwise has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_resume: Option<String>,
    /// The value of the annotation `jobexec.dev/adopt` that the operator last carried out, or that the object was
    /// created with, which has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_adopt: Option<String>,
    /// The health of the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// The numbers of inconsistent rows. Any such row sets the condition `Consistent` to False.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub violations: Option<Violations>,
    /// The numbers of `JobExecution` objects of the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_objects: Option<ObjectsStatus>,
    /// The last sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sweep: Option<LastSweep>,
    /// The retries of the store, if the operator itself retries its executions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<RetriesStatus>,
    /// The conditions of the store: `Ready` (the summary), `DatabaseReachable`, `SchemaValid`, `Healthy` (False with
    /// more than `spec.longRunning.threshold` long-running executions), `EnforcementPaused` (True while the operator
    /// changes no row), `AuditAvailable` (the operator records its actions in its own tables) and `Consistent` (no row
    /// is inconsistent). If the store configures evidence besides deadlines: `EvidenceAvailable` (all of it is in
    /// effect). If the store or a policy configures notifications: `NotificationsDelivered` (no delivery fails). If
    /// objects are synced: `ObjectsSynced` (`JobExecution` objects match the rows).
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// The health of a table of executions, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// The number of running executions.
    pub running_executions: i64,
    /// The number of scheduled executions, which wait to start.
    pub scheduled_executions: i64,
    /// The number of executions that have been running for longer than `spec.longRunning.after`.
    pub long_running_executions: i64,
    /// The number of running executions that are stale: past their deadline, or dead according to other evidence.
    pub stale_executions: i64,
    /// The number of executions that started within the last 24 hours.
    #[serde(rename = "recentExecutions24h")]
    pub recent_executions_24h: i64,
    /// The start time of the longest-running execution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_running_started_at: Option<Time>,
    /// The number of status changes that the transition trigger has rejected so far, for example a late finish of a
    /// failed execution. Absent without that trigger (`jobexec schema --with transitions`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_transitions: Option<i64>,
    /// The time at which these numbers were collected, by the database's clock.
    pub timestamp: Option<Time>,
}

/// The numbers of `JobExecution` objects of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectsStatus {
    /// The number of objects of this store, including those that users created.
    pub objects: i64,
    /// The number of running executions without an object, because there are more than `spec.executionObjects.limit`,
    /// or because their id is not valid in an object (empty, or longer than 253 characters).
    pub executions_without_object: i64,
}

/// The numbers of inconsistent rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Violations {
    /// Rows whose status `spec.table.statuses` does not list.
    pub unmapped_status: i64,
    /// Running rows without a start time. Their timeout counts from the time at which the operator first observed the
    /// current version of the row as running. Each write to the row restarts it.
    pub running_without_started_at: i64,
    /// Finished rows without an end time.
    pub finished_without_completed_at: i64,
    /// Finished rows with an end time before their start time.
    pub completed_before_started: i64,
    /// Running rows with an end time.
    pub running_with_completed_at: i64,
    /// Running rows with a start time more than a minute ahead of the database's clock, which delays their deadline as
    /// much.
    pub started_in_future: i64,
    /// Running rows with a start time 5 minutes or more before their creation time, if `table.columns.createdAt` is
    /// mapped. Clocks or time zones of the writers differ. Their timeout counts from their creation.
    #[serde(default)]
    pub started_before_created: i64,
    /// Executions that were restarted in their own row within the last 24 hours and kept the start time of the run that
    /// had ended, so that they were past their deadline immediately.
    #[serde(default)]
    pub started_again: i64,
    /// Rows with an id that is missing or longer than 1,000 bytes. The operator ignores them and does not list them.
    #[serde(default)]
    pub id_too_long: i64,
}

/// A pass over a store that fails all stale executions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastSweep {
    /// The trigger of the sweep: `Startup`, `Deadline` (an execution became stale), `Interval`, `Requested` or
    /// `Resumed`.
    pub trigger: String,
    /// The time at which the sweep started, by the database's clock.
    pub started_at: Time,
    /// The duration of the sweep, for example `12ms`.
    pub duration: String,
    /// The number of executions that the sweep ended.
    pub failed: i64,
    /// The number of stale executions that the sweep could not end, for example because another transaction locks the
    /// row. The operator retries them.
    pub remaining: i64,
}

/// The retries of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetriesStatus {
    /// The number of retries that started within the last hour.
    pub started_last_hour: i64,
    /// The maximum number of retries within an hour, by `spec.retry.budget`.
    pub budget: i64,
    /// The number of retries that wait.
    pub waiting: i64,
    /// Of these, the number that wait until the worker of the ended attempt is gone.
    pub waiting_for_worker: i64,
    /// Of these, the number that are due and for which there is no room in the budget.
    pub waiting_for_budget: i64,
    /// Of these, the number that the table refused and that are tried again.
    pub refused: i64,
}
