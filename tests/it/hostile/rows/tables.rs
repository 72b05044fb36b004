//! The tables that the rows are put into, with columns of all types, and what must hold on each.

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::hostile::work::Work;
use crate::support::World;

/// The number of columns in [`Shape::columns`].
pub(super) const COLUMNS: usize = 12;

/// A table: the types of its columns in the order of [`NAMES`], and of the table of jobs.
pub(super) struct Shape {
    pub(super) columns: [&'static str; COLUMNS],
    job_types: &'static str,
    zone: &'static str,
    /// The ids of a stale execution, of a live one, and of their job.
    ids: [&'static str; 3],
    kind: &'static str,
}

pub(super) const NAMES: [&str; COLUMNS] = [
    "id",
    "job_id",
    "execution_number",
    "status",
    "started_at",
    "completed_at",
    "heartbeat_at",
    "created_at",
    "job_type",
    "workload",
    "owner",
    "error",
];

const UUIDS: [&str; 3] = [
    "a0eebc99-9c0b-4ef8-bb6d-000000000001",
    "a0eebc99-9c0b-4ef8-bb6d-000000000002",
    "a0eebc99-9c0b-4ef8-bb6d-000000000003",
];

pub(super) const SHAPES: [Shape; 5] = [
    Shape {
        columns: [
            "text",
            "text",
            "bigint",
            "text",
            "timestamp",
            "timestamp",
            "timestamp",
            "timestamp",
            "text",
            "text",
            "text",
            "text",
        ],
        job_types: "id text PRIMARY KEY, status text",
        zone: "America/Los_Angeles",
        ids: ["stale", "live", "job"],
        kind: "etl",
    },
    Shape {
        columns: [
            "varchar(3000)",
            "numeric",
            "integer",
            "label",
            "timestamp",
            "timestamptz",
            "timestamptz",
            "timestamp",
            "kind",
            "name",
            "varchar(9000)",
            "varchar(40)",
        ],
        job_types: "id numeric PRIMARY KEY, status label",
        zone: "Asia/Kolkata",
        ids: ["stale", "live", "77"],
        kind: "etl",
    },
    Shape {
        columns: [
            "bigint",
            "bigint",
            "smallint",
            "varchar(20)",
            "timestamptz",
            "timestamptz",
            "timestamptz",
            "timestamptz",
            "varchar(9000)",
            "text",
            "text",
            "text",
        ],
        job_types: "id bigint PRIMARY KEY, status text",
        zone: "UTC",
        ids: ["1000001", "1000002", "7"],
        kind: "etl",
    },
    Shape {
        columns: [
            "uuid",
            "uuid",
            "bigint",
            "char(12)",
            "timestamp",
            "timestamp",
            "timestamp",
            "timestamptz",
            "numeric",
            "text",
            "char(300)",
            "char(40)",
        ],
        job_types: "id uuid PRIMARY KEY, status char(12)",
        zone: "UTC",
        ids: UUIDS,
        kind: "1.5",
    },
    Shape {
        columns: [
            "smallint",
            "text",
            "integer",
            "name",
            "timestamptz",
            "timestamp",
            "timestamp",
            "timestamptz",
            "text",
            "text",
            "text",
            "name",
        ],
        job_types: "id varchar(9000) PRIMARY KEY, status name",
        zone: "Pacific/Kiritimati",
        ids: ["1", "2", "job"],
        kind: "etl",
    },
];

impl Shape {
    fn spec(&self, schema: &str) -> Value {
        json!({
            "table": {
                "schema": schema, "timeZone": self.zone,
                "columns": {"error": "error", "jobType": "job_type", "heartbeatAt": "heartbeat_at", "createdAt": "created_at",
                            "workload": "workload", "owner": "owner"},
            },
            "jobs": {"schema": schema, "gracePeriod": "0s"}, "heartbeatTimeout": "10h",
            "singleActiveExecution": {"gracePeriod": "0s"}, "workloads": {"gracePeriod": "0s"},
        })
    }

    async fn create(&self, world: &World, schema: &str) {
        let columns: Vec<String> =
            NAMES.iter().zip(self.columns).map(|(name, type_)| format!("{name} {type_}")).collect();
        world
            .sql(&format!(
                "CREATE SCHEMA {schema}; CREATE TABLE {schema}.job_executions ({}, PRIMARY KEY (id)); \
                 CREATE TABLE {schema}.jobs ({})",
                columns.join(", "),
                self.job_types
            ))
            .await;
        world.prepare_for(&self.spec(schema)).await;
    }

    /// Empties the table, and inserts the stale and the live execution.
    pub(super) async fn begin(&self, world: &World, schema: &str) {
        let row = |id: &str, hours: u8| {
            format!(
                "INSERT INTO {schema}.job_executions (id, job_id, execution_number, status, started_at, job_type, workload) \
                 VALUES ('{id}', '{}', 100 - {hours}, 'running', now() - interval '{hours} hours', '{}', 'Job/alive')",
                self.ids[2], self.kind
            )
        };
        world
            .sql(&format!(
                "SET TimeZone = '{}'; TRUNCATE {schema}.job_executions, {schema}.jobs, jobexec.events, jobexec.suspects, \
                 jobexec.sweeps, jobexec.outbox, jobexec.rules; {}; {}; RESET TimeZone",
                self.zone,
                row(self.ids[0], 48),
                row(self.ids[1], 0)
            ))
            .await;
    }

    /// Inserts a row, unless Postgres itself refuses it, and one for its job.
    pub(super) async fn put(&self, world: &World, schema: &str, values: &[String]) {
        let mut connection = world.pool.acquire().await.unwrap();
        let statements = [
            format!("SET TimeZone = '{}'", self.zone),
            format!(
                "INSERT INTO {schema}.job_executions ({}) VALUES ({}) ON CONFLICT DO NOTHING",
                NAMES.join(", "),
                values.join(", ")
            ),
            format!("INSERT INTO {schema}.jobs VALUES ({}, 'completed') ON CONFLICT DO NOTHING", values[1]),
            "RESET TimeZone".to_owned(),
        ];
        for statement in statements {
            let _refused = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await;
        }
        // The job of the others continues.
        let healthy = format!("DELETE FROM {schema}.jobs WHERE id::text = '{}'", self.ids[2]);
        sqlx::raw_sql(AssertSqlSafe(healthy)).execute(&mut *connection).await.unwrap();
    }

    /// Reconciles, answers requests, sweeps, and reconciles again: the stale one is ended, the live one stays, and ids
    /// that are too long are left alone, counted and not listed.
    pub(super) async fn hold(&self, world: &World, schema: &str) -> Result<(), String> {
        let work =
            Work::open(world, &self.spec(schema), self.ids[2], self.kind).await.map_err(|e| e.to_string())?;
        let told = |error| format!("{error:?}");
        let table = format!("{schema}.job_executions");
        let ids: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("SELECT id::text FROM {table}")))
            .fetch_all(&world.pool)
            .await
            .unwrap();
        let too_long = |id: &String| id.len() > 1_000;
        let long = format!(
            "SELECT COALESCE(string_agg(t::text, ',' ORDER BY id), '') FROM {table} AS t WHERE octet_length(id::text) > 1000"
        );
        let before = world.one::<String>(&long).await;
        for round in 0..2 {
            work.look().await.map_err(told)?;
            let asked = if round == 0 { &ids[..] } else { &ids[..ids.len().min(5)] };
            let listed = work.answers(asked, self.ids[2]).await.map_err(told)?;
            if listed.iter().any(too_long) {
                return Err("an id that is too long is listed".to_owned());
            }
            if round == 0 {
                let outcome = work.sweep().await.map_err(told)?;
                if !outcome.refused.is_empty() {
                    return Err(format!("{outcome:?}"));
                }
            }
        }
        let counted = work.contradictions().await.map_err(told)?.id_too_long;
        if counted != i64::try_from(ids.iter().filter(|id| too_long(id)).count()).unwrap() {
            return Err(format!("{counted} ids are too long"));
        }
        if before != world.one::<String>(&long).await {
            return Err("a row whose id is too long was changed".to_owned());
        }
        for (id, status) in [(self.ids[0], "failed"), (self.ids[1], "running")] {
            let is = world
                .one::<String>(&format!("SELECT status::text FROM {table} WHERE id::text = '{id}'"))
                .await;
            if is != status {
                return Err(format!("{id} is {is}"));
            }
        }
        for id in ids.iter().filter(|id| id.len() < 2_000).take(4) {
            work.extend(id).await.map_err(told)?;
            work.cancel(id, Some(1)).await.map_err(told)?;
            work.cancel(id, None).await.map_err(told)?;
        }
        work.clean_up(chrono::TimeDelta::hours(1), false).await.map_err(told)?;
        Ok(())
    }
}

pub(super) async fn field() -> World {
    let world = World::bare("hostile-rows").await;
    world
        .sql(
            "CREATE TYPE label AS ENUM ('scheduled', 'running', 'completed', 'failed', 'cancelled'); \
             CREATE TYPE kind AS ENUM ('etl', 'mail')",
        )
        .await;
    for (n, shape) in SHAPES.iter().enumerate() {
        shape.create(&world, &format!("s{n}")).await;
    }
    world
}
