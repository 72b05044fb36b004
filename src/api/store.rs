//! `ExecutionStore`: where the executions are, and how they are watched.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::{SECRET_KEY, SUBDOMAIN};
use super::notifications::Notifications;
use super::table::{Jobs, SingleActiveExecution, Workloads};
use super::{Duration, Table};

/// One table of job executions in a Postgres database. The operator fails executions that run past their timeout,
/// and reports the health of the table in the status.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "jobexec.dev",
    version = "v1alpha1",
    kind = "ExecutionStore",
    namespaced,
    status = "ExecutionStoreStatus",
    shortname = "exstore",
    category = "jobexec",
    doc = "One table of job executions in a Postgres database. The operator fails executions that run past their timeout, and reports the health of the table in the status.",
    validation = Rule::new("size(self.metadata.name) <= 63").message("the name of an ExecutionStore has at most 63 characters: it becomes part of the names and labels of its JobExecutions"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Healthy", type_ = "string", json_path = ".status.conditions[?(@.type=='Healthy')].status"),
    printcolumn(name = "Running", type_ = "integer", json_path = ".status.metrics.runningExecutions"),
    printcolumn(name = "Long", type_ = "integer", json_path = ".status.metrics.longRunningExecutions", description = "running for longer than spec.longRunning.after"),
    printcolumn(name = "Stale", type_ = "integer", json_path = ".status.metrics.staleExecutions", description = "running past their deadline"),
    printcolumn(name = "Last Sweep", type_ = "date", json_path = ".status.lastSweep.startedAt"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.lastSweep.failed", description = "executions failed by the last sweep"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Timeout", type_ = "string", json_path = ".spec.defaultTimeout", priority = 1),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionStoreSpec {
    /// How to reach the database.
    pub connection: Connection,
    /// The table of executions. The default is `public.job_executions` with the columns `id`, `job_id`,
    /// `execution_number`, `status`, `started_at` and `completed_at`.
    #[serde(default)]
    pub table: Table,
    /// How long an execution may run before it is failed, unless an `ExecutionPolicy` or its `JobExecution` says
    /// otherwise: more than 0.
    #[serde(default = "defaults::timeout")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s')").message("must be longer than 0"))]
    pub default_timeout: Duration,
    /// Time that is added to every timeout before an execution is failed, for a commit that is under way.
    #[serde(default = "defaults::grace_period")]
    pub grace_period: Duration,
    /// How often to sweep even when no deadline is known to have passed: at least 10s.
    #[serde(default = "defaults::sweep_interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s')").message("must be at least 10s"))]
    pub sweep_interval: Duration,
    /// How often to look at the table for its health and for new and finished executions: at least 1s.
    #[serde(default = "defaults::poll_interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s')").message("must be at least 1s"))]
    pub poll_interval: Duration,
    /// How long an execution may go without a heartbeat after its start, where `table.columns.heartbeatAt` is named and no
    /// policy says otherwise: at least 1s. Without it, and for an execution without any heartbeat, only the deadline counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s')").message("must be at least 1s"))]
    pub heartbeat_timeout: Option<Duration>,
    /// The table of jobs. An execution whose job was seen to finish while it ran, and that still runs, is stale
    /// (`JobFinished`); one whose job was finished already when it was first seen is reported as a suspect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<Jobs>,
    /// Says that the executions of a job come one after the other: one that runs while a later one has started is
    /// stale (`Superseded`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub single_active_execution: Option<SingleActiveExecution>,
    /// Says that executions are run by Jobs or Pods of this namespace, which `table.columns.workload` or the
    /// `workloadRef` of a `JobExecution` names: one that runs while its Job or Pod has failed or exists no more is stale
    /// (`WorkloadGone`). The operator then needs the right to list Jobs and Pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workloads: Option<Workloads>,
    /// The breaker: a sweep that would end more executions than this does not begin, until a person resumes it with
    /// the annotation `jobexec.dev/resume`. A number of at least 1, or a share of the running executions such as
    /// `50%`, which counts only where at least 20 run.
    #[serde(default = "defaults::max_failures", deserialize_with = "unless_null")]
    #[x_kube(validation = Rule::new("type(self) == int ? self >= 1 : self.matches('^(100|[1-9][0-9]?)%$')").message("must be a number of at least 1, or a share from 1% to 100%"))]
    pub max_failures_per_sweep: IntOrString,
    /// When executions count as running for long where no policy says otherwise, which warns and never fails them.
    #[serde(default)]
    pub long_running: LongRunning,
    /// The `JobExecution` objects that the operator makes for the rows of the table.
    #[serde(default)]
    pub execution_objects: ExecutionObjects,
    /// How long it is remembered what was done to executions.
    #[serde(default)]
    pub history: History,
    /// Whom to tell by e-mail or webhook of long-running and stale executions, of the breaker, and that all is well again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notifications: Option<Notifications>,
    /// `Enforce` fails stale executions. `Observe` reports them and changes no row: the way to suspend a store.
    #[serde(default)]
    pub mode: Mode,
}

/// The schema of such a type accepts null, which then stands for the default.
fn unless_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<IntOrString, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(defaults::max_failures))
}

mod defaults {
    use super::Duration;

    /// A duration known to be well written; the fallback is never reached, the unit test below holds it.
    fn known(text: &str) -> Duration {
        text.parse().unwrap_or_else(|_| unreachable!("a default is a valid duration"))
    }

    pub(super) fn timeout() -> Duration {
        known("24h")
    }
    pub(super) fn grace_period() -> Duration {
        known("0s")
    }
    pub(super) fn sweep_interval() -> Duration {
        known("1h")
    }
    pub(super) fn poll_interval() -> Duration {
        known("15s")
    }
    pub(super) fn long_running_after() -> Duration {
        known("1h")
    }
    pub(super) fn threshold() -> i32 {
        5
    }
    pub(super) fn statement_timeout() -> Duration {
        known("30s")
    }
    pub(super) fn max_failures() -> super::IntOrString {
        super::IntOrString::Int(1_000)
    }
    pub(super) const fn synced() -> bool {
        true
    }
    pub(super) const fn object_limit() -> i32 {
        1_000
    }
    pub(super) fn finished_ttl() -> Duration {
        known("1h")
    }
    pub(super) fn retention() -> Duration {
        known("2160h")
    }
    pub(super) fn pool_size() -> i32 {
        3
    }
    pub(super) fn secret_key() -> String {
        "uri".to_owned()
    }
}

/// How to reach the database.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// The Secret, in the namespace of this object, that holds the connection URL
    /// (`postgres://user:password@host:port/database?sslmode=require`). TLS is required unless the URL says
    /// `sslmode=disable`; `verify-ca` and `verify-full` check the server's certificate.
    pub secret_ref: SecretKeyRef,
    /// The Secret key, in the namespace of this object, that holds the certificate authority of the server in PEM
    /// form and nothing else, for `sslmode=verify-ca` and `verify-full`: no other one counts then. Without it the system's authorities are
    /// trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// How many connections the operator opens to this database: 2 to 20. Three let it sweep from both ends while it
    /// counts. Stores whose connection URL and certificate authority say the same share as many as the largest of them asks for.
    #[serde(default = "defaults::pool_size")]
    #[schemars(range(min = 2, max = 20))]
    pub pool_size: i32,
    /// How long one SQL statement may take before Postgres cancels it: 100ms to 10m.
    #[serde(default = "defaults::statement_timeout")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('10m')").message("must be at least 100ms and at most 10m"))]
    pub statement_timeout: Duration,
    /// The role that owns the schema `jobexec` in the database, where that is neither a superuser, nor the database's owner, nor
    /// a role that the login of the connection URL is a member of. Whoever can act as this role can run any SQL as that login.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub schema_owner: Option<String>,
}

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
    /// The key within it.
    #[serde(default = "defaults::secret_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_KEY))]
    pub key: String,
}

/// When executions count as running for long.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LongRunning {
    /// An execution that runs for longer than this counts as long-running: more than 0.
    #[serde(default = "defaults::long_running_after")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s')").message("must be longer than 0"))]
    pub after: Duration,
    /// `Healthy` turns False when more than this many executions are long-running.
    #[serde(default = "defaults::threshold")]
    #[schemars(range(min = 0))]
    pub threshold: i32,
}

impl Default for LongRunning {
    fn default() -> Self {
        Self { after: defaults::long_running_after(), threshold: defaults::threshold() }
    }
}

/// Which executions have a `JobExecution` object made by the operator. Objects that people make are never deleted, and are
/// used where they exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionObjects {
    /// Whether the operator makes objects. Turned off, it deletes those that it made, but for running executions of
    /// which a person asks something.
    #[serde(default = "defaults::synced")]
    pub enabled: bool,
    /// How many running executions have an object, 1 to 10000, and as many finished ones. Beyond it the stale and then the
    /// longest-running are kept, and `status.executionObjects.executionsWithoutObject` counts the others.
    #[serde(default = "defaults::object_limit")]
    #[schemars(range(min = 1, max = 10_000))]
    pub limit: i32,
    /// How long an object stays after its execution has ended.
    #[serde(default = "defaults::finished_ttl", rename = "finishedTTL")]
    pub finished_ttl: Duration,
}

impl Default for ExecutionObjects {
    fn default() -> Self {
        Self {
            enabled: defaults::synced(),
            limit: defaults::object_limit(),
            finished_ttl: defaults::finished_ttl(),
        }
    }
}

/// How long it is remembered what was done to executions.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// How long a record of what was done stays in `jobexec.events`: at least 24h. Records of an execution that still
    /// runs stay with it, however old they are.
    #[serde(default = "defaults::retention")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('24h')").message("must be at least 24h"))]
    pub retention: Duration,
}

impl Default for History {
    fn default() -> Self {
        Self { retention: defaults::retention() }
    }
}

/// Whether a store's stale executions are failed or only reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Fail stale executions.
    #[default]
    Enforce,
    /// Report only; change no row.
    Observe,
}

/// What the operator last saw of a store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionStoreStatus {
    /// The generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The value of the annotation `jobexec.dev/sweep-requested` that was last answered with a sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_sweep_request: Option<String>,
    /// The value of the annotation `jobexec.dev/resume` that was last read. It closes the breaker where that is open, and
    /// nothing follows from it otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_resume: Option<String>,
    /// The value of the annotation `jobexec.dev/adopt` that was last carried out, or that the object was made with, which
    /// nothing follows from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_adopt: Option<String>,
    /// The health of the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// Rows that contradict themselves; any turns `Consistent` to False.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub violations: Option<Violations>,
    /// The `JobExecution` objects of the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_objects: Option<ObjectsStatus>,
    /// The last sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sweep: Option<LastSweep>,
    /// `Ready` (the summary), `DatabaseReachable`, `SchemaValid`, `Healthy` (False with more than
    /// `spec.longRunning.threshold` long-running executions), `EnforcementPaused` (True while no row is changed),
    /// `AuditAvailable` (what is done is written to the operator's own tables), `Consistent`, where the store has other
    /// evidence than deadlines `EvidenceAvailable` (it counts at present), where somebody is to be notified `NotificationsDelivered` (messages
    /// get through), and where objects are synced `ObjectsSynced` (`JobExecution` objects are in step with the rows).
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// The health of a table of executions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// Executions that are running.
    pub running_executions: i64,
    /// Executions that wait to be started.
    pub scheduled_executions: i64,
    /// Executions that have been running for longer than `spec.longRunning.after`.
    pub long_running_executions: i64,
    /// Executions that run although they are stale: past their deadline, or dead by other evidence.
    pub stale_executions: i64,
    /// Executions that started within the last 24 hours.
    #[serde(rename = "recentExecutions24h")]
    pub recent_executions_24h: i64,
    /// When the longest-running execution started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_running_started_at: Option<Time>,
    /// Changes of a status that the transition trigger has refused so far, for example a late finish of an execution
    /// that had been failed; absent without that trigger (`jobexec schema --with transitions`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_transitions: Option<i64>,
    /// When these figures were taken, by the database's clock.
    pub timestamp: Option<Time>,
}

/// The `JobExecution` objects of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectsStatus {
    /// Objects of this store, those of people included.
    pub objects: i64,
    /// Running executions that have no object, because there are more than `spec.executionObjects.limit`, or because their id
    /// cannot stand in one (empty, or longer than 253 characters).
    pub executions_without_object: i64,
}

/// Rows that contradict themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Violations {
    /// Rows whose status is in no list of `spec.table.statuses`.
    pub unmapped_status: i64,
    /// Running rows without a start time: they count from when they were first seen running in the
    /// present version of their row: one that is written again counts again.
    pub running_without_started_at: i64,
    /// Finished rows without an end time.
    pub finished_without_completed_at: i64,
    /// Finished rows whose end is before their start.
    pub completed_before_started: i64,
    /// Running rows with an end time.
    pub running_with_completed_at: i64,
    /// Running rows whose start is more than a minute ahead of the database's clock: their deadline is as far ahead.
    pub started_in_future: i64,
    /// Running rows whose start is five minutes or more before their own creation, where `table.columns.createdAt` is mapped:
    /// two clocks or time zones write them. They count from their creation.
    #[serde(default)]
    pub started_before_created: i64,
    /// Executions that were run again in their own row within the last 24 hours, with the start of a run that had ended: they
    /// are past their deadline at once.
    #[serde(default)]
    pub started_again: i64,
    /// Rows whose id is missing or longer than 1,000 bytes: they are left alone, and are in no list.
    #[serde(default)]
    pub id_too_long: i64,
}

/// One pass over a store that fails every stale execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastSweep {
    /// Why it ran: `Startup`, `Deadline` (an execution became stale), `Interval`, `Requested` or `Resumed`.
    pub trigger: String,
    /// When it began, by the database's clock.
    pub started_at: Time,
    /// How long it took, for example `12ms`.
    pub duration: String,
    /// How many executions it failed.
    pub failed: i64,
    /// How many stale executions it had to leave, for example because another transaction holds the row; they are
    /// tried again.
    pub remaining: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid() {
        let spec: ExecutionStoreSpec =
            serde_json::from_value(serde_json::json!({"connection": {"secretRef": {"name": "db"}}})).unwrap();
        assert_eq!(spec.default_timeout.to_string(), "24h");
        assert_eq!(spec.grace_period.to_string(), "0s");
        assert_eq!(spec.sweep_interval.to_string(), "1h");
        assert_eq!(spec.poll_interval.to_string(), "15s");
        assert_eq!(spec.long_running.after.to_string(), "1h");
        assert_eq!(spec.connection.statement_timeout.to_string(), "30s");
        assert_eq!(spec.connection.secret_ref.key, "uri");
        assert_eq!((spec.execution_objects.enabled, spec.execution_objects.limit), (true, 1_000));
        assert_eq!(spec.execution_objects.finished_ttl.to_string(), "1h");
        assert_eq!(
            (spec.mode, spec.long_running.threshold, spec.connection.pool_size),
            (Mode::Enforce, 5, 3)
        );
    }
}
