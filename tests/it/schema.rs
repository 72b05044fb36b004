//! The commands `jobexec schema` and `jobexec crds`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use jobexec_operator::api::{ExecutionStore, ExecutionStoreStatus};
use serde_json::json;
use sqlx::migrate::Migrate as _;

use crate::support::machine::Part;
use crate::support::world::TABLE;
use crate::support::{PgBouncer, World, is, machine};

#[tokio::test]
async fn the_printed_script_and_apply_do_the_same_and_may_be_repeated() {
    let world = World::bare("script").await;
    world.sql(TABLE).await;
    let extras = ["--with", "check,transitions,notify"];
    let script = world.jobexec(&[["schema", "--role", &world.role].as_slice(), &extras].concat());
    assert!(script.status.success());
    let script = String::from_utf8(script.stdout).unwrap();
    for round in 0..2 {
        // CREATE INDEX CONCURRENTLY must be sent alone, as psql does.
        let mut psql = Command::new("psql")
            .args(["-qX", "-v", "ON_ERROR_STOP=1", &world.superuser()])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        psql.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = psql.wait_with_output().unwrap();
        assert!(output.status.success(), "round {round}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let described = "SELECT string_agg(concat_ws(' ', table_name, column_name, data_type), ',' ORDER BY table_name, column_name) \
                     FROM information_schema.columns WHERE table_schema = 'jobexec'";
    let printed: String = world.one(described).await;
    let added = "SELECT concat_ws(' ', (SELECT string_agg(tgname, ' ' ORDER BY tgname) FROM pg_trigger WHERE NOT tgisinternal), \
                 (SELECT string_agg(conname, ' ') FROM pg_constraint WHERE contype = 'c' AND convalidated AND conrelid = 'job_executions'::regclass))";
    let added: String = world.one(added).await;
    assert_eq!(added, "jobexec_notify jobexec_refusals jobexec_transitions job_executions_jobexec_times");
    world.prepare().await;
    assert_eq!(world.one::<String>(described).await, printed, "applying over the script changes nothing");
    world.sql("DROP SCHEMA jobexec CASCADE").await;
    world.prepare().await;
    assert_eq!(world.one::<String>(described).await, printed);
}

#[tokio::test]
async fn the_role_gets_exactly_what_it_needs() {
    let world = World::new("grants").await;
    let on_table: String = world
        .one(&format!(
            "SELECT string_agg(privilege_type || ' ' || column_name, ', ' ORDER BY privilege_type, column_name) \
             FROM information_schema.column_privileges WHERE grantee = '{}' AND table_name = 'job_executions'",
            world.role
        ))
        .await;
    assert_eq!(
        on_table,
        "SELECT completed_at, SELECT execution_number, SELECT id, SELECT job_id, SELECT started_at, SELECT status, \
         UPDATE completed_at, UPDATE status"
    );
    let others: i64 = world
        .one(&format!(
            "SELECT count(*) FROM information_schema.table_privileges WHERE grantee = '{}' AND table_schema <> 'jobexec'",
            world.role
        ))
        .await;
    assert_eq!(others, 0);
}

#[tokio::test]
async fn an_operator_that_may_creates_its_tables_itself() {
    let world = World::that_may_create("selfmade").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "AuditAvailable", "True", "TablesPresent")).await;
}

/// Without permission to create schemas, which is not needed if there is one.
#[tokio::test]
async fn whoever_owns_the_schema_brings_it_up_to_date() {
    let world = World::new("owner").await;
    let role = &world.role;
    let tables: String = world
        .one(&format!(
            "SELECT string_agg(format('ALTER TABLE jobexec.%I OWNER TO {role}', relname), '; ') FROM pg_class \
             WHERE relnamespace = 'jobexec'::regnamespace AND relkind = 'r'"
        ))
        .await;
    world.sql(&format!("ALTER SCHEMA jobexec OWNER TO {role}; {tables}")).await;
    // As an older version, or somebody with an excessive permission, has left it.
    world
        .sql(
            "DROP INDEX jobexec.events_sweep, jobexec.sweeps_started; DROP TABLE jobexec.samples; \
             ALTER TABLE jobexec.rules DISABLE ROW LEVEL SECURITY; DROP POLICY may_delete ON jobexec.events",
        )
        .await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "AuditAvailable", "True", "TablesPresent")).await;
    let indexes = "SELECT string_agg(indexdef, '; ' ORDER BY indexname) FROM pg_indexes \
                   WHERE schemaname = 'jobexec' AND indexname ~ 'events_sweep|sweeps_started|samples'";
    let made: String = world.one(indexes).await;
    assert!(made.contains("(sweep_id, event_id)") && made.contains("(store_id, started_at)"), "{made}");
    let unsecured = "SELECT COALESCE(string_agg(relname, ' '), '') FROM pg_class AS c \
                     WHERE relnamespace = 'jobexec'::regnamespace AND relkind = 'r' \
                     AND NOT (relrowsecurity AND 4 = (SELECT count(*) FROM pg_policy WHERE polrelid = c.oid))";
    assert_eq!(world.one::<String>(unsecured).await, "_sqlx_migrations");
    drop(operator);
    let oids = "SELECT string_agg(oid::text, ' ' ORDER BY oid) FROM pg_class WHERE relnamespace = 'jobexec'::regnamespace";
    let before: String = world.one(oids).await;
    // It grants to itself, and may not create the index on somebody else's table.
    let url = world.url("right/password");
    world.jobexec(&["schema", "--apply", "--database-url", &url]);
    assert_eq!(world.one::<String>(oids).await, before, "once more, nothing is created again");
}

#[tokio::test]
async fn behind_pgbouncer_stores_make_the_schema_at_once_and_leave_no_lock() {
    let test = "schema::behind_pgbouncer_stores_make_the_schema_at_once_and_leave_no_lock";
    let program = machine::program("pgbouncer");
    let Some(program) = machine::needs(test, Part::Debian("pgbouncer"), program) else {
        return;
    };
    let world = World::bare("pooled").await;
    world.sql(TABLE).await;
    world
        .sql(&format!(
            "CREATE TABLE more (LIKE job_executions INCLUDING ALL); GRANT SELECT, UPDATE ON job_executions, more TO {0}; \
             GRANT CREATE ON DATABASE {0} TO {0}",
            world.role
        ))
        .await;
    // A lock that an earlier operator has left behind.
    let mut left = world.pool.acquire().await.unwrap();
    left.lock().await.unwrap();
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(world.one::<i64>(locks).await, 1);
    let pooler = PgBouncer::start(&program, &world);
    world.secret("db", json!({"uri": pooler.url(&world.url("right/password"))})).await;
    let operator = world.operator();
    let more = World::store_with("more", json!({"table": {"name": "more"}}));
    world.apply::<ExecutionStore>("more", more).await.unwrap();
    world.store(json!({})).await;
    for name in ["jobs", "more"] {
        let records = |s: &ExecutionStoreStatus| is(&s.conditions, "AuditAvailable", "True", "TablesPresent");
        world.store_named_until(&operator, name, records).await;
    }
    assert_eq!(world.one::<i64>(locks).await, 1);
    left.unlock().await.unwrap();
    assert_eq!(world.one::<i64>(locks).await, 0);
}

#[tokio::test]
async fn what_cannot_be_done_is_said_with_a_way_out() {
    let world = World::bare("cli").await;
    world.sql(TABLE).await;
    let fails = |args: &[&str], part: &str| {
        let output = world.jobexec(args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
        assert!(text.contains(part), "{part} not in {text}");
    };
    fails(&["schema", "--apply", "--role", "nobody-here"], "CREATE ROLE \"nobody-here\" LOGIN");
    fails(&["schema", "-f", "/no/such/file"], "cannot read /no/such/file");
    fails(&["schema", "--apply", "--database-url", "mysql://x"], "must start with postgres://");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "kind: [").unwrap();
    fails(&["schema", "-f", file.path().to_str().unwrap()], "cannot read");
    assert_eq!(world.jobexec(&["schema", "--nonsense"]).status.code(), Some(2));

    // As after an interrupted build, which Postgres keeps.
    assert!(world.jobexec(&["schema", "--apply"]).status.success());
    world
        .sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'job_executions_running_job'::regclass")
        .await;
    fails(
        &["schema", "--apply"],
        "DROP INDEX CONCURRENTLY public.job_executions_running_job, then this again",
    );

    let head = Command::new("sh")
        .args(["-c", "\"$0\" crds | head -n 1", env!("CARGO_BIN_EXE_jobexec")])
        .output()
        .unwrap();
    assert_eq!((String::from_utf8_lossy(&head.stdout).trim(), head.stderr.len()), ("---", 0));
}
