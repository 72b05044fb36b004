//! Functions, operators, types and tables of somebody else in a schema on the search path.

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::work::Work;
use crate::support::{World, is};

/// Objects in `public`, which comes first on the login's path: each operator for each pair of types that a column may
/// have or a statement computes with, each function of Postgres with a plain name, types and catalogs of Postgres. Any
/// use of them fails.
const HOSTILE: &str = include_str!("functions.sql");

/// A table with its jobs, with types that the other shapes do not have.
struct Shape {
    schema: &'static str,
    executions: &'static str,
    jobs: &'static str,
    zone: &'static str,
    /// The id of the row of this number.
    id: fn(u32) -> String,
    /// The id of the job of this number.
    job: fn(u32) -> String,
}

fn number(n: u32) -> String {
    n.to_string()
}

fn word(n: u32) -> String {
    format!("no {n}")
}

fn padded(n: u32) -> String {
    format!("{n:012}")
}

fn uuid(n: u32) -> String {
    format!("a0eebc99-9c0b-4ef8-bb6d-{n:012}")
}

fn kind(n: u32) -> String {
    ["etl", "mail", "report"][n as usize % 3].to_owned()
}

const SHAPES: [Shape; 6] = [
    Shape {
        schema: "s0",
        executions: "id varchar(40) PRIMARY KEY, job_id varchar(40), execution_number integer, status varchar(20), \
             started_at timestamp, completed_at timestamp, error varchar(300), job_type varchar(20), heartbeat_at timestamp, \
             created_at timestamp, workload varchar(80), owner varchar(80)",
        jobs: "id varchar(40) PRIMARY KEY, status varchar(20)",
        zone: "America/New_York",
        id: word,
        job: word,
    },
    Shape {
        schema: "s1",
        executions: "id uuid PRIMARY KEY, job_id uuid, execution_number bigint, status public.label, \
             started_at timestamptz, completed_at timestamptz, error text, job_type public.kind, heartbeat_at timestamptz, \
             created_at timestamptz, workload text, owner text",
        jobs: "id uuid PRIMARY KEY, status public.label",
        zone: "UTC",
        id: uuid,
        job: uuid,
    },
    Shape {
        schema: "s2",
        executions: "id smallint PRIMARY KEY, job_id numeric, execution_number smallint, status public.word, \
             started_at timestamptz, completed_at timestamp, error public.word, job_type public.word, heartbeat_at timestamp, \
             created_at timestamptz, workload name, owner public.word",
        jobs: "id numeric PRIMARY KEY, status char(12)",
        zone: "UTC",
        id: number,
        job: number,
    },
    Shape {
        schema: "s3",
        executions: "id text PRIMARY KEY, job_id char(12), execution_number integer, status char(12), \
             started_at timestamp, completed_at timestamptz, error char(300), job_type char(6), heartbeat_at timestamptz, \
             created_at timestamp, workload text, owner char(80)",
        jobs: "id varchar(12) PRIMARY KEY, status name",
        zone: "UTC",
        id: word,
        job: padded,
    },
    Shape {
        schema: "s4",
        executions: "id bigint PRIMARY KEY, job_id public.kind, execution_number bigint, status name, \
             started_at timestamptz, completed_at timestamptz, error name, job_type name, heartbeat_at timestamptz, \
             created_at timestamptz, workload public.word, owner name",
        jobs: "id public.kind PRIMARY KEY, status public.word",
        zone: "UTC",
        id: number,
        job: kind,
    },
    Shape {
        schema: "s5",
        executions: "id integer PRIMARY KEY, job_id public.word, execution_number integer, status text, \
             started_at timestamptz, completed_at timestamptz, error text, job_type text, heartbeat_at timestamptz, \
             created_at timestamptz, workload text, owner text",
        jobs: "id public.word PRIMARY KEY, status text",
        zone: "UTC",
        id: number,
        job: word,
    },
];

const TYPES: &str = "CREATE TYPE public.kind AS ENUM ('etl', 'mail', 'report'); \
     CREATE TYPE public.label AS ENUM ('scheduled', 'running', 'completed', 'failed', 'cancelled'); \
     CREATE DOMAIN public.word AS text";

impl Shape {
    fn spec(&self) -> Value {
        json!({
            "table": {
                "schema": self.schema, "timeZone": self.zone,
                "columns": {"error": "error", "jobType": "job_type", "heartbeatAt": "heartbeat_at",
                            "createdAt": "created_at", "workload": "workload", "owner": "owner"},
            },
            "jobs": {"schema": self.schema, "gracePeriod": "1h"},
            "singleActiveExecution": {"gracePeriod": "1h"}, "workloads": {"gracePeriod": "1h"},
        })
    }

    /// 1 is stale by default, 2 has just begun, 3 is stale by the rule of its job, 4 by that of its type, 5 has lost its
    /// heartbeat, 6 has a finished job, 7 a later one, and 8, 9 and 10 have ended or wait.
    async fn fill(&self, world: &World) {
        let schema = self.schema;
        world
            .sql(&format!(
                "CREATE SCHEMA {schema}; CREATE TABLE {schema}.job_executions ({}); CREATE TABLE {schema}.jobs ({})",
                self.executions, self.jobs
            ))
            .await;
        // An enum has few jobs.
        for n in 1..=(if self.schema == "s4" { 3 } else { 10 }) {
            let status = if n == 6 { "completed" } else { "running" };
            self.put(world, &format!("INSERT INTO {schema}.jobs VALUES ('{}', '{status}')", (self.job)(n)))
                .await;
        }
        for n in 1..=10 {
            let hours = match n {
                1 => 48.0,
                2 => 0.1,
                8 => 3.0,
                _ => 2.0,
            };
            let status = match n {
                8 => "completed",
                9 => "scheduled",
                10 => "failed",
                _ => "running",
            };
            let ended = if matches!(n, 8 | 10) { "now() - interval '1 hour'" } else { "NULL" };
            let heartbeat = if n == 5 { "now() - interval '90 minutes'" } else { "NULL" };
            let kind = if n == 4 { "etl" } else { "mail" };
            self.put(
                world,
                &format!(
                    "INSERT INTO {schema}.job_executions VALUES ('{}', '{}', {n}, '{status}', now() - interval '{hours} hours', \
                     {ended}, NULL, '{kind}', {heartbeat}, now() - interval '3 days', 'Job/alive', ' somebody@example.org ')",
                    (self.id)(n),
                    (self.job)(n),
                ),
            )
            .await;
        }
    }

    async fn put(&self, world: &World, sql: &str) {
        world.sql(&format!("SET TimeZone = '{}'; {sql}; RESET TimeZone", self.zone)).await;
    }
}

/// Creates a world in which the login's path begins with a schema of somebody else.
async fn hostile_world() -> World {
    let world = World::bare("hostile-functions").await;
    world.sql(TYPES).await;
    for shape in &SHAPES {
        shape.fill(&world).await;
        world.prepare_for(&shape.spec()).await;
    }
    world.sql(HOSTILE).await;
    let (role, database) = (&world.role, &world.namespace.replace('-', "_"));
    world
        .sql(&format!("ALTER ROLE {role} IN DATABASE {database} SET search_path = public, pg_catalog"))
        .await;
    // The trap is set: careless statements run into it.
    let login = sqlx::PgPool::connect(&world.url("right/password")).await.unwrap();
    for careless in [
        "SELECT FROM s0.job_executions WHERE status = 'running'::varchar",
        "SELECT FROM s1.job_executions WHERE status = 'running'",
        "SELECT count(*) FROM s0.jobs",
        "SELECT left(job_id, 3) FROM s3.job_executions",
        "SELECT FROM s2.job_executions WHERE started_at < statement_timestamp()",
        "SELECT id::text FROM s1.job_executions",
        "SELECT oid FROM pg_class",
    ] {
        let run = sqlx::query(careless).fetch_all(&login).await.expect_err(careless);
        assert!(
            run.to_string().contains("else's function ran") || run.to_string().contains("count"),
            "{careless}: {run}"
        );
    }
    login.close().await;
    world
}

/// A statement of the operator compares, cuts or counts each mapped column; none of them finds anything but Postgres' own
/// objects.
#[tokio::test]
async fn nothing_of_somebody_elses_runs_in_a_statement() {
    let world = hostile_world().await;
    for shape in &SHAPES {
        let (id, job) = (shape.id, shape.job);
        let ids: Vec<String> = (1..=10).map(id).collect();
        let told = |error| format!("{}: {error:?}", shape.schema);
        let work = Work::open(&world, &shape.spec(), &job(3), "etl").await.map_err(told).unwrap();
        let told = |error| format!("{}: {error:?}", shape.schema);
        work.look().await.map_err(told).unwrap();
        work.answers(&ids, &job(2)).await.map_err(told).unwrap();
        work.extend(&id(2)).await.map_err(told).unwrap();
        let waiting = work.cancel(&id(9), None).await.map_err(told).unwrap();
        assert_eq!(waiting.cancelled.len(), 1, "{}: {waiting:?}", shape.schema);
        let outcome = work.sweep().await.map_err(told).unwrap();
        assert!(outcome.ended >= 3 && outcome.refused.is_empty(), "{}: {outcome:?}", shape.schema);
        work.look().await.map_err(told).unwrap();
        work.answers(&ids, &job(2)).await.map_err(told).unwrap();
        work.clean_up(chrono::TimeDelta::minutes(1), false).await.map_err(told).unwrap();
        let failed = format!(
            "SELECT count(*) FROM {}.job_executions AS t WHERE (t.status::text) OPERATOR(pg_catalog.=) 'failed'::pg_catalog.text",
            shape.schema
        );
        assert_eq!(world.one::<i64>(&failed).await, 8, "{}", shape.schema);
    }
}

/// The same with the real programs, on a table of varchars.
#[tokio::test]
async fn nor_in_one_of_the_operator_or_the_command_line() {
    let world = hostile_world().await;
    let spec = SHAPES[0].spec();
    let operator = world.operator();
    world.store(spec.clone()).await;
    let status = world.store_until(&operator, |s| s.last_sweep.is_some() && s.metrics.is_some()).await;
    assert!(is(&status.conditions, "Ready", "True", "Enforcing"), "{status:?}");
    let file = world.file("s0.yaml", &World::store_with("jobs", spec).to_string());
    for command in [
        &["list", "--all"][..],
        &["list", "--stale"],
        &["health"],
        &["explain", "no 1"],
        &["history"],
        &["trends"],
        &["stats"],
        &["cleanup", "--max-hours", "0.01", "--include-governed", "--yes"],
        &["extend", "no 9", "--by", "1h"],
        &["cancel", "no 9"],
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_jobexec"))
            .args(command)
            .args(["-f", &file])
            .env("DATABASE_URL", world.url("right/password"))
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!err.contains("else's function ran"), "{command:?}: {err}");
        assert!(!err.contains("Usage:"), "{command:?}: {err}");
    }
    let log = operator.log();
    assert!(!log.contains("else's function ran"), "{log}");
    assert!(!log.contains("does not exist"), "{log}");
}

/// Triggers of each kind that use names without a schema, and record the path.
const TRIGGERS: &str = "
CREATE SCHEMA app;
CREATE TABLE app.noted (moment text, path text);
CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN
    INSERT INTO noted VALUES (concat_ws(' ', TG_WHEN, TG_LEVEL, TG_ARGV[0]), current_setting('search_path'));
    RETURN CASE TG_LEVEL WHEN 'ROW' THEN NEW END;
END $f$;
CREATE TRIGGER a BEFORE UPDATE ON job_executions FOR EACH STATEMENT EXECUTE FUNCTION app.note();
CREATE TRIGGER b BEFORE UPDATE ON job_executions FOR EACH ROW EXECUTE FUNCTION app.note();
CREATE TRIGGER c AFTER UPDATE ON job_executions FOR EACH ROW EXECUTE FUNCTION app.note();
CREATE TRIGGER d AFTER UPDATE ON job_executions FOR EACH STATEMENT EXECUTE FUNCTION app.note();
CREATE CONSTRAINT TRIGGER e AFTER UPDATE ON job_executions DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION app.note('deferred');
";

#[tokio::test]
async fn triggers_of_the_application_have_the_path_of_the_login() {
    let world = World::new("trigger-path").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '1 hour' * n FROM generate_series(20, 40) n",
        )
        .await;
    world.sql(TRIGGERS).await;
    let (role, database) = (&world.role, &world.namespace.replace('-', "_"));
    world
        .sql(&format!(
            "GRANT USAGE ON SCHEMA app TO {role}; GRANT INSERT ON app.noted TO {role}; \
             ALTER ROLE {role} IN DATABASE {database} SET search_path = \"$user\", app, public"
        ))
        .await;
    let work = Work::open(&world, &json!({}), "1", "none").await.unwrap();
    let noted = "SELECT string_agg(DISTINCT moment || ': ' || path, E'\\n') FROM app.noted";
    let moments = [
        "AFTER ROW deferred: \"$user\", app, public",
        "AFTER ROW: \"$user\", app, public",
        "AFTER STATEMENT: \"$user\", app, public",
        "BEFORE ROW: \"$user\", app, public",
        "BEFORE STATEMENT: \"$user\", app, public",
    ];
    let started = "SELECT floor(extract(epoch FROM started_at))::bigint FROM job_executions WHERE id = 20";
    let started = world.one::<i64>(started).await;
    for what in ["sweep", "cancel", "clean-up"] {
        world.sql("TRUNCATE app.noted").await;
        match what {
            "sweep" => {
                let outcome = work.sweep().await.unwrap();
                assert!(outcome.ended == 17 && outcome.refused.is_empty(), "{outcome:?}");
            }
            "cancel" => assert_eq!(work.cancel("20", Some(started)).await.unwrap().cancelled.len(), 1),
            _ => {
                let rows = work.clean_up(chrono::TimeDelta::hours(1), false).await.unwrap();
                assert_eq!(rows, ["21", "22", "23"]);
            }
        }
        let noted = world.one::<String>(noted).await;
        let mut noted: Vec<&str> = noted.lines().collect();
        noted.sort_unstable();
        assert_eq!(noted, moments, "{what}");
    }
}

/// If the operators of a column's type belong to an extension, texts are compared literally.
#[tokio::test]
async fn statuses_of_a_type_of_an_extension_are_compared_as_texts() {
    let world = World::bare("citext").await;
    if sqlx::query(AssertSqlSafe("CREATE EXTENSION citext")).execute(&world.pool).await.is_err() {
        crate::support::machine::needs(
            "statuses of the type citext",
            crate::support::machine::Part::Debian("postgresql-contrib"),
            None::<()>,
        );
        return;
    }
    world
        .sql(
            "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id citext, execution_number integer NOT NULL, \
             status citext NOT NULL, started_at timestamptz, completed_at timestamptz)",
        )
        .await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, 'a', n, CASE n WHEN 3 THEN 'Running' ELSE 'running' END, \
             now() - interval '2 days' FROM generate_series(1, 3) n",
        )
        .await;
    let spec = json!({"singleActiveExecution": {"gracePeriod": "1h"}});
    world.prepare_for(&spec).await;
    let work = Work::open(&world, &spec, "a", "none").await.unwrap();
    work.look().await.unwrap();
    assert_eq!(work.contradictions().await.unwrap().unmapped, 1);
    assert_eq!(work.sweep().await.unwrap().ended, 2);
    let statuses = "SELECT string_agg(id || status::text, ' ' ORDER BY id) FROM job_executions";
    assert_eq!(world.one::<String>(statuses).await, "1failed 2failed 3Running");
}
