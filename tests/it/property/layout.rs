//! The tables of the random cases.

use jobexec_operator::api::Table;
use jobexec_operator::api::filter::RowCondition;
use jobexec_operator::api::store::WorkerHeartbeat;
use jobexec_operator::api::table::{Columns, JobColumns, Jobs, Statuses};
use jobexec_operator::db::Layout;

use super::case::{KINDS, STATUSES, Status};

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
    pub(super) created_at: Option<&'static str>,
    pub(super) zone: &'static str,
    pub(super) jobs: Option<JobsShape>,
    /// True if there is a text for cancelled executions.
    pub(super) cancels: bool,
    pub(super) error: bool,
    /// True if executions can be paused, and the type of the column with the duration of pauses.
    pub(super) pauses: bool,
    pub(super) paused_seconds: Option<&'static str>,
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

const PLAIN: Shape = Shape {
    id: "bigint",
    job_id: "bigint",
    job_type: None,
    status: "text",
    started_at: "timestamptz",
    completed_at: "timestamptz",
    heartbeat_at: None,
    of_workers: false,
    created_at: None,
    zone: "UTC",
    jobs: None,
    cancels: true,
    error: false,
    pauses: false,
    paused_seconds: None,
    indexed: false,
    partitioned: false,
    filtered: false,
};

#[allow(clippy::unnecessary_wraps, reason = "it makes the table below readable")]
const fn jobs(id: &'static str, type_: Option<&'static str>, grace: &'static str) -> Option<JobsShape> {
    Some(JobsShape { id, type_, grace, finished_at: None })
}

/// The same for jobs with a known end.
#[allow(clippy::unnecessary_wraps, reason = "it makes the table below readable")]
const fn dated(
    id: &'static str,
    type_: Option<&'static str>,
    grace: &'static str,
    finished_at: &'static str,
) -> Option<JobsShape> {
    Some(JobsShape { id, type_, grace, finished_at: Some(finished_at) })
}

const INSTANT: &str = "timestamptz";
const LOCAL: &str = "timestamp";

pub(super) const SHAPES: [Shape; 21] = [
    PLAIN,
    Shape {
        indexed: true,
        error: true,
        heartbeat_at: Some(INSTANT),
        created_at: Some(INSTANT),
        pauses: true,
        ..PLAIN
    },
    Shape {
        job_type: Some("text"),
        indexed: true,
        heartbeat_at: Some(INSTANT),
        created_at: Some(INSTANT),
        pauses: true,
        paused_seconds: Some("integer"),
        jobs: dated("bigint", None, "20m", INSTANT),
        ..PLAIN
    },
    Shape {
        id: "uuid",
        job_id: "uuid",
        jobs: jobs("uuid", Some("text"), "0s"),
        indexed: true,
        heartbeat_at: Some(INSTANT),
        ..PLAIN
    },
    Shape {
        id: "text",
        job_id: "text",
        job_type: Some("enum"),
        status: "enum",
        indexed: true,
        created_at: Some(INSTANT),
        jobs: jobs("text", None, "30m"),
        ..PLAIN
    },
    Shape {
        job_id: "numeric",
        job_type: Some("varchar(20)"),
        started_at: LOCAL,
        completed_at: LOCAL,
        heartbeat_at: Some(LOCAL),
        indexed: true,
        ..PLAIN
    },
    Shape {
        job_type: Some("text"),
        started_at: LOCAL,
        completed_at: LOCAL,
        heartbeat_at: Some(LOCAL),
        created_at: Some(LOCAL),
        zone: "Europe/Berlin",
        jobs: dated("bigint", Some("text"), "10m", LOCAL),
        indexed: true,
        paused_seconds: Some("numeric"),
        error: true,
        ..PLAIN
    },
    Shape {
        id: "integer",
        job_id: "integer",
        started_at: LOCAL,
        zone: "Europe/Berlin",
        created_at: Some(INSTANT),
        heartbeat_at: Some(LOCAL),
        jobs: jobs("bigint", Some("enum"), "1h"),
        pauses: true,
        paused_seconds: Some("real"),
        ..PLAIN
    },
    Shape {
        id: "varchar(60)",
        job_id: "text",
        jobs: jobs("varchar(60)", Some("text"), "10m"),
        heartbeat_at: Some(LOCAL),
        created_at: Some(INSTANT),
        indexed: true,
        ..PLAIN
    },
    Shape {
        job_id: "varchar(8)",
        // A different type than in the table of executions.
        jobs: jobs("numeric", Some("smallint"), "10m"),
        heartbeat_at: Some(INSTANT),
        indexed: true,
        cancels: false,
        ..PLAIN
    },
    Shape {
        id: "uuid",
        job_type: Some("smallint"),
        created_at: Some(LOCAL),
        zone: "Europe/Berlin",
        status: "varchar(10)",
        cancels: false,
        ..PLAIN
    },
    Shape {
        job_type: Some("text"),
        heartbeat_at: Some(INSTANT),
        created_at: Some(INSTANT),
        jobs: dated("bigint", Some("text"), "40m", LOCAL),
        indexed: true,
        partitioned: true,
        ..PLAIN
    },
    Shape {
        id: "smallint",
        job_id: "char(12)",
        jobs: dated("char(12)", Some("varchar(20)"), "20m", INSTANT),
        heartbeat_at: Some(INSTANT),
        error: true,
        ..PLAIN
    },
    Shape {
        id: "text",
        job_id: "bigint",
        started_at: LOCAL,
        created_at: Some(LOCAL),
        indexed: true,
        jobs: jobs("bigint", Some("text"), "20m"),
        ..PLAIN
    },
    Shape { job_type: Some("text"), heartbeat_at: Some(INSTANT), jobs: jobs("integer", None, "0s"), ..PLAIN },
    Shape {
        job_type: Some("text"),
        started_at: LOCAL,
        zone: "Europe/Berlin",
        indexed: true,
        created_at: Some(INSTANT),
        ..PLAIN
    },
    Shape { filtered: true, ..PLAIN },
    Shape {
        job_type: Some("text"),
        heartbeat_at: Some(INSTANT),
        of_workers: true,
        created_at: Some(INSTANT),
        pauses: true,
        jobs: dated("bigint", None, "20m", INSTANT),
        indexed: true,
        ..PLAIN
    },
    Shape {
        id: "text",
        started_at: LOCAL,
        heartbeat_at: Some(LOCAL),
        of_workers: true,
        zone: "Europe/Berlin",
        error: true,
        ..PLAIN
    },
    Shape {
        job_type: Some("text"),
        heartbeat_at: Some(INSTANT),
        created_at: Some(INSTANT),
        jobs: jobs("bigint", None, "20m"),
        indexed: true,
        filtered: true,
        ..PLAIN
    },
    Shape {
        id: "uuid",
        job_id: "text",
        started_at: LOCAL,
        zone: "Europe/Berlin",
        jobs: jobs("text", Some("text"), "10m"),
        indexed: true,
        filtered: true,
        ..PLAIN
    },
];

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
            table: Table {
                schema: schema.into(),
                name: "jobExecutions".into(),
                columns: Columns {
                    job_id: "jobId".into(),
                    error: named(self.error, "error"),
                    job_type: named(self.job_type.is_some(), "jobType"),
                    heartbeat_at: named(self.heartbeat_at.is_some() && !self.of_workers, "heartbeat_at"),
                    created_at: named(self.created_at.is_some(), "created_at"),
                    paused_seconds: named(self.paused_seconds.is_some(), "paused_seconds"),
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

    /// Creates the tables.
    pub(super) fn ddl(&self, schema: &str) -> String {
        let typed = |type_: &str, labels: &str| match type_ {
            "enum" => format!("{schema}.{labels}"),
            other => other.to_owned(),
        };
        let quoted = |texts: Vec<&str>| {
            texts.iter().map(|text| format!("'{}'", text.replace('\'', "''"))).collect::<Vec<_>>().join(", ")
        };
        let mut columns = format!(
            "id {} PRIMARY KEY, \"jobId\" {}, execution_number integer, status {}, started_at {}, completed_at {}",
            self.id,
            self.job_id,
            typed(self.status, "status"),
            self.started_at,
            self.completed_at
        );
        let more = [
            ("error", self.error.then_some("varchar(30)")),
            ("\"jobType\"", self.job_type),
            ("heartbeat_at", self.heartbeat_at),
            ("created_at", self.created_at),
            ("paused_seconds", self.paused_seconds),
        ];
        for (name, type_) in more {
            columns += &type_.map_or(String::new(), |type_| format!(", {name} {}", typed(type_, "kind")));
        }
        if self.filtered {
            columns += ", app text, deleted_at timestamptz, tenant integer";
        }
        let (by, parts) = if self.partitioned {
            let part = |name: &str, bounds: &str| {
                format!("CREATE TABLE {schema}.{name} PARTITION OF {schema}.\"jobExecutions\" {bounds};")
            };
            let parts = part("few", "FOR VALUES FROM (MINVALUE) TO (6)") + &part("many", "DEFAULT");
            (" PARTITION BY RANGE (id)", parts)
        } else {
            ("", String::new())
        };
        let jobs = self.jobs.map_or(String::new(), |jobs| {
            let type_ = jobs.type_.map_or(String::new(), |type_| format!(", type {}", typed(type_, "kind")));
            let ended = jobs.finished_at.map_or(String::new(), |type_| format!(", ended {type_}"));
            format!("CREATE TABLE {schema}.jobs (id {} PRIMARY KEY, status text{type_}{ended});", jobs.id)
        });
        let seen = self.heartbeat_at.filter(|_| self.of_workers);
        let workers = seen.map_or(String::new(), |type_| {
            format!("CREATE TABLE {schema}.workers (worker {} PRIMARY KEY, seen {type_});", self.id)
        });
        format!(
            "CREATE SCHEMA {schema}; \
             CREATE TYPE {schema}.kind AS ENUM ({kinds}); \
             CREATE TYPE {schema}.status AS ENUM ({statuses}); \
             CREATE TABLE {schema}.\"jobExecutions\" ({columns}){by}; {parts} {jobs} {workers}",
            kinds = quoted(KINDS.to_vec()),
            statuses = quoted(STATUSES.iter().map(|s| s.text()).chain(["gave up", "called off"]).collect()),
        )
    }

    /// Fills the tables from two parameters with rows as JSON.
    pub(super) fn fill(&self, schema: &str) -> Vec<String> {
        let own = |type_: &str, labels: &str| match type_ {
            "enum" => format!("{schema}.{labels}"),
            other => other.to_owned(),
        };
        let mut columns = vec![
            ("id", format!("r.id::{}", self.id)),
            ("\"jobId\"", format!("r.job::{}", self.job_id)),
            ("execution_number", "r.number".to_owned()),
            ("status", format!("r.status::{}", own(self.status, "status"))),
            ("started_at", self.stored("r.start", self.started_at)),
            ("completed_at", self.stored("r.\"end\"", self.completed_at)),
        ];
        columns.extend(self.job_type.map(|type_| ("\"jobType\"", format!("r.kind::{}", own(type_, "kind")))));
        columns.extend(self.heartbeat_at.map(|type_| ("heartbeat_at", self.stored("r.heartbeat", type_))));
        columns.extend(self.created_at.map(|type_| ("created_at", self.stored("r.created", type_))));
        columns.extend(self.paused_seconds.map(|type_| ("paused_seconds", format!("r.paused::{type_}"))));
        if self.filtered {
            let of = |place| {
                let values: Vec<String> = OWNERS
                    .iter()
                    .enumerate()
                    .map(|(n, owner)| format!("WHEN {n} THEN {}", sql(owner[place])))
                    .collect();
                format!("CASE r.outside {} END", values.join(" "))
            };
            columns.extend([("app", of(0)), ("deleted_at", of(1)), ("tenant", of(2))]);
        }
        let (names, values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let rows = format!(
            "INSERT INTO {schema}.\"jobExecutions\" ({}) SELECT {} FROM jsonb_to_recordset($1::jsonb) AS r \
             (id text, job text, number integer, status text, kind text, start text, \"end\" text, heartbeat text, created text, paused integer, outside integer)",
            names.join(", "),
            values.join(", ")
        );
        let jobs = self.jobs.map(|jobs| {
            let (name, value) = jobs.type_.map_or((String::new(), String::new()), |type_| {
                (", type".to_owned(), format!(", r.kind::{}", own(type_, "kind")))
            });
            let (ended, at) = jobs.finished_at.map_or((String::new(), String::new()), |type_| {
                (", ended".to_owned(), format!(", {}", self.stored("r.ended", type_)))
            });
            format!(
                "INSERT INTO {schema}.jobs (id, status{name}{ended}) SELECT r.id::{}, r.status{value}{at} \
                 FROM jsonb_to_recordset($1::jsonb) AS r (id text, status text, kind text, ended text)",
                jobs.id
            )
        });
        [rows].into_iter().chain(jobs).collect()
    }

    /// Fills the table of workers, if there is one: each execution has a worker of its own.
    pub(super) fn fill_workers(&self, schema: &str) -> Option<String> {
        self.of_workers.then(|| {
            format!(
                "TRUNCATE {schema}.workers; \
                 INSERT INTO {schema}.workers SELECT id, heartbeat_at FROM {schema}.\"jobExecutions\""
            )
        })
    }

    /// Reads the rows: id, the whole row, and each time as an instant.
    pub(super) fn read(&self, schema: &str) -> String {
        let micros = |name: &str, type_: Option<&str>| {
            type_.map_or("NULL".to_owned(), |type_| {
                format!("(EXTRACT(epoch FROM {}) * 1000000)::text", self.instant(name, type_))
            })
        };
        format!(
            "SELECT id::text, to_jsonb(t), {}, {}, {}, {} FROM {schema}.\"jobExecutions\" AS t",
            micros("started_at", Some(self.started_at)),
            micros("heartbeat_at", self.heartbeat_at),
            micros("created_at", self.created_at),
            self.instant("completed_at", self.completed_at),
        )
    }

    fn stored(&self, text: &str, type_: &str) -> String {
        match type_ {
            LOCAL => format!("{text}::timestamptz AT TIME ZONE '{}'", self.zone),
            _ => format!("{text}::timestamptz"),
        }
    }

    fn instant(&self, column: &str, type_: &str) -> String {
        match type_ {
            LOCAL => format!("({column} AT TIME ZONE '{}')", self.zone),
            _ => column.to_owned(),
        }
    }
}

/// A value of the filter's columns.
fn sql(text: &str) -> String {
    match text {
        "NULL" | "now()" | "7" | "8" => text.to_owned(),
        text => format!("'{}'", text.replace('\'', "''")),
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
