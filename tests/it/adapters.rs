//! Adapters for the tables of other job systems: installed, missing, changed, and for other tables. `tests/adapters` proves what they
//! write with the real clients, and `clients` the same with the operator.

mod clients;
mod tutorial;

use jobexec_operator::api::ExecutionStore;
use serde_json::json;

use crate::support::{Operator, World, is, message};

/// The table of River that its adapter uses.
const RIVER: &str = "CREATE TYPE river_job_state AS ENUM ('available', 'cancelled', 'completed', 'discarded', 'pending', 'retryable', \
     'running', 'scheduled'); \
     CREATE TABLE river_job (id bigint PRIMARY KEY, state river_job_state NOT NULL, attempt smallint NOT NULL, \
        max_attempts smallint NOT NULL, attempted_at timestamptz, created_at timestamptz NOT NULL DEFAULT now(), \
        finalized_at timestamptz, scheduled_at timestamptz NOT NULL DEFAULT now(), errors jsonb[], kind text NOT NULL, \
        metadata jsonb NOT NULL DEFAULT '{}', queue text NOT NULL DEFAULT 'default')";

async fn running(world: &World, id: i64, attempt: i16) {
    world
        .sql(&format!(
            "INSERT INTO river_job (id, state, attempt, max_attempts, attempted_at, created_at, kind) \
             VALUES ({id}, 'running', {attempt}, 3, now() - interval '3 hours', now() - interval '4 hours', 'mail')"
        ))
        .await;
}

/// Runs a command as the superuser, which has to succeed.
fn done(world: &World, args: &[&str]) -> String {
    let output = world.jobexec(args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{args:?}: {out}{err}");
    out + &err
}

async fn paused(world: &World, operator: &Operator, reason: &str, told: &str) {
    world
        .store_until(operator, |s| {
            is(&s.conditions, "EnforcementPaused", "True", reason)
                && message(&s.conditions, "EnforcementPaused").contains(told)
        })
        .await;
}

#[tokio::test]
async fn a_store_falls_back_to_observing_while_its_adapter_is_not_what_it_needs() {
    let world = World::bare("adapter").await;
    world.sql(RIVER).await;
    running(&world, 1, 1).await;
    done(&world, &["schema", "--adapter", "river", "--apply", "--role", &world.role]);
    done(&world, &["adapter", "remove", "river"]);
    world.secret("db", json!({"uri": world.url("right/password")})).await;
    world.policy("again", json!({"onStale": "Retry"})).await;
    let operator = world.operator();
    world.store(json!({"adapter": "river", "defaultTimeout": "2h"})).await;
    paused(&world, &operator, "AdapterNotInstalled", "jobexec adapter apply river --schema public").await;
    world.store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.stale_executions == 1)).await;

    done(&world, &["adapter", "apply", "river", "--role", &world.role]);
    world.until_true("SELECT state = 'retryable' AND finalized_at IS NULL FROM river_job WHERE id = 1").await;
    let recorded: String = world.one("SELECT action FROM jobexec.events").await;
    assert_eq!(recorded, "Retried");
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    running(&world, 2, 3).await;
    world
        .until_true("SELECT state = 'discarded' AND cardinality(errors) = 1 FROM river_job WHERE id = 2")
        .await;

    // Applied twice, it takes no lock that waits for writers.
    let mut worker = world.pool.begin().await.unwrap();
    sqlx::raw_sql("UPDATE river_job SET queue = 'busy' WHERE id = 1").execute(&mut *worker).await.unwrap();
    done(&world, &["adapter", "apply", "river", "--role", &world.role]);
    worker.rollback().await.unwrap();

    world.sql("ALTER TABLE river_job DISABLE TRIGGER jobexec_river").await;
    running(&world, 3, 1).await;
    paused(&world, &operator, "AdapterNotInstalled", "the trigger jobexec_river is disabled").await;
    world.sql("COMMENT ON FUNCTION jobexec_river() IS 'jobexec adapter river 0'").await;
    paused(&world, &operator, "AdapterNotInstalled", "is of jobexec adapter river 0 and not of").await;
    assert_eq!(world.one::<String>("SELECT state::text FROM river_job WHERE id = 3").await, "running");
    done(&world, &["adapter", "apply", "river"]);
    world.until_true("SELECT state = 'retryable' FROM river_job WHERE id = 3").await;

    // A migration of the job system changes what the adapter relies on.
    world.sql("ALTER TABLE river_job ALTER queue TYPE varchar(40)").await;
    // The operator looks at once after a change of the spec, otherwise within a minute.
    world.store(json!({"adapter": "river", "defaultTimeout": "2h", "pollInterval": "2s"})).await;
    paused(
        &world,
        &operator,
        "AdapterUnsupported",
        "river_job.queue is of type character varying and not text",
    )
    .await;
    running(&world, 4, 1).await;
    let refused = world.jobexec(&["adapter", "apply", "river"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8(refused.stderr).unwrap().contains("nothing was changed"));
    assert_eq!(world.one::<String>("SELECT state::text FROM river_job WHERE id = 4").await, "running");
}

#[tokio::test]
async fn an_adapter_is_named_right_and_alone() {
    let world = World::bare("adaptername").await;
    for (spec, told) in [
        (json!({"adapter": "river", "jobs": {}}), "adapter stands for table, jobs and heartbeat"),
        (
            json!({"adapter": "river", "table": {"name": "runs"}}),
            "adapter stands for table, jobs and heartbeat",
        ),
        (json!({"adapterSchema": "jobs"}), "set adapter, or table.schema instead"),
    ] {
        let refused = world
            .apply::<ExecutionStore>("jobs", World::store_with("jobs", spec.clone()))
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains(told), "{spec} {refused}");
    }
    world.secret("db", json!({"uri": world.url("right/password")})).await;
    let operator = world.operator();
    world.store(json!({"adapter": "rivers"})).await;
    let status =
        world.store_until(&operator, |s| is(&s.conditions, "SchemaValid", "False", "AdapterUnknown")).await;
    assert!(message(&status.conditions, "SchemaValid").contains("pg-boss, pgqueuer, procrastinate, river"));
    let refused = world.jobexec(&["adapter", "show", "rivers"]);
    assert!(String::from_utf8(refused.stderr).unwrap().contains("there is no adapter \"rivers\""));
}

#[tokio::test]
async fn a_check_says_what_has_to_be_mended_and_changes_nothing() {
    let world = World::bare("adaptercheck").await;
    world.sql(RIVER).await;
    running(&world, 1, 1).await;
    let check = |args: &[&str]| {
        let output = world.jobexec(&[&["adapter", "check"], args].concat());
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, told) = check(&["river"]);
    assert!(code == Some(1) && told.contains("there is no function jobexec_river"), "{told}");
    done(&world, &["adapter", "apply", "river"]);
    let (code, told) = check(&["river"]);
    assert_eq!(code, Some(0), "{told}");
    for good in [
        "ok          an index finds running executions",
        "ok          Fail: the execution 1 would be failed",
        "ok          Cancel: the worker of execution 1 would be asked to stop",
        "ok          Retry: the execution 1 would be retried",
    ] {
        assert!(told.contains(good), "{good} not in {told}");
    }
    let row: String =
        world.one("SELECT concat_ws(' ', state, cardinality(errors), metadata) FROM river_job").await;
    assert_eq!(row, "running {}");

    // A table of nobody's, described by a file.
    let file = world.file(
        "store.yaml",
        &World::store_with(
            "jobs",
            json!({"table": {"name": "river_job", "retry": {"method": "Trigger"},
                   "columns": {"jobId": "kind", "executionNumber": "attempt", "status": "state", "startedAt": "attempted_at",
                               "completedAt": "finalized_at"},
                   "statuses": {"scheduled": ["available"], "failed": ["discarded"]}}}),
        )
        .to_string(),
    );
    world.sql("DROP INDEX jobexec_river_running; CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
               CREATE TRIGGER a BEFORE UPDATE ON river_job FOR EACH ROW EXECUTE FUNCTION no()").await;
    let (code, told) = check(&["-f", &file]);
    assert_eq!(code, Some(1), "{told}");
    for bad in [
        "FAILED      no index finds running executions",
        "FAILED      Fail: a trigger leaves the execution 1 unchanged",
    ] {
        assert!(told.contains(bad), "{bad} not in {told}");
    }
    world.sql("UPDATE pg_trigger SET tgenabled = 'D' WHERE tgname = 'a'; TRUNCATE river_job").await;
    let (_, told) = check(&["-f", &file]);
    assert!(told.contains("NOT TESTED  Fail: no execution runs that nobody locks"), "{told}");
}

#[tokio::test]
async fn an_adapter_that_is_not_on_its_table_or_is_somebody_elses_is_found() {
    let world = World::bare("adapterplace").await;
    world.sql(RIVER).await;
    running(&world, 1, 1).await;
    done(&world, &["adapter", "apply", "river"]);
    let check = |args: &[&str]| {
        let output = world.jobexec(&[&["adapter", "check"], args].concat());
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    // The trigger is on another table, or not the adapter's.
    world.sql("CREATE TABLE kept AS TABLE river_job; ALTER TABLE river_job RENAME TO old; CREATE TABLE river_job (LIKE old INCLUDING ALL)").await;
    let (code, told) = check(&["river"]);
    assert!(code == Some(1) && told.contains("there is no trigger jobexec_river"), "{told}");
    world.sql("DROP TABLE river_job; ALTER TABLE old RENAME TO river_job; ALTER FUNCTION jobexec_river() SECURITY DEFINER").await;
    let (code, told) = check(&["river"]);
    assert!(code == Some(1) && told.contains("jobexec_river runs with other rights"), "{told}");
    world
        .sql(&format!(
            "ALTER FUNCTION jobexec_river() SECURITY INVOKER; ALTER FUNCTION jobexec_river() OWNER TO {}",
            world.role
        ))
        .await;
    let output = world.jobexec(&["adapter", "apply", "river"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && told.contains("and not to the owner of the tables"), "{told}");
    world.sql("ALTER FUNCTION jobexec_river() OWNER TO CURRENT_USER").await;
    assert_eq!(check(&["river"]).0, Some(0));
    assert!(done(&world, &["adapter", "remove", "river"]).contains("removed: the adapter river"));
    assert!(done(&world, &["adapter", "remove", "river"]).contains("nothing to remove"));

    let printed = done(&world, &["schema", "--adapter", "river", "--adapter-schema", "queues"]);
    assert!(printed.contains("ON \"queues\".river_job"), "{printed}");
    for alone in [["--with", "transitions"], ["-f", "store.yaml"]] {
        let output = world.jobexec(&[&["schema", "--adapter", "river"], &alone[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{alone:?}");
    }
}
