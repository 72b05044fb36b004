//! Rows that no application should write: each affects only itself, and is counted or named.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::work::Work;
use crate::support::{World, is, message};

/// The number of random cases, unless `PROPTEST_CASES` is set.
const CASES: u32 = 12;

/// The number of columns in [`Shape::columns`].
const COLUMNS: usize = 12;

/// A table: the types of its columns in the order of [`NAMES`], and of the table of jobs.
struct Shape {
    columns: [&'static str; COLUMNS],
    job_types: &'static str,
    zone: &'static str,
    /// The ids of a stale execution, of a live one, and of their job.
    ids: [&'static str; 3],
    kind: &'static str,
}

const NAMES: [&str; COLUMNS] = [
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

const SHAPES: [Shape; 5] = [
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

/// 87 incompressible bytes for each requested one.
const NOISE: &str = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 85) AS n)";

/// Most of them run.
const STATUSES: &[&str] =
    &["running", "running", "running", "completed", "failed", "scheduled", "cancelled", "RUNNING"];

const TIMES: &[&str] = &[
    "infinity",
    "-infinity",
    "294276-12-31 23:59:59",
    "294276-12-31 23:59:59.999999",
    "294275-06-01",
    "4713-11-24 00:00:00 BC",
    "4713-12-31 BC",
    "0044-03-15 BC",
    "0001-01-01",
    "9999-12-31 23:59:59",
    "10000-01-01",
    "262143-01-01",
    "2025-03-09 02:30",
    "2025-11-02 01:30",
];

const TEXTS: &[&str] = &[
    "",
    " ",
    "null",
    "NaN",
    "\\",
    "%",
    "$1",
    "{}",
    "~",
    "stale~",
    "it''s",
    "etl",
    "Job/gone",
    "/",
    "a@example.org",
];

/// SQL expressions of texts that are long, or that contain control characters.
const TEXT_EXPRESSIONS: &[&str] = &[
    "repeat('a', 1000)",
    "repeat('a', 1001)",
    "repeat('é', 500)",
    "repeat('é', 501)",
    "repeat('x', 8192)",
    "repeat('x', 300000)",
    "E'line\\nline\\r\\t\\x01\\x1b[31m'",
    "U&'\\2028\\202e\\feff'",
];

/// SQL expressions of hostile values of a type.
fn values(column: &str, type_: &str) -> Vec<String> {
    let quoted = |texts: &[&str]| texts.iter().map(|text| format!("'{text}'")).collect::<Vec<_>>();
    let with = |texts: &[&str], expressions: &[&str]| {
        let expressions = expressions.iter().copied().map(str::to_owned);
        quoted(texts).into_iter().chain(expressions).collect::<Vec<_>>()
    };
    let mut values = match (column, type_.split('(').next().unwrap()) {
        ("status", _) => with(STATUSES, &["''", "repeat('running', 1200)"]),
        (_, "timestamp" | "timestamptz") => {
            with(TIMES, &["now() - interval '2 days'", "now() + interval '2 days'", "now()"])
        }
        (_, "bigint") => quoted(&["-9223372036854775808", "9223372036854775807", "0", "-1", "5"]),
        (_, "integer") => quoted(&["-2147483648", "2147483647", "0"]),
        (_, "smallint") => quoted(&["-32768", "32767", "0"]),
        (_, "numeric") => quoted(&["NaN", "Infinity", "-Infinity", "1e1000", "0.000", "7", "7.0", "1.5"]),
        (_, "uuid") => {
            quoted(&["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"])
        }
        (_, "label") => quoted(&["running", "completed"]),
        (_, "kind") => quoted(&["etl", "mail"]),
        _ => {
            let mut all = with(TEXTS, TEXT_EXPRESSIONS);
            all.extend([100, 1000, 1001, 2690].map(|length| format!("left({NOISE}, {length})")));
            all
        }
    };
    values.push("NULL".to_owned());
    values
}

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
    async fn begin(&self, world: &World, schema: &str) {
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
    async fn put(&self, world: &World, schema: &str, values: &[String]) {
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
    async fn hold(&self, world: &World, schema: &str) -> Result<(), String> {
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

async fn field() -> World {
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

/// Each value of each column, in rows that are otherwise healthy, all at once.
#[tokio::test]
async fn each_hostile_value_harms_its_row_only() {
    let world = field().await;
    for (n, shape) in SHAPES.iter().enumerate() {
        let schema = format!("s{n}");
        shape.begin(&world, &schema).await;
        let mut next = 100;
        for (place, (name, type_)) in NAMES.iter().zip(shape.columns).enumerate() {
            for value in values(name, type_) {
                let both = ["started_at", "completed_at", "job_id"].contains(name);
                for status in if both { &["running", "completed"][..] } else { &["running"] } {
                    next += 1;
                    let mut row: Vec<String> = vec!["NULL".to_owned(); COLUMNS];
                    row[0] = match shape.columns[0] {
                        "uuid" => format!("'{next:08}-0000-0000-0000-000000000000'"),
                        _ => format!("'{next}'"),
                    };
                    row[2] = "1".to_owned();
                    row[3] = format!("'{status}'");
                    row[4] = "now() - interval '2 days'".to_owned();
                    row[5] =
                        if *status == "completed" { "now() - interval '1 day'" } else { "NULL" }.to_owned();
                    row[place].clone_from(&value);
                    shape.put(&world, &schema, &row).await;
                }
            }
        }
        let rows = world.one::<i64>(&format!("SELECT count(*) FROM {schema}.job_executions")).await;
        assert!(rows > 100, "{rows} of {next}");
        Box::pin(shape.hold(&world, &schema)).await.unwrap_or_else(|why| panic!("{schema}: {why}"));
    }
}

/// A row has a value for each column, by their indexes.
type Case = (usize, Vec<Vec<usize>>);

fn cases() -> impl Strategy<Value = Case> {
    (0..SHAPES.len(), vec(vec(0..1_000_usize, COLUMNS), 1..8))
}

async fn play(world: &World, (n, rows): &Case) -> Result<(), TestCaseError> {
    let (shape, schema) = (&SHAPES[*n], format!("s{n}"));
    shape.begin(world, &schema).await;
    for row in rows {
        let all = NAMES.iter().zip(shape.columns).map(|(name, type_)| values(name, type_));
        let row: Vec<String> = all.zip(row).map(|(values, at)| values[at % values.len()].clone()).collect();
        shape.put(world, &schema, &row).await;
    }
    Box::pin(shape.hold(world, &schema)).await.map_err(TestCaseError::fail)
}

/// Random combinations of the values.
#[allow(clippy::result_large_err, reason = "the error is the case, to be printed")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_rows_of_all_kinds_harm_themselves_only() {
    let world = field().await;
    let config = Config { failure_persistence: None, max_shrink_iters: 100, ..Config::with_cases(CASES) };
    let outcome = tokio::task::block_in_place(|| {
        let handle = tokio::runtime::Handle::current();
        TestRunner::new(config).run(&cases(), |case| handle.block_on(play(&world, &case)))
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, (n, rows))) => {
            let shape = &SHAPES[n];
            let all = || NAMES.iter().zip(shape.columns).map(|(name, type_)| values(name, type_));
            let rows: Vec<Vec<String>> = rows
                .iter()
                .map(|row| all().zip(row).map(|(v, at)| v[at % v.len()].clone()).collect())
                .collect();
            panic!("{why}\ns{n}: {rows:#?}")
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

/// The same with the real operator: the two rows that stopped a table, and the reports about them.
#[tokio::test]
async fn a_year_and_an_id_beyond_all_limits_stop_no_table() {
    let world = World::bare("poison").await;
    world
        .sql(
            "CREATE TABLE job_executions (id text PRIMARY KEY, job_id bigint, execution_number integer, status text, \
             started_at timestamp, completed_at timestamp)",
        )
        .await;
    let spec = json!({"table": {"timeZone": "America/Los_Angeles"}, "executionObjects": {"enabled": true}});
    world.prepare_for(&spec).await;
    world
        .sql(&format!(
            "INSERT INTO job_executions VALUES ('year', 1, 1, 'running', '294276-12-31 23:59:59'), \
             (left({NOISE}, 2690), 1, 2, 'running', '2020-01-01'), ('stale', 1, 3, 'running', '2020-01-01'), \
             ('live', 1, 4, 'running', now() AT TIME ZONE 'America/Los_Angeles')"
        ))
        .await;
    // Careless statements fail on them.
    for careless in [
        "SELECT max(started_at AT TIME ZONE 'America/Los_Angeles') FROM job_executions",
        "INSERT INTO jobexec.events (at, store_id, execution_id, action, reason, source) \
         SELECT now(), 1, id, 'Failed', 'x', 'x' FROM job_executions",
    ] {
        sqlx::query(careless).fetch_all(&world.pool).await.expect_err(careless);
    }
    let operator = world.operator();
    world.store(spec).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 'stale'").await;
    let status = world
        .store_until(&operator, |s| {
            s.violations.as_ref().is_some_and(|v| v.id_too_long == 1)
                && s.execution_objects.as_ref().is_some_and(|objects| objects.objects >= 2)
        })
        .await;
    assert!(is(&status.conditions, "Ready", "True", "Enforcing"), "{status:?}");
    assert!(is(&status.conditions, "Consistent", "False", "StartedInFuture"), "{status:?}");
    assert!(message(&status.conditions, "Consistent").contains("more than 1000 bytes"), "{status:?}");
    assert_eq!(status.metrics.unwrap().stale_executions, 0, "what is left alone is not waited for");
    let running = "SELECT string_agg(left(id, 4), ' ' ORDER BY started_at) FROM job_executions WHERE status = 'running'";
    assert!(world.one::<String>(running).await.ends_with(" live year"));
    let file = world.file(
        "poison.yaml",
        &World::store_with("jobs", json!({"table": {"timeZone": "America/Los_Angeles"}})).to_string(),
    );
    for command in [
        &["list"][..],
        &["list", "--all"],
        &["health"],
        &["explain", "year"],
        &["cleanup", "--dry-run"],
        &["cleanup", "--max-hours", "1", "--dry-run"],
        &["stats"],
    ] {
        let mut args = command.to_vec();
        args.extend(["-f", &file]);
        let output = world.jobexec(&args);
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let log = operator.log();
    assert!(!log.contains("out of range") && !log.contains("index row"), "{log}");
}

/// A unique column may be NULL. A row without an id cannot be reported, and delays nothing.
#[tokio::test]
async fn a_row_without_an_id_is_left_alone_and_counted() {
    for id in ["bigint", "text"] {
        let world = World::bare(&format!("no-{id}")).await;
        world
            .sql(&format!(
                "CREATE TABLE job_executions (id {id} UNIQUE, job_id bigint, execution_number integer, status text, \
                 started_at timestamptz, completed_at timestamptz)"
            ))
            .await;
        world.prepare_for(&json!({})).await;
        let insert = "INSERT INTO job_executions VALUES (NULL, 1, 1, 'running', '2020-01-01'), (1, 1, 2, 'running', '2020-01-02')";
        world.sql(insert).await;
        let work = Work::open(&world, &json!({}), "1", "none").await.unwrap();
        work.look().await.unwrap();
        assert_eq!(work.sweep().await.unwrap().ended, 1, "{id}");
        assert_eq!(work.sweep().await.unwrap().ended, 0, "{id}");
        work.answers(&["1".to_owned()], "1").await.unwrap();
        assert_eq!(work.contradictions().await.unwrap().id_too_long, 1, "{id}");
        assert_eq!(
            world
                .one::<String>("SELECT string_agg(status, ' ' ORDER BY started_at) FROM job_executions")
                .await,
            "running failed",
            "{id}"
        );
    }
}

/// The server cuts texts of 20 MB wherever one is read or recorded.
#[tokio::test]
async fn long_texts_are_cut_before_they_are_read() {
    let world = World::bare("long-texts").await;
    world
        .sql(
            "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id text, execution_number integer, status text, \
             started_at timestamptz, completed_at timestamptz, job_type text, workload text, owner text); \
             INSERT INTO job_executions SELECT n, repeat('j', 20000000), n, CASE WHEN n < 5 THEN 'running' ELSE repeat('s', 20000000) END, \
             now() - interval '1 day' * n, NULL, repeat('t', 20000000), repeat('w', 20000000), repeat('o', 20000000) \
             FROM generate_series(0, 5) AS n",
        )
        .await;
    let spec = json!({"table": {"columns": {"jobType": "job_type", "workload": "workload", "owner": "owner"}},
                      "workloads": {"gracePeriod": "1h"}});
    // The columns are too long for the indexes that a table may have.
    let role = &world.role;
    world.sql(&format!("GRANT SELECT, UPDATE ON job_executions TO {role}")).await;
    let applied = world.jobexec(&["schema", "--apply", "--role", role]);
    assert!(
        !applied.status.success()
            || world.one::<bool>("SELECT to_regclass('jobexec.events') IS NOT NULL").await
    );
    let work = Work::open(&world, &spec, "job", "etl").await.unwrap();
    work.look().await.unwrap();
    assert_eq!(work.sweep().await.unwrap().ended, 4);
    work.look().await.unwrap();
    let ids: Vec<String> = (0..6).map(|id| id.to_string()).collect();
    work.answers(&ids, "job").await.unwrap();
    let texts = work.texts(&ids).await.unwrap();
    assert_eq!(texts.len(), 6 * 3 * 2, "of a list and of an explanation: a job, a type and a status");
    let longest = texts.iter().map(|text| text.chars().count()).max();
    assert_eq!(longest, Some(256));
    let recorded = "SELECT max(octet_length(job_id)) FROM jobexec.events";
    assert_eq!(world.one::<i32>(recorded).await, 256);
}
