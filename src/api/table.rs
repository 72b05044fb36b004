//! How the application's table of executions looks: its name, its columns, the texts of its statuses.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;
use super::filter::RowCondition;

/// A Postgres identifier: letters, digits, `_` and `$`, not starting with a digit, at most 63 characters. It is
/// matched as written (case-sensitive), as if it stood in double quotes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Identifier(
    #[schemars(length(max = 63), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_$]{0,62}$"))] pub String,
);

/// The text of a status as the table stores it (the label, where the column is an enum): 1 to 63 characters, none of
/// them a control character.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct StatusText(#[schemars(length(min = 1, max = 63), regex(pattern = r"^\P{Cc}+$"))] pub String);

impl From<&str> for Identifier {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl From<&str> for StatusText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Where the executions are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Table {
    /// The schema of the table.
    pub schema: Identifier,
    /// The name of the table (an ordinary or a partitioned table).
    pub name: Identifier,
    /// The columns that the operator reads and writes.
    pub columns: Columns,
    /// The status texts of the application.
    pub statuses: Statuses,
    /// The time zone of columns of type `timestamp` (without time zone), as a name that Postgres knows, for example
    /// `UTC` or `Europe/Berlin`. It has no meaning for columns of type `timestamptz`.
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// Which rows are executions, where not all are: those for which each of these conditions holds. Other rows, such as
    /// those that were deleted softly or are another application's, do not exist for the operator: it neither counts, lists
    /// nor ends them, and nobody is told of them. Run `jobexec schema` again after a change, for the indexes and the grants.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub filter: Vec<RowCondition>,
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
        }
    }
}

/// The names of the columns. The operator writes `status`, `completedAt` and, if it is named, `error`; all others
/// are only read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Columns {
    /// The primary key: smallint, integer, bigint, uuid, text or varchar.
    pub id: Identifier,
    /// The job that the execution belongs to, of any type.
    pub job_id: Identifier,
    /// The number of the execution within its job: smallint, integer or bigint.
    pub execution_number: Identifier,
    /// The status: text, varchar, char or an enum.
    pub status: Identifier,
    /// When the execution started: timestamptz or timestamp.
    pub started_at: Identifier,
    /// When the execution ended: timestamptz or timestamp.
    pub completed_at: Identifier,
    /// A text column that receives the reason when the operator ends an execution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Identifier>,
    /// The type of the job, by which policies select: of any type. Without it, `jobs.columns.type` may tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_type: Option<Identifier>,
    /// When the worker last said that it is alive: timestamptz or timestamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_at: Option<Identifier>,
    /// The worker that runs the execution: of any type. Where several workers stop to send heartbeats at once, they were more
    /// likely cut off than killed, and the heartbeats of one worker's executions count as one. Without it the workload counts, or
    /// each execution for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<Identifier>,
    /// The workload that runs the execution, in the namespace of the store: a text such as `Job/nightly-28`,
    /// `Pod/worker-7`, or just the name of a Job. It counts where the store has `workloads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Identifier>,
    /// When the row was made: timestamptz or timestamp. It counts as the start of a running execution without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Identifier>,
    /// For how many seconds the execution has been paused so far, which do not count: of any numeric type. It adds to what
    /// the operator saw of `statuses.paused` itself what it could not see; of the two the longer one counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_seconds: Option<Identifier>,
    /// The e-mail address of the owner of the execution, for channels with `toOwner`: of any type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Identifier>,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            id: "id".into(),
            job_id: "job_id".into(),
            execution_number: "execution_number".into(),
            status: "status".into(),
            started_at: "started_at".into(),
            completed_at: "completed_at".into(),
            error: None,
            job_type: None,
            heartbeat_at: None,
            worker: None,
            workload: None,
            created_at: None,
            paused_seconds: None,
            owner: None,
        }
    }
}

/// The table of jobs. The status of a job that is run again and again is often that of its last finished run, also while the
/// next one runs. So an execution is stale (`JobFinished`) only where its job was seen unfinished and then finished while the
/// execution ran, or where `columns.finishedAt` is later than its start. Otherwise the execution is reported as a suspect, and
/// `jobexec cleanup --reason JobFinished` ends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Jobs {
    /// The schema of the table.
    pub schema: Identifier,
    /// The name of the table.
    pub name: Identifier,
    /// The columns that the operator reads.
    pub columns: JobColumns,
    /// The status texts of a job that is finished.
    #[schemars(length(min = 1, max = 8))]
    pub finished: Vec<StatusText>,
    /// How long a job must be seen finished before an execution of it that still runs is stale, for a commit that is
    /// under way.
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

/// The columns of the table of jobs. All are only read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct JobColumns {
    /// The primary key, of the same type as the execution's `jobId`.
    pub id: Identifier,
    /// The status: text, varchar, char or an enum.
    pub status: Identifier,
    /// The type of the job, where the executions do not have it: of any type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<Identifier>,
    /// When the job finished: timestamptz or timestamp. An execution that started before that time is an execution of the
    /// run that finished; one that started at it or later is not, and the status says nothing about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Identifier>,
}

impl Default for JobColumns {
    fn default() -> Self {
        Self { id: "id".into(), status: "status".into(), type_: None, finished_at: None }
    }
}

/// The executions of a job come one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SingleActiveExecution {
    /// How long ago a later execution must have started, that runs or ran, before the earlier one is stale; and how long one
    /// must have taken that failed or was cancelled, since it may have waited for the earlier one and given up. Make it
    /// longer than an execution waits for its job to be free. One that was skipped or turned away, so that it ended in the
    /// moment it started, does not count.
    pub grace_period: Duration,
}

impl Default for SingleActiveExecution {
    fn default() -> Self {
        Self { grace_period: defaults::grace() }
    }
}

/// The texts that stand for each status. Where several are given the operator recognises all and writes the first.
/// A status that is found in the table but not listed here turns the condition `Consistent` to False: list those that
/// are none of the others in `ignored`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[self.scheduled, self.running, self.paused, self.completed, self.failed, self.cancelled, self.ignored].all(a, a.all(s, \
     [self.scheduled, self.running, self.paused, self.completed, self.failed, self.cancelled, self.ignored]\
     .map(b, size(b.filter(t, t == s))).sum() == 1))"
).message("a status text may stand for one status only, and only once"))]
pub struct Statuses {
    /// Waiting to be started.
    #[serde(default = "defaults::scheduled")]
    #[schemars(length(min = 0, max = 8))]
    pub scheduled: Vec<StatusText>,
    /// Being worked on. Only these rows are ever changed by the operator.
    #[serde(default = "defaults::running")]
    #[schemars(length(min = 1, max = 8))]
    pub running: Vec<StatusText>,
    /// Begun, and halted on purpose. Such an execution has no deadline, and the time for which the operator saw it so does
    /// not count when it runs again.
    #[serde(default)]
    #[schemars(length(min = 0, max = 8))]
    pub paused: Vec<StatusText>,
    /// Ended well.
    #[serde(default = "defaults::completed")]
    #[schemars(length(min = 1, max = 8))]
    pub completed: Vec<StatusText>,
    /// Ended badly. The first text is what the operator writes to a stale execution.
    #[serde(default = "defaults::failed")]
    #[schemars(length(min = 1, max = 8))]
    pub failed: Vec<StatusText>,
    /// Called off.
    #[serde(default = "defaults::cancelled")]
    #[schemars(length(min = 0, max = 8))]
    pub cancelled: Vec<StatusText>,
    /// None of the others, and none of the operator's business, as `skipped` may be.
    #[serde(default)]
    #[schemars(length(min = 0, max = 8))]
    pub ignored: Vec<StatusText>,
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

/// The workloads that run executions are Kubernetes objects of the store's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Workloads {
    /// How long a workload must be seen failed or gone before an execution of it that still runs is stale, for a commit
    /// that is under way.
    pub grace_period: Duration,
    /// What it means that a workload was made again under its name while an execution of it ran, as a `StatefulSet` does with
    /// its Pods: `Alive` reports it (`WorkloadRecreated`) and ends nothing, since the new one may go on with the work; `Gone` counts
    /// as if the workload were gone.
    pub recreated: Recreated,
}

impl Default for Workloads {
    fn default() -> Self {
        Self { grace_period: defaults::grace(), recreated: Recreated::Alive }
    }
}

/// What it means that a workload was made again under its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Recreated {
    /// The execution may live on.
    #[default]
    Alive,
    /// The execution is dead.
    Gone,
}

mod defaults {
    use super::{Duration, StatusText};

    /// For a commit that is under way.
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
