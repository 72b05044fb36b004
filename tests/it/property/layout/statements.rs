//! The SQL that creates, fills and reads the tables of a shape.

use super::shapes::LOCAL;
use super::{OWNERS, Shape};
use crate::property::case::{KINDS, STATUSES};

impl Shape {
    /// Creates the tables.
    pub(in crate::property) fn ddl(&self, schema: &str) -> String {
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
            ("max_run", self.timeout),
            ("until", self.deadline_at),
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
    pub(in crate::property) fn fill(&self, schema: &str) -> Vec<String> {
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
        columns.extend(self.timeout.map(|type_| match type_ {
            "interval" => ("max_run", "make_interval(secs => r.max_run)".to_owned()),
            _ => ("max_run", format!("r.max_run::{type_}")),
        }));
        columns.extend(self.deadline_at.map(|type_| ("until", self.stored("r.until", type_))));
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
             (id text, job text, number integer, status text, kind text, start text, \"end\" text, heartbeat text, created text, paused integer, max_run integer, until text, outside integer)",
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
    pub(in crate::property) fn fill_workers(&self, schema: &str) -> Option<String> {
        self.of_workers.then(|| {
            format!(
                "TRUNCATE {schema}.workers; \
                 INSERT INTO {schema}.workers SELECT id, heartbeat_at FROM {schema}.\"jobExecutions\""
            )
        })
    }

    /// Reads the rows: id, the whole row, and each time as an instant.
    pub(in crate::property) fn read(&self, schema: &str) -> String {
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
