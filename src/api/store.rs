//! `ExecutionStore`: a table of executions, and the settings with which the operator monitors it.

mod status;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::cel;
use super::identifier::Identifier;
use super::names::{SECRET_KEY, SUBDOMAIN};
use super::notifications::Notifications;
use super::retry::StoreRetry;
use super::table::{Jobs, SingleActiveExecution, Workloads};
use super::{Duration, Limit, Table};
pub use status::{ExecutionStoreStatus, LastSweep, Metrics, ObjectsStatus, RetriesStatus, Violations};

/// `ExecutionStore` represents one table of job executions in a Postgres database. The operator fails executions that
/// exceed their timeout, and reports the health of the table in the status.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "jobexec.dev",
    version = "v1alpha1",
    kind = "ExecutionStore",
    namespaced,
    status = "ExecutionStoreStatus",
    shortname = "exstore",
    category = "jobexec",
    doc = "ExecutionStore represents one table of job executions in a Postgres database. The operator fails executions that exceed their timeout, and reports the health of the table in the status.",
    validation = Rule::new("size(self.metadata.name) <= 63").message("the name of an ExecutionStore must have at most 63 characters, because it becomes part of the names and labels of its JobExecutions"),
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
#[x_kube(validation = Rule::new(
    "!has(self.heartbeat) || !has(self.table.columns.heartbeatAt)"
).message("executions have heartbeats of their own (table.columns.heartbeatAt) or those of their workers (heartbeat): set one of them"))]
#[x_kube(validation = Rule::new(
    "!has(self.table.columns.timeout) || !has(self.table.columns.deadlineAt)"
).message("an execution has a timeout of its own (table.columns.timeout) or a deadline (table.columns.deadlineAt): set one of them"))]
#[x_kube(validation = Rule::new(
    "self.table.columns.status != self.table.columns.completedAt && \
     self.table.columns.status != self.table.columns.id && self.table.columns.status != self.table.columns.jobId && \
     self.table.columns.status != self.table.columns.executionNumber && \
     self.table.columns.status != self.table.columns.startedAt && \
     self.table.columns.completedAt != self.table.columns.id && \
     self.table.columns.completedAt != self.table.columns.jobId && \
     self.table.columns.completedAt != self.table.columns.executionNumber && \
     self.table.columns.completedAt != self.table.columns.startedAt && \
     (!has(self.table.columns.error) || (self.table.columns.error != self.table.columns.id && \
     self.table.columns.error != self.table.columns.jobId && \
     self.table.columns.error != self.table.columns.executionNumber && \
     self.table.columns.error != self.table.columns.startedAt && \
     self.table.columns.error != self.table.columns.status && \
     self.table.columns.error != self.table.columns.completedAt))"
).message("the operator writes table.columns.status, completedAt and error: each needs a column of its own"))]
#[x_kube(validation = Rule::new(
    "!has(self.adapter) || (!has(self.jobs) && !has(self.heartbeat) && self.table.name == 'job_executions' && self.table.schema == 'public')"
).message("adapter stands for table, jobs and heartbeat: leave them out, except table.timeZone and table.filter, and set adapterSchema for another schema"))]
#[x_kube(validation = Rule::new(
    "!has(self.adapterSchema) || has(self.adapter)"
).message("adapterSchema is the schema of an adapter's tables: set adapter, or table.schema instead"))]
#[x_kube(validation = Rule::new(
    "!has(self.singleActiveExecution) || self.table.columns.executionNumber != ''"
).message("singleActiveExecution tells a later execution by its number: set table.columns.executionNumber"))]
pub struct ExecutionStoreSpec {
    /// The connection to the database.
    pub connection: Connection,
    /// The table of executions. Defaults to `public.job_executions` with the columns `id`, `job_id`,
    /// `execution_number`, `status`, `started_at` and `completed_at`.
    #[serde(default)]
    pub table: Table,
    /// The adapter for the job system whose tables these are, instead of `table`, `jobs` and `heartbeat`: one of those
    /// that `jobexec adapter list` prints, for example `river`. The owner of the tables installs it with
    /// `jobexec adapter apply`. Of `table`, only `timeZone` and `filter` apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z][a-z0-9-]*$"))]
    pub adapter: Option<String>,
    /// The schema of the job system's tables, if it is not the one that the system uses by default. Requires `adapter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter_schema: Option<Identifier>,
    /// The maximum time an execution can run before the operator fails it, unless an `ExecutionPolicy`, a column
    /// of its row or its `JobExecution` sets a timeout: more than 0, or `Never` for no deadline by default.
    #[serde(default = "defaults::timeout")]
    #[x_kube(validation = cel::never_or_positive())]
    pub default_timeout: Limit,
    /// The time to add to a timeout before the operator fails an execution, so that a commit in progress can complete.
    /// A policy can override it.
    #[serde(default = "defaults::grace_period")]
    pub grace_period: Duration,
    /// The maximum time between two sweeps, even if no deadline has passed: at least 10s.
    #[serde(default = "defaults::sweep_interval")]
    #[x_kube(validation = cel::at_least("10s"))]
    pub sweep_interval: Duration,
    /// The time between two reconciliations, which check the health of the table and find new and finished executions:
    /// at least 1s.
    #[serde(default = "defaults::poll_interval")]
    #[x_kube(validation = cel::at_least("1s"))]
    pub poll_interval: Duration,
    /// The maximum time without a heartbeat, counted from the last heartbeat, or from the start of the execution if
    /// that is later: at least 1s. Requires `table.columns.heartbeatAt`, `table.columns.checkpointAt` or `heartbeat`. A
    /// policy can override it. If it is unset or `Never`, and for an execution without any heartbeat, only the deadline
    /// applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = cel::never_or_at_least("1s"))]
    pub heartbeat_timeout: Option<Limit>,
    /// The table in which workers send their heartbeats, if executions themselves have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<WorkerHeartbeat>,
    /// The table of jobs. An execution is stale (`JobFinished`) if it is still running after the operator observed its
    /// job finish during the run. If the job was already finished when the operator first observed the execution, the
    /// operator only reports the execution as a suspect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<Jobs>,
    /// Declares that a job has at most one active execution at a time: an execution that is still running after a later
    /// execution of its job has started is stale (`Superseded`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub single_active_execution: Option<SingleActiveExecution>,
    /// Declares that Jobs or Pods in this namespace run the executions. `table.columns.workload` or the `workloadRef`
    /// of a `JobExecution` names them. An execution that is still running after its Job or Pod has failed or was
    /// deleted is stale (`WorkloadGone`). The operator needs permission to list Jobs and Pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workloads: Option<Workloads>,
    /// The limit of the circuit breaker. A sweep that would end more executions than this does not start until a user
    /// sets the annotation `jobexec.dev/resume`. Either a number of at least 1, or a percentage of the running
    /// executions such as `50%`, which applies only if at least 20 executions are running.
    #[serde(default = "defaults::max_failures", deserialize_with = "default_if_null")]
    #[x_kube(validation = Rule::new("type(self) == int ? self >= 1 : self.matches('^(100|[1-9][0-9]?)%$')").message("must be a number of at least 1, or a share from 1% to 100%"))]
    pub max_failures_per_sweep: IntOrString,
    /// The retries of the store as a whole. Which executions are retried follows from `onStale` and `retry` of its policies.
    #[serde(default)]
    pub retry: StoreRetry,
    /// The thresholds for long-running executions. The operator warns about them and never fails them for it. A policy
    /// can override `longRunning.after` with `warnAfter`.
    #[serde(default)]
    pub long_running: LongRunning,
    /// The `JobExecution` objects that the operator creates for rows of the table.
    #[serde(default)]
    pub execution_objects: ExecutionObjects,
    /// The retention of audit records.
    #[serde(default)]
    pub history: History,
    /// The notifications by e-mail or webhook about long-running, stale and failed executions, the circuit breaker, and
    /// recovery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notifications: Option<Notifications>,
    /// Whether the operator fails stale executions (`Enforce`) or only reports them and changes no row (`Observe`). Use
    /// `Observe` to suspend a store.
    #[serde(default)]
    pub mode: Mode,
}

/// Deserializes a value, or the default for null, which the schema of an int-or-string accepts.
fn default_if_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<IntOrString, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(defaults::max_failures))
}

mod defaults {
    use super::{Duration, Identifier, Limit};

    /// Parses a default, which a unit test shows to be valid.
    fn known(text: &str) -> Duration {
        text.parse().unwrap_or_else(|_| unreachable!("a default is a valid duration"))
    }

    pub(super) fn schema() -> Identifier {
        "public".into()
    }
    pub(super) fn timeout() -> Limit {
        Limit::After(known("24h"))
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
    pub(super) fn long_running_after() -> Limit {
        Limit::After(known("1h"))
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

/// The connection to a database.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// The Secret key, in the namespace of this object, that holds the connection URL
    /// (`postgres://user:password@host:port/database?sslmode=require`). TLS is required unless the URL sets
    /// `sslmode=disable`; `verify-ca` and `verify-full` verify the server's certificate.
    pub secret_ref: SecretKeyRef,
    /// The Secret key, in the namespace of this object, that holds only the certificate authority of the server, in PEM
    /// format, for `sslmode=verify-ca` and `verify-full`. Replaces the system's certificate authorities, which are the
    /// default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// The maximum number of connections to this database: 2 to 20. With 3, the operator can sweep from both ends while
    /// it counts. Stores with the same connection URL and certificate authority share one pool, which has the largest
    /// of their sizes.
    #[serde(default = "defaults::pool_size")]
    #[schemars(range(min = 2, max = 20))]
    pub pool_size: i32,
    /// The time after which Postgres cancels a statement of the operator: from 100ms to 10m.
    #[serde(default = "defaults::statement_timeout")]
    #[x_kube(validation = cel::at_least("100ms"), validation = cel::at_most("10m"))]
    pub statement_timeout: Duration,
    /// The role that owns the schema `jobexec` in the database. Required unless the owner is a superuser, the
    /// database's owner, or a role that the login in the connection URL is a member of. Every user who can act as this
    /// role can run any SQL as that login.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub schema_owner: Option<String>,
}

/// A reference to a key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
    /// The key within the Secret.
    #[serde(default = "defaults::secret_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_KEY))]
    pub key: String,
}

/// The table of workers, for applications whose workers send one heartbeat each instead of one for each execution. An
/// execution is stale (`WorkerLost`) if its worker has sent no heartbeat for `heartbeatTimeout`, or has been missing from
/// the table for as long while the worker of another running execution is alive there. An execution that names no worker
/// has no heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerHeartbeat {
    /// The schema of the table of workers.
    #[serde(default = "defaults::schema")]
    pub schema: Identifier,
    /// The name of the table of workers, or of a view.
    pub table: Identifier,
    /// The column of the table of workers that identifies a worker, of type smallint, integer, bigint, uuid, text or varchar.
    pub key: Identifier,
    /// The column of the table of executions that names the worker, of the same type as `key`.
    pub by: Identifier,
    /// The column of the table of workers with the time of the last heartbeat, of type timestamptz or timestamp.
    pub at: Identifier,
}

/// Thresholds for long-running executions.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LongRunning {
    /// The run time after which an execution is long-running: more than 0, or `Never` if only `warnAfter` of a policy
    /// counts.
    #[serde(default = "defaults::long_running_after")]
    #[x_kube(validation = cel::never_or_positive())]
    pub after: Limit,
    /// The maximum number of long-running executions with which the condition `Healthy` stays True: at least 0.
    #[serde(default = "defaults::threshold")]
    #[schemars(range(min = 0))]
    pub threshold: i32,
}

impl Default for LongRunning {
    fn default() -> Self {
        Self { after: defaults::long_running_after(), threshold: defaults::threshold() }
    }
}

/// Settings for the `JobExecution` objects that the operator creates. If a user has created an object for an execution,
/// the operator uses that object and never deletes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionObjects {
    /// Whether the operator creates objects. If false, it deletes the objects that it created, except those of
    /// unfinished executions whose spec sets `timeout`, `extendBy`, `cancel` or `workloadRef`.
    #[serde(default = "defaults::synced")]
    pub enabled: bool,
    /// The maximum number of running executions that have an object, and of finished executions that have one: from 1
    /// to 10000. Above the limit, stale and then the longest-running executions keep their objects, and
    /// `status.executionObjects.executionsWithoutObject` counts the others.
    #[serde(default = "defaults::object_limit")]
    #[schemars(range(min = 1, max = 10_000))]
    pub limit: i32,
    /// The time after the end of an execution at which the operator deletes its object.
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

/// The retention of audit records.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// The time to keep a record of an action in `jobexec.events`: at least 24h. The operator keeps all records of an
    /// execution that is still running.
    #[serde(default = "defaults::retention")]
    #[x_kube(validation = cel::at_least("24h"))]
    pub retention: Duration,
}

impl Default for History {
    fn default() -> Self {
        Self { retention: defaults::retention() }
    }
}

/// The mode of enforcement of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Fails stale executions.
    #[default]
    Enforce,
    /// Reports stale executions and changes no row.
    Observe,
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
