//! Paused executions, and rows that the operator must ignore.

use jobexec_operator::api::{JobExecution, Phase};
use serde_json::{Value, json};

use crate::support::world::TABLE;
use crate::support::{Operator, World, is, message};

/// A store whose executions can be paused and skipped.
fn pausing() -> Value {
    json!({"table": {"statuses": {"paused": ["paused"], "ignored": ["skipped"]}}})
}

async fn look(world: &World, operator: &Operator) {
    world.request_sweep(operator).await;
}

/// Waits until the observation of pauses of execution 1 is like this.
async fn until_seen(world: &World, what: &str) {
    let seen = "SELECT FROM jobexec.observations WHERE kind = 'Paused' AND execution_id = '1'";
    world.until_true(&format!("SELECT EXISTS ({seen} AND {what})")).await;
}

#[tokio::test]
async fn the_time_for_which_an_execution_was_seen_paused_does_not_count() {
    let world = World::new("paused").await;
    world.prepare_for(&pausing()).await;
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 1, 1, 'paused', now() - interval '3 days'), \
             (2, 1, 2, 'skipped', now() - interval '3 days')",
        )
        .await;
    world.execution("one", "1", json!({})).await;
    let operator = world.operator();
    world.store(pausing()).await;
    world.store_until(&operator, |s| is(&s.conditions, "Consistent", "True", "NoViolations")).await;
    let status =
        world.execution_until(&operator, "one", |s| is(&s.conditions, "Finished", "False", "Paused")).await;
    assert_eq!((status.phase, status.deadline), (Some(Phase::Paused), None));
    assert!(message(&status.conditions, "Finished").contains("no deadline meanwhile"));
    assert!(is(&status.conditions, "LongRunning", "False", "Paused"), "{:#?}", status.conditions);
    until_seen(&world, "detail IS NULL").await;
    let file = world.file("store.yaml", &World::store_with("jobs", pausing()).to_string());
    let run = |args: &[&str]| {
        let ran = world.jobexec(&[args, &["-f", &file]].concat());
        String::from_utf8(ran.stdout).unwrap() + &String::from_utf8(ran.stderr).unwrap()
    };
    assert!(
        run(&["explain", "1"]).contains("It is paused and has no deadline"),
        "{}",
        run(&["explain", "1"])
    );
    assert!(run(&["extend", "1", "--by", "1h"]).contains("execution 1 is extended by 1h"));

    // It runs again after 70 hours, while no operator runs that could observe it.
    operator.kill();
    world.sql("UPDATE jobexec.observations SET since = now() - interval '70 hours'").await;
    world.sql("UPDATE job_executions SET status = 'running' WHERE id = 1").await;
    let operator = world.operator();
    until_seen(&world, "detail = 'Resumed' AND total BETWEEN '70 hours' AND '71 hours'").await;
    look(&world, &operator).await;
    assert_eq!(world.status(1).await, "running", "it has run for two hours");
    let text = run(&["explain", "1"]);
    assert!(text.contains("later by 2d22h") && text.contains("for which it was paused"), "{text}");

    // The observed pauses add up.
    world.sql("UPDATE job_executions SET status = 'paused' WHERE id = 1").await;
    until_seen(&world, "detail IS NULL AND total > '70 hours'").await;
    world.sql("UPDATE jobexec.observations SET since = now() - interval '10 minutes'").await;
    world.sql("UPDATE job_executions SET status = 'running' WHERE id = 1").await;
    until_seen(&world, "detail = 'Resumed' AND total BETWEEN '70 hours 10 minutes' AND '71 hours'").await;

    // The remaining time counts: 25 hours with the extension.
    world.sql("UPDATE jobexec.observations SET total = interval '46 hours'").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    world.until_true("SELECT count(*) = 0 FROM jobexec.observations").await;
    assert_eq!(world.status(2).await, "skipped");
    let ended = "SELECT string_agg(concat_ws(' ', execution_id, action, reason), ', ') FROM jobexec.events WHERE action = 'Failed'";
    assert_eq!(world.one::<String>(ended).await, "1 Failed DeadlineExceeded");
}

#[tokio::test]
async fn a_column_says_for_how_long_an_execution_was_paused() {
    let spec = json!({"table": {"columns": {"pausedSeconds": "halted"}}});
    let world = World::bare("pausedfor").await;
    world.sql(&format!("{TABLE}; ALTER TABLE job_executions ADD halted numeric")).await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '3 days', NULL, \
             (ARRAY [180000, 3600, NULL, -5, 'NaN', 1e30])[n]::numeric FROM generate_series(1, 6) n",
        )
        .await;
    world.prepare_for(&spec).await;
    let operator = world.operator();
    world.store(spec).await;
    world.until_true("SELECT count(*) = 3 FROM job_executions WHERE status = 'failed'").await;
    look(&world, &operator).await;
    let failed = "SELECT string_agg(id::text, ' ' ORDER BY id) FROM job_executions WHERE status = 'failed'";
    assert_eq!(world.one::<String>(failed).await, "2 3 4");
}

#[tokio::test]
async fn an_execution_that_runs_again_gets_time_for_its_first_heartbeat() {
    let spec = json!({"table": {"statuses": {"paused": ["paused"]}, "columns": {"heartbeatAt": "beat"}},
        "heartbeatTimeout": "1h", "singleActiveExecution": {"gracePeriod": "5m"}});
    let world = World::bare("pausedbeat").await;
    world.sql(&format!("{TABLE}; ALTER TABLE job_executions ADD beat timestamptz")).await;
    // The second execution of its job ran while the first one was paused, which its last heartbeat does not reflect.
    world
        .sql(
            "INSERT INTO job_executions VALUES \
             (1, 1, 1, 'paused', now() - interval '20 hours', NULL, now() - interval '19 hours'), \
             (2, 1, 2, 'completed', now() - interval '10 hours', now() - interval '9 hours', NULL), \
             (3, 3, 1, 'running', now() - interval '20 hours', NULL, now() - interval '19 hours')",
        )
        .await;
    world.prepare_for(&spec).await;
    let operator = world.operator();
    world.store(spec).await;
    until_seen(&world, "detail IS NULL").await;
    // Stopped in order: lost sessions would hold lost heartbeats.
    assert!(operator.stop().success());
    world.sql("UPDATE jobexec.stores SET watched_since = now() - interval '1 day', seen_at = now()").await;
    world.sql("UPDATE job_executions SET status = 'running' WHERE id = 1").await;
    let operator = world.operator();
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 3").await;
    until_seen(&world, "detail = 'Resumed'").await;
    look(&world, &operator).await;
    assert_eq!(world.status(1).await, "running");
    // It has had its hold too, if other sessions on this server were lost meanwhile.
    world
        .sql(
            "UPDATE jobexec.stores SET heartbeats_held = ARRAY[now() - interval '90 minutes']; \
             UPDATE jobexec.observations SET since = now() - interval '2 hours'",
        )
        .await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    let why = "SELECT reason FROM jobexec.events WHERE execution_id = '1' AND action = 'Failed'";
    assert_eq!(world.one::<String>(why).await, "HeartbeatLost");
}

#[tokio::test]
async fn a_paused_execution_keeps_its_object_and_can_be_cancelled() {
    let world = World::new("pausedobject").await;
    let spec = json!({"table": {"statuses": {"paused": ["paused"]}}, "executionObjects": {"enabled": true}, "pollInterval": "1s"});
    world.prepare_for(&spec).await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now())").await;
    let operator = world.operator();
    world.store(spec).await;
    world.execution_until(&operator, "jobs-1", |s| s.phase == Some(Phase::Running)).await;
    let uid = |object: JobExecution| object.metadata.uid;
    let made = uid(world.api::<JobExecution>().get("jobs-1").await.unwrap());
    world.sql("UPDATE job_executions SET status = 'paused'").await;
    world.execution_until(&operator, "jobs-1", |s| s.phase == Some(Phase::Paused)).await;
    world.sql("UPDATE job_executions SET status = 'running'").await;
    world.execution_until(&operator, "jobs-1", |s| s.phase == Some(Phase::Running)).await;
    assert_eq!(uid(world.api::<JobExecution>().get("jobs-1").await.unwrap()), made);
    world.sql("UPDATE job_executions SET status = 'paused'").await;
    world.execution_until(&operator, "jobs-1", |s| s.phase == Some(Phase::Paused)).await;
    world.execution("cancels", "1", json!({"cancel": true})).await;
    world.until_true("SELECT status = 'cancelled' FROM job_executions").await;
}
