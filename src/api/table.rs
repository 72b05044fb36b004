//! The mapping of the application's tables: names, columns and status texts.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;
use super::filter::RowCondition;
use super::identifier::Identifier;
use super::retry::TableRetry;

/// The text of a status as stored in the table, or the label if the column is an enum: 1 to 63 characters, without
/// control characters. A number or a boolean is written as Postgres prints it: `"2"`, `"true"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct StatusText(#[schemars(length(min = 1, max = 63), regex(pattern = r"^\P{Cc}+$"))] pub String);

impl From<&str> for StatusText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// The table of executions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Table {
    /// The schema of the table.
    pub schema: Identifier,
    /// The name of the table, which can be ordinary or partitioned, or of a view. The operator ends executions of a view
    /// only if Postgres can update the view by itself, or if it has an `INSTEAD OF UPDATE` trigger.
    pub name: Identifier,
    /// The columns that the operator reads and writes.
    pub columns: Columns,
    /// The status texts of the application.
    pub statuses: Statuses,
    /// The time zone of columns of type `timestamp` (without time zone), as a name known to Postgres, for example `UTC`
    /// or `Europe/Berlin`. It does not affect columns of type `timestamptz`.
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// The conditions that a row must all meet to be an execution: at most 8. The operator ignores all other rows, for
    /// example soft-deleted rows or rows of another application: it does not count, list, end or report them. After a
    /// change, run `jobexec schema` again to update the indexes and grants.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub filter: Vec<RowCondition>,
    /// Declares that no two rows have the same id although no index ensures it, for example because the table is a view.
    /// If two running rows have the same id and one of them is stale, the operator ends both.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub id_unique: bool,
    /// How the table has an execution run again, which `onStale: Retry` requires. If unset, `Retry` fails executions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<TableRetry>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            schema: "public".into(),
            name: "job_executions".into(),
            columns: Columns::default(),
            statuses: Statuses::default(),
            time_zone: "UTC".to_owned(),
            filter: Vec::new(),
            id_unique: false,
            retry: None,
        }
    }
}

/// The names of the columns of the table of executions. The operator writes `status`, `completedAt` and, if set,
/// `error`; with `retry`, also the columns of a retry. It only reads all other columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Columns {
    /// The primary key, of type smallint, integer, bigint, uuid, text or varchar.
    pub id: Identifier,
    /// The id of the job that the execution belongs to, of any type.
    pub job_id: Identifier,
    /// The number of the execution within its job, of type smallint, integer or bigint. `""` if executions have none.
    #[serde(with = "super::identifier::or_empty")]
    #[schemars(schema_with = "super::identifier::or_empty::schema")]
    pub execution_number: Option<Identifier>,
    /// The status, of type text, varchar, char, smallint, integer, bigint, boolean or an enum.
    pub status: Identifier,
    /// The start time of the execution, of type timestamptz or timestamp.
    pub started_at: Identifier,
    /// The end time of the execution, of type timestamptz or timestamp.
    pub completed_at: Identifier,
    /// The error, of a text type. The operator writes the reason to this column when it ends an execution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Identifier>,
    /// The type of the job, for policies with `selector.jobTypes`, of any type. If unset, `jobs.columns.type` applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_type: Option<Identifier>,
    /// The time of the worker's last heartbeat, of type timestamptz or timestamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_at: Option<Identifier>,
    /// How far the worker has come, of any type. The next attempt finds it in its row: with `retry.method: NewExecution`, the operator
    /// copies it to the new row; with `InPlace`, the row keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Identifier>,
    /// The time at which the worker last wrote the checkpoint, of type timestamptz or timestamp. It goes to the next attempt like
    /// `checkpoint`. If it is later than the start of the execution, it counts as a heartbeat, beside `heartbeatAt` or without it. With
    /// `heartbeat`, the heartbeats of workers count instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_at: Option<Identifier>,
    /// The worker that runs the execution, of any type. If the heartbeats of several workers stop at the same time, the
    /// workers more likely lost their connection than died; for this check, the operator groups executions by worker.
    /// If unset, it groups them by `workload`, or counts each execution as one worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<Identifier>,
    /// The workload that runs the execution, in the namespace of the store, of a text type: `Job/nightly-28`,
    /// `Pod/worker-7`, or the name of a Job. Takes effect only if the store sets `workloads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Identifier>,
    /// The creation time of the row, of type timestamptz or timestamp. It replaces a missing start time of a running
    /// execution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Identifier>,
    /// The total time that the execution has been paused so far, in seconds, of any numeric type. Paused time does not
    /// count towards the timeout. If the operator itself observed a longer pause through `statuses.paused`, it uses
    /// that instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_seconds: Option<Identifier>,
    /// The time for which the execution may run, as an interval, or in seconds as any numeric type. It overrides the timeouts
    /// of the store and of policies; a timeout of the execution's `JobExecution` overrides it. If the column is NULL, zero or negative, the execution has the timeout that it would have without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Identifier>,
    /// The time at which the execution is to be over, of type timestamptz or timestamp, in place of `timeout`. Time for which
    /// the execution was paused, and the grace period, are added to it. If it is not after the start of the execution, it
    /// does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<Identifier>,
    /// The time before which a scheduled execution does not start, of type timestamptz or timestamp. The operator writes the
    /// time of the next attempt to it when it retries an execution. Without it, the operator keeps the retry until that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<Identifier>,
    /// The number of the attempt, of type smallint, integer or bigint. With `retry.method: InPlace`, the operator adds 1 when it
    /// retries an execution; with `NewExecution`, it writes the number to the new row. Leave it unset if workers count
    /// attempts themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Identifier>,
    /// The id of the execution that a row retries, of the same type as `id`. With `retry.method: NewExecution`, the operator
    /// writes it to the new row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<Identifier>,
    /// The e-mail address of the execution's owner, for channels with `toOwner`, of any type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Identifier>,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            id: "id".into(),
            job_id: "job_id".into(),
            execution_number: Some("execution_number".into()),
            status: "status".into(),
            started_at: "started_at".into(),
            completed_at: "completed_at".into(),
            error: None,
            job_type: None,
            heartbeat_at: None,
            checkpoint: None,
            checkpoint_at: None,
            worker: None,
            workload: None,
            created_at: None,
            paused_seconds: None,
            timeout: None,
            deadline_at: None,
            scheduled_at: None,
            attempt: None,
            retry_of: None,
            owner: None,
        }
    }
}

/// The table of jobs. The status of a recurring job often remains that of its last finished run while the next one is
/// running. So an execution is stale (`JobFinished`) only if the operator observed its job as unfinished and then as
/// finished while the execution was running, or if `columns.finishedAt` is later than its start. Otherwise the operator
/// reports the execution as a suspect, and `jobexec cleanup --reason JobFinished` ends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Jobs {
    /// The schema of the table.
    pub schema: Identifier,
    /// The name of the table.
    pub name: Identifier,
    /// The columns that the operator reads.
    pub columns: JobColumns,
    /// The status texts of a finished job: 1 to 8.
    #[schemars(length(min = 1, max = 8))]
    pub finished: Vec<StatusText>,
    /// The time for which the operator must observe a job as finished before its running execution is stale, so that a
    /// commit in progress can complete.
    pub grace_period: Duration,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            schema: "public".into(),
            name: "jobs".into(),
            columns: JobColumns::default(),
            finished: vec!["completed".into(), "failed".into(), "cancelled".into()],
            grace_period: defaults::grace(),
        }
    }
}

/// The names of the columns of the table of jobs. The operator only reads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct JobColumns {
    /// The primary key, of the same type as the execution's `jobId`.
    pub id: Identifier,
    /// The status of the job, of type text, varchar, char, smallint, integer, bigint, boolean or an enum.
    pub status: Identifier,
    /// The type of the job, if the table of executions does not have it, of any type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<Identifier>,
    /// The time at which the job finished, of type timestamptz or timestamp. An execution that started before that time
    /// belongs to the finished run. An execution that started at or after that time does not, and the status of the job
    /// does not apply to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Identifier>,
}

impl Default for JobColumns {
    fn default() -> Self {
        Self { id: "id".into(), status: "status".into(), type_: None, finished_at: None }
    }
}

/// Settings for jobs with at most one active execution at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SingleActiveExecution {
    /// The minimum time since the start of a later execution before the earlier one is stale. A later execution that
    /// failed or was cancelled must also have run for at least this long, because it may have given up waiting for the
    /// earlier one: set a grace period longer than an execution waits for its job to become free. A later execution
    /// that ended at the moment it started, for example because it was skipped or rejected, does not make the earlier
    /// one stale.
    pub grace_period: Duration,
}

impl Default for SingleActiveExecution {
    fn default() -> Self {
        Self { grace_period: defaults::grace() }
    }
}

/// The texts of each status in the table: at most 8 each. The operator recognizes all texts and writes the first one. A
/// status text that is in the table but not in any list sets the condition `Consistent` to False: list unrelated texts
/// in `ignored`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[self.scheduled, self.running, self.paused, self.completed, self.failed, self.cancelled, self.ignored].all(a, a.all(s, \
     [self.scheduled, self.running, self.paused, self.completed, self.failed, self.cancelled, self.ignored]\
     .map(b, size(b.filter(t, t == s))).sum() == 1))"
).message("each status text can appear only once, in one list"))]
pub struct Statuses {
    /// The texts of executions that wait to start.
    #[serde(default = "defaults::scheduled")]
    #[schemars(length(min = 0, max = 8))]
    pub scheduled: Vec<StatusText>,
    /// The texts of running executions. Sweeps change only rows with one of these texts.
    #[serde(default = "defaults::running")]
    #[schemars(length(min = 1, max = 8))]
    pub running: Vec<StatusText>,
    /// The texts of executions that started and were halted on purpose. A paused execution has no deadline. When it
    /// resumes, the time for which the operator observed it as paused does not count towards its timeout.
    #[serde(default)]
    #[schemars(length(min = 0, max = 8))]
    pub paused: Vec<StatusText>,
    /// The texts of executions that ended successfully.
    #[serde(default = "defaults::completed")]
    #[schemars(length(min = 0, max = 8))]
    pub completed: Vec<StatusText>,
    /// The texts of executions that ended with an error. The operator writes the first text to a stale execution.
    #[serde(default = "defaults::failed")]
    #[schemars(length(min = 1, max = 8))]
    pub failed: Vec<StatusText>,
    /// The texts of cancelled executions.
    #[serde(default = "defaults::cancelled")]
    #[schemars(length(min = 0, max = 8))]
    pub cancelled: Vec<StatusText>,
    /// The texts of executions that the operator ignores, for example `skipped`.
    #[serde(default)]
    #[schemars(length(min = 0, max = 8))]
    pub ignored: Vec<StatusText>,
}

impl Statuses {
    /// Returns all texts.
    pub fn all(&self) -> impl Iterator<Item = &StatusText> {
        [
            &self.scheduled,
            &self.running,
            &self.paused,
            &self.completed,
            &self.failed,
            &self.cancelled,
            &self.ignored,
        ]
        .into_iter()
        .flatten()
    }
}

impl Default for Statuses {
    fn default() -> Self {
        Self {
            scheduled: defaults::scheduled(),
            running: defaults::running(),
            paused: Vec::new(),
            completed: defaults::completed(),
            failed: defaults::failed(),
            cancelled: defaults::cancelled(),
            ignored: Vec::new(),
        }
    }
}

/// Settings for executions that Kubernetes workloads in the store's namespace run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Workloads {
    /// The time for which the operator must observe a workload as failed or deleted before its running execution is
    /// stale, so that a commit in progress can complete.
    pub grace_period: Duration,
    /// The interpretation of a workload that was recreated with the same name while its execution was running, as a
    /// `StatefulSet` does with its Pods. `Alive` reports the execution (`WorkloadRecreated`) and does not end it,
    /// because the new workload may continue the work. `Gone` treats the workload as deleted.
    pub recreated: Recreated,
}

impl Default for Workloads {
    fn default() -> Self {
        Self { grace_period: defaults::grace(), recreated: Recreated::Alive }
    }
}

/// The interpretation of a workload that was recreated with the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Recreated {
    /// The execution may still be alive.
    #[default]
    Alive,
    /// The execution is dead.
    Gone,
}

mod defaults {
    use super::{Duration, StatusText};

    /// Leaves time for a commit in progress.
    pub(super) fn grace() -> Duration {
        "5m".parse().unwrap_or_else(|_| unreachable!("a default is a valid duration"))
    }

    pub(super) fn scheduled() -> Vec<StatusText> {
        vec!["scheduled".into()]
    }
    pub(super) fn running() -> Vec<StatusText> {
        vec!["running".into()]
    }
    pub(super) fn completed() -> Vec<StatusText> {
        vec!["completed".into()]
    }
    pub(super) fn failed() -> Vec<StatusText> {
        vec!["failed".into()]
    }
    pub(super) fn cancelled() -> Vec<StatusText> {
        vec!["cancelled".into()]
    }
}
