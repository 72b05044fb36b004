//! The tables of the random cases.

mod shapes;
mod statements;

use jobexec_operator::api::Table;
use jobexec_operator::api::filter::RowCondition;
use jobexec_operator::api::retry::{RetryMethod, TableRetry};
use jobexec_operator::api::store::WorkerHeartbeat;
use jobexec_operator::api::table::{Columns, JobColumns, Jobs, Statuses};
use jobexec_operator::db::Layout;

pub(super) use self::shapes::SHAPES;
use super::case::{KINDS, Status};

/// A pair of tables, by the types of their columns.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a way of its own in which tables differ")]
pub(super) struct Shape {
    pub(super) id: &'static str,
    pub(super) job_id: &'static str,
    /// `enum`: a type of its own.
    pub(super) job_type: Option<&'static str>,
    pub(super) status: &'static str,
    pub(super) started_at: &'static str,
    pub(super) completed_at: &'static str,
    pub(super) heartbeat_at: Option<&'static str>,
    /// True if the heartbeats are those of workers: each execution has one of its own.
    pub(super) of_workers: bool,
    /// The column with the time of the checkpoint: `heartbeat_at`, which then has no heartbeats, or `created_at` beside them.
    pub(super) checkpoint_at: Option<&'static str>,
    pub(super) created_at: Option<&'static str>,
    pub(super) zone: &'static str,
    pub(super) jobs: Option<JobsShape>,
    /// True if there is a text for cancelled executions.
    pub(super) cancels: bool,
    pub(super) error: bool,
    /// True if executions can be paused, and the type of the column with the duration of pauses.
    pub(super) pauses: bool,
    pub(super) paused_seconds: Option<&'static str>,
    /// The type of the column with a timeout of the row, or of the one with a deadline.
    pub(super) timeout: Option<&'static str>,
    pub(super) deadline_at: Option<&'static str>,
    /// True if it has the indexes that `jobexec schema` creates.
    pub(super) indexed: bool,
    pub(super) partitioned: bool,
    /// True if it also contains rows of others.
    pub(super) filtered: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct JobsShape {
    pub(super) id: &'static str,
    pub(super) type_: Option<&'static str>,
    pub(super) grace: &'static str,
    /// The type of the column with the end of a job.
    pub(super) finished_at: Option<&'static str>,
}

/// Values of the filter's columns: the first makes a row one of the application's, each other excludes it in a different
/// way.
pub(super) const OWNERS: [[&str; 3]; 5] = [
    ["it's \\ ours", "NULL", "7"],
    ["another's", "NULL", "7"],
    ["mine", "now()", "7"],
    ["mine", "NULL", "NULL"],
    ["mine", "now()", "8"],
];

impl Shape {
    pub(super) fn knows_types(&self) -> bool {
        self.job_type.is_some() || self.jobs.is_some_and(|jobs| jobs.type_.is_some())
    }

    /// Reports whether executions run again in their row. The start of those in partitions cannot be cleared.
    pub(super) fn retries(&self) -> bool {
        self.indexed && !self.partitioned
    }

    /// Returns the last heartbeat of a row with these times: a checkpoint counts if it is later than the start.
    pub(super) fn heartbeat(
        &self,
        start: Option<i128>,
        heartbeat: Option<i128>,
        created: Option<i128>,
    ) -> Option<i128> {
        let of_run = |at: &i128| start.is_some_and(|start| *at > start);
        match self.checkpoint_at {
            None => heartbeat,
            Some("heartbeat_at") => heartbeat.filter(of_run),
            Some(_) => heartbeat.max(created.filter(of_run)),
        }
    }

    /// The id of the execution of this number, as Postgres prints it.
    pub(super) fn id(&self, n: usize) -> String {
        key(self.id, n)
    }

    /// The id of the job of this number, as Postgres prints it.
    pub(super) fn job(&self, n: u8) -> String {
        key(self.job_id, n.into())
    }

    /// The type of this number, as Postgres prints it.
    pub(super) fn kind(&self, n: u8) -> String {
        kind(self.job_type.or(self.jobs.and_then(|jobs| jobs.type_)).unwrap_or("text"), n)
    }

    /// The text of a status.
    pub(super) fn status(&self, status: Status) -> &'static str {
        match status {
            // The mapping does not contain its text then.
            Status::Cancelled if !self.cancels => "called off",
            other => other.text(),
        }
    }

    /// The filter for rows that are executions.
    fn filter(&self) -> Vec<RowCondition> {
        if !self.filtered {
            return Vec::new();
        }
        let filter = serde_json::json!([
            {"column": "app", "in": ["mine", "it's \\ ours"]},
            {"column": "deleted_at", "isNull": true},
            {"column": "tenant", "equals": "7"},
            {"column": "id", "notNull": true},
        ]);
        serde_json::from_value(filter).unwrap()
    }

    /// The layout as users would write it into the spec of the store.
    pub(super) fn layout(&self, schema: &str) -> Layout {
        let named = |there: bool, name: &str| there.then(|| name.into());
        Layout {
            recorded: false,
            adapter: None,
            needs_number: false,
            table: Table {
                schema: schema.into(),
                name: "jobExecutions".into(),
                columns: Columns {
                    job_id: "jobId".into(),
                    error: named(self.error, "error"),
                    job_type: named(self.job_type.is_some(), "jobType"),
                    heartbeat_at: named(
                        self.heartbeat_at.is_some()
                            && !self.of_workers
                            && self.checkpoint_at != Some("heartbeat_at"),
                        "heartbeat_at",
                    ),
                    checkpoint_at: self.checkpoint_at.map(Into::into),
                    created_at: named(self.created_at.is_some(), "created_at"),
                    paused_seconds: named(self.paused_seconds.is_some(), "paused_seconds"),
                    timeout: named(self.timeout.is_some(), "max_run"),
                    deadline_at: named(self.deadline_at.is_some(), "until"),
                    ..Columns::default()
                },
                statuses: Statuses {
                    running: vec!["running".into(), "it's on".into()],
                    failed: vec!["gave up".into(), "failed".into()],
                    paused: if self.pauses { vec!["on hold".into()] } else { Vec::new() },
                    ignored: vec!["skipped".into()],
                    cancelled: if self.cancels { vec!["cancelled".into()] } else { Vec::new() },
                    ..Statuses::default()
                },
                time_zone: self.zone.to_owned(),
                filter: self.filter(),
                id_unique: false,
                retry: self
                    .retries()
                    .then(|| TableRetry { method: RetryMethod::InPlace, copy_columns: Vec::new() }),
            },
            schema_owner: None,
            heartbeat: self.of_workers.then(|| WorkerHeartbeat {
                schema: schema.into(),
                table: "workers".into(),
                key: "worker".into(),
                by: "id".into(),
                at: "seen".into(),
            }),
            jobs: self.jobs.map(|jobs| Jobs {
                schema: schema.into(),
                columns: JobColumns {
                    type_: named(jobs.type_.is_some(), "type"),
                    finished_at: named(jobs.finished_at.is_some(), "ended"),
                    ..JobColumns::default()
                },
                finished: vec!["completed".into(), "failed".into()],
                grace_period: jobs.grace.parse().unwrap(),
                ..Jobs::default()
            }),
        }
    }
}

/// Ids that are easily mistaken for something else, if the type allows that.
pub(super) fn key(type_: &str, n: usize) -> String {
    match type_ {
        "uuid" => format!("a0eebc99-9c0b-4ef8-bb6d-{n:012}"),
        "numeric" | "varchar(8)" => format!("{n}.50"),
        "text" | "varchar(60)" => format!("{n}'s \\ \"{n}\", no $1"),
        // As long as the column: the comparison of shorter values is a separate matter.
        "char(12)" => format!("{n:012}"),
        _ => (n + 1).to_string(),
    }
}

fn kind(type_: &str, n: u8) -> String {
    match type_ {
        "smallint" => n.to_string(),
        _ => KINDS[usize::from(n)].to_owned(),
    }
}

/// A type in the table of jobs.
pub(super) fn listed_kind(jobs: JobsShape, n: u8) -> String {
    kind(jobs.type_.unwrap_or("text"), n)
}
