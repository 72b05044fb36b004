//! Heartbeats that workers send to a table of their own: executions of a worker that is silent or gone.

use serde_json::{Value, json};

use crate::heartbeats::watched;
use crate::support::{Operator, World, is, message};

/// A table of executions that name their worker, and the table of workers.
const TABLES: &str = "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, \
     execution_number integer NOT NULL, status text NOT NULL, started_at timestamptz, completed_at timestamptz, \
     worker_id bigint); \
     CREATE TABLE workers (id bigint PRIMARY KEY, seen timestamptz)";

fn spec() -> Value {
    json!({
        "heartbeat": {"table": "workers", "key": "id", "by": "worker_id", "at": "seen"},
        "heartbeatTimeout": "1h", "defaultTimeout": "99999h",
    })
}

async fn looked_at(test: &str) -> World {
    watched(test, TABLES, &spec()).await
}

/// Inserts a running execution of a worker.
async fn of_worker(world: &World, id: i64, worker: &str) {
    world
        .sql(&format!(
            "INSERT INTO job_executions VALUES ({id}, {id}, 1, 'running', now() - interval '3 hours', NULL, {worker})"
        ))
        .await;
}

async fn worker(world: &World, id: i64, seen: &str) {
    world.sql(&format!("INSERT INTO workers VALUES ({id}, {seen})")).await;
}

/// The executions that run.
async fn running(world: &World) -> String {
    world
        .one("SELECT string_agg(id::text, ' ' ORDER BY id) FROM job_executions WHERE status = 'running'")
        .await
}

/// Waits until the operator has recorded which workers are missing.
async fn missing(world: &World, executions: &str) {
    world
        .until_true(&format!(
            "SELECT COALESCE(string_agg(execution_id, ' ' ORDER BY execution_id), '') = '{executions}' \
             FROM jobexec.suspects WHERE reason = 'WorkerLost'"
        ))
        .await;
}

/// Makes the missing workers missing for two hours.
async fn age(world: &World) {
    world.sql("UPDATE jobexec.suspects SET since = now() - interval '2 hours'").await;
}

fn explained(world: &World, id: &str) -> String {
    let file = world.file("store.yaml", &World::store_with("jobs", spec()).to_string());
    let explained = world.jobexec(&["explain", id, "-f", &file]);
    String::from_utf8(explained.stdout).unwrap()
}

#[tokio::test]
async fn executions_of_a_worker_that_is_silent_or_gone_are_failed() {
    let world = looked_at("lostworker").await;
    worker(&world, 1, "now()+ interval '1 hour'").await;
    // Longer ago than the other one is missing: two that fall silent at the same time are held.
    worker(&world, 2, "now() - interval '10 hours'").await;
    worker(&world, 3, "NULL").await;
    worker(&world, 4, "now()").await;
    for (id, of) in [(1, "1"), (2, "2"), (3, "3"), (4, "NULL"), (5, "9"), (6, "2"), (7, "4")] {
        of_worker(&world, id, of).await;
    }
    let operator = world.operator();
    world
        .until_true("SELECT count(*) = 2 FROM job_executions WHERE status = 'failed' AND id IN (2, 6)")
        .await;
    missing(&world, "5").await;
    world.request_sweep(&operator).await;
    assert_eq!(running(&world).await, "1 3 4 5 7");
    for (id, words) in [
        ("1", "the last heartbeat of its worker 1 was at"),
        ("3", "its worker 3 never sent a heartbeat"),
        ("4", "it names no worker"),
        ("5", "its worker 9 is not in \"public\".\"workers\" since"),
    ] {
        let text = explained(&world, id);
        assert!(text.contains("WorkerLost") && text.contains(words), "{words} not in {text}");
    }

    age(&world).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 5").await;
    world.request_sweep(&operator).await;
    assert_eq!(running(&world).await, "1 3 4 7");
    let records: String = world
        .one(
            "SELECT string_agg(concat_ws(' ', execution_id, reason, source, note), ', ' ORDER BY execution_id::bigint) \
             FROM jobexec.events WHERE action = 'Failed'",
        )
        .await;
    let of = "WorkerLost ExecutionStore/jobs";
    assert_eq!(records, format!("2 {of}, 5 {of} its worker 9 is not in \"public\".\"workers\", 6 {of}"));
}

#[tokio::test]
async fn a_worker_that_enters_itself_late_is_alive() {
    let world = looked_at("lateworker").await;
    worker(&world, 1, "now()").await;
    of_worker(&world, 1, "1").await;
    of_worker(&world, 2, "8").await;
    of_worker(&world, 3, "9").await;
    let operator = world.operator();
    missing(&world, "2 3").await;
    // One enters itself; the execution of the other is claimed by a third one, which is missing for a moment only.
    worker(&world, 8, "now()").await;
    world.sql("UPDATE job_executions SET worker_id = 10 WHERE id = 3").await;
    age(&world).await;
    missing(&world, "3").await;
    world.request_sweep(&operator).await;
    assert_eq!(running(&world).await, "1 2 3");
    let counted: bool =
        world.one("SELECT bool_and(since > now() - interval '1 hour') FROM jobexec.suspects").await;
    assert!(counted, "the third worker counts from when it was first missing");
}

#[tokio::test]
async fn without_a_worker_that_is_alive_nobody_is_missing() {
    let world = looked_at("noworkers").await;
    worker(&world, 1, "now()").await;
    of_worker(&world, 1, "1").await;
    of_worker(&world, 2, "9").await;
    let operator = world.operator();
    missing(&world, "2").await;
    // Somebody empties the table, as a restore does; the workers still run.
    world.sql("TRUNCATE workers").await;
    age(&world).await;
    missing(&world, "").await;
    world.request_sweep(&operator).await;
    assert_eq!(running(&world).await, "1 2");
    let text = explained(&world, "1");
    assert!(text.contains("which does not count"), "{text}");
    let none = world
        .store_until(&operator, |s| is(&s.conditions, "EvidenceAvailable", "False", "NoWorkerAlive"))
        .await;
    let text = message(&none.conditions, "EvidenceAvailable");
    assert!(text.contains("the workers of 2 running executions are not in \"public\".\"workers\""), "{text}");
    worker(&world, 1, "now()").await;
    world.store_until(&operator, |s| is(&s.conditions, "EvidenceAvailable", "True", "Available")).await;
}

#[tokio::test]
async fn the_newest_row_of_a_worker_counts_and_an_empty_name_is_none() {
    let world = looked_at("workerlog").await;
    // A row for each heartbeat.
    world
        .sql("ALTER TABLE workers DROP CONSTRAINT workers_pkey; ALTER TABLE workers ALTER id TYPE text")
        .await;
    world.sql("ALTER TABLE job_executions ALTER worker_id TYPE text").await;
    world.sql("INSERT INTO workers VALUES ('1', now() - interval '3 hours'), ('1', now()), ('2', now() - interval '2 hours')").await;
    for (id, of) in [(1, "'1'"), (2, "''"), (3, "'9'"), (4, "'2'")] {
        of_worker(&world, id, of).await;
    }
    let operator = world.operator();
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 4").await;
    missing(&world, "3").await;
    world.request_sweep(&operator).await;
    assert_eq!(running(&world).await, "1 2 3");
    let text = explained(&world, "1");
    assert!(text.contains("the last heartbeat of its worker 1"), "{text}");
}

#[tokio::test]
async fn where_no_execution_names_a_worker_of_the_table_nobody_is_missing() {
    let world = looked_at("otherkey").await;
    // The column of the executions names something else.
    worker(&world, 1, "now()").await;
    worker(&world, 2, "now()").await;
    of_worker(&world, 1, "101").await;
    of_worker(&world, 2, "102").await;
    let operator = world.operator();
    world.request_sweep(&operator).await;
    missing(&world, "").await;
    assert_eq!(running(&world).await, "1 2");
}

#[tokio::test]
async fn workers_without_work_tell_an_outage_too() {
    let world = looked_at("idleworkers").await;
    for id in 1..=20 {
        worker(&world, id, "now() - interval '61 minutes'").await;
    }
    of_worker(&world, 1, "1").await;
    let operator = world.operator();
    world.store_until(&operator, |s| is(&s.conditions, "EvidenceAvailable", "False", "HeartbeatsHeld")).await;
    world.request_sweep(&operator).await;
    assert_eq!(running(&world).await, "1");
}

#[tokio::test]
async fn workers_that_fall_silent_together_are_held() {
    let world = looked_at("heldworkers").await;
    for id in 1..=20 {
        worker(&world, id, "now() - interval '61 minutes'").await;
        of_worker(&world, id, &id.to_string()).await;
    }
    let operator = world.operator();
    let status = world
        .store_until(&operator, |s| is(&s.conditions, "EvidenceAvailable", "False", "HeartbeatsHeld"))
        .await;
    let text = message(&status.conditions, "EvidenceAvailable");
    assert!(text.contains("20 of 20 workers stopped together"), "{text}");
    world.request_sweep(&operator).await;
    assert_eq!(world.one::<i64>("SELECT count(*) FROM job_executions WHERE status = 'running'").await, 20);
}

async fn invalid(world: &World, operator: &Operator, reason: &str, words: &str) {
    let status = world.store_until(operator, |s| is(&s.conditions, "SchemaValid", "False", reason)).await;
    let text = message(&status.conditions, "SchemaValid");
    assert!(text.contains(words), "{words} not in {text}");
}

#[tokio::test]
async fn a_table_of_workers_that_cannot_be_used_is_refused_by_its_field() {
    let world = World::with("badworkers", TABLES, &spec()).await;
    world.sql("ALTER TABLE workers ALTER seen TYPE text").await;
    let operator = world.operator();
    world.store(spec()).await;
    invalid(&world, &operator, "ColumnTypeUnsupported", "spec.heartbeat.at must be timestamptz or timestamp")
        .await;
    world.sql("ALTER TABLE workers DROP seen").await;
    invalid(&world, &operator, "ColumnNotFound", "correct spec.heartbeat.at").await;
    world.sql("ALTER TABLE workers ADD seen timestamptz; ALTER TABLE workers ALTER id TYPE numeric").await;
    world.sql("GRANT SELECT ON workers TO PUBLIC").await;
    invalid(&world, &operator, "ColumnTypeUnsupported", "spec.heartbeat.key").await;
    world.sql("DROP TABLE workers").await;
    invalid(&world, &operator, "TableNotFound", "spec.heartbeat").await;
    world.sql("CREATE TABLE workers (id bigint, seen timestamptz)").await;
    invalid(
        &world,
        &operator,
        "InsufficientPrivilege",
        "GRANT SELECT (\"id\", \"seen\") ON \"public\".\"workers\"",
    )
    .await;
}
