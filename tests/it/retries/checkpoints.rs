//! Checkpoints: the next attempt finds them, and those of this run count as heartbeats.

use serde_json::{Value, json};

use super::{QUEUE, RUNS, queue, retries, runs};
use crate::support::{World, is, message};

/// A type that Postgres cannot compare.
const COLUMNS: &str = "ALTER TABLE job_executions ADD checkpoint json, ADD checkpoint_at timestamptz";

fn columns() -> Value {
    json!({"columns": {"checkpoint": "checkpoint", "checkpointAt": "checkpoint_at"}})
}

fn policy() -> Value {
    json!({"onStale": "Retry", "retry": {"after": "0s", "backoff": {"initial": "0s"}}})
}

#[tokio::test]
async fn a_new_row_has_the_checkpoint_which_does_not_count_as_its_heartbeat() {
    let mut more = json!({"heartbeatTimeout": "2s", "table": columns()});
    // Also if it is named twice.
    more["table"]["retry"]["copyColumns"] = json!(["payload", "checkpoint"]);
    let spec = runs(&more);
    let world = World::with("checkpointnew", &format!("{RUNS}; {COLUMNS}"), &spec).await;
    let insert = "INSERT INTO job_executions (job_id, execution_number, status, started_at, payload, checkpoint, checkpoint_at) VALUES";
    world
        .sql(&format!(
            "{insert} (1, 1, 'running', now() - interval '2 hours', '{{}}', '{{\"item\": 60}}', now() - interval '1 hour'), \
             (2, 1, 'running', now() - interval '2 hours', '{{}}', NULL, NULL), \
             (3, 1, 'running', now() - interval '2 hours', '{{}}', '7', now() + interval '1 hour')"
        ))
        .await;
    world.policy("all", policy()).await;
    world.store(spec.clone()).await;
    let operator = world.operator();
    world.until_true("SELECT count(*) = 1 FROM job_executions WHERE status = 'scheduled'").await;
    let rows = "SELECT array_agg(concat_ws(' ', id, job_id, status, checkpoint, checkpoint_at < now()) ORDER BY id) FROM job_executions";
    assert_eq!(
        world.one::<Vec<String>>(rows).await,
        [r#"1 1 failed {"item": 60} t"#, "2 2 running", "3 3 running 7 f", r#"4 1 scheduled {"item": 60} t"#]
    );

    // The next attempt of 1 starts, and so does another execution, which falls silent after a checkpoint of its own.
    world
        .sql(&format!(
            "UPDATE job_executions SET status = 'running', started_at = now() WHERE id = 4; \
             {insert} (5, 1, 'running', now(), '{{}}', NULL, now() + interval '1 millisecond')"
        ))
        .await;
    world
        .until_true("SELECT status = 'failed' FROM job_executions WHERE job_id = 5 AND execution_number = 1")
        .await;
    world.request_sweep(&operator).await;
    for id in [2, 3, 4] {
        assert_eq!(world.status(id).await, "running", "{id}");
    }
    let file = world.file("store.yaml", &World::store_with("jobs", spec).to_string());
    let explain = |more: &[&str]| {
        let output = world.jobexec(&[&["explain", "4", "-f", &file], more].concat());
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let text = explain(&[]);
    assert!(text.contains("\n  checkpoint ") && text.contains(", by an earlier attempt\n"), "{text}");
    assert!(text.contains("there never was one, so that only the deadline counts"), "{text}");
    let shown: Value = serde_json::from_str(&explain(&["-o", "json"])).unwrap();
    let same: bool = world
        .one(&format!(
            "SELECT checkpoint_at = '{}' FROM job_executions WHERE id = 4",
            shown["checkpoint_at"].as_str().unwrap()
        ))
        .await;
    assert!(same, "{shown}");

    world.sql("UPDATE job_executions SET checkpoint_at = clock_timestamp() WHERE id = 4").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 4").await;
    assert_eq!(retries(&world).await[..2], ["1 1 Retried", "4 2 Retried"]);
    let reason: String =
        world.one("SELECT reason FROM jobexec.events WHERE execution_id = '4' AND action = 'Failed'").await;
    assert_eq!(reason, "HeartbeatLost");
    assert!(operator.stop().success());
}

#[tokio::test]
async fn a_row_keeps_its_checkpoint_which_counts_beside_its_heartbeats() {
    let spec = queue(&json!({"heartbeatTimeout": "2s", "table": columns()}));
    let world = World::with("checkpointkept", &format!("{QUEUE}; {COLUMNS}"), &spec).await;
    world
        .sql(
            "INSERT INTO job_executions (id, job_id, status, started_at, checkpoint, heartbeat_at, checkpoint_at) \
             SELECT id, id, 'running', now() - interval '2 hours', '60', now() + beat, now() + written FROM (VALUES \
                 (1, interval '-1 hour', interval '1 hour'), (2, interval '1 hour', interval '-1 hour'), \
                 (3, interval '-1 hour', interval '-1 hour'), (4, NULL, interval '-1 hour'), \
                 (5, NULL, interval '-3 hours')) AS r (id, beat, written)",
        )
        .await;
    world.policy("all", policy()).await;
    world.store(spec).await;
    let operator = world.operator();
    world.until_true("SELECT count(*) = 2 FROM jobexec.retries WHERE outcome = 'Retried'").await;
    world.request_sweep(&operator).await;
    let rows: Vec<String> = world
        .one(
            "SELECT array_agg(concat_ws(' ', id, status, checkpoint, started_at IS NULL, heartbeat_at IS NULL, checkpoint_at < now()) \
             ORDER BY id) FROM job_executions",
        )
        .await;
    assert_eq!(
        rows,
        [
            "1 running 60 f f f",
            "2 running 60 f f t",
            "3 scheduled 60 t t t",
            "4 scheduled 60 t t t",
            "5 running 60 f t t"
        ]
    );
    assert!(operator.stop().success());
}

#[tokio::test]
async fn columns_that_cannot_hold_a_checkpoint_are_told() {
    let world = World::with("checkpointcannot", &format!("{RUNS}; {COLUMNS}"), &runs(&json!({}))).await;
    world.sql("ALTER TABLE job_executions ADD twice bigint GENERATED ALWAYS AS (job_id * 2) STORED").await;
    let operator = world.operator();
    let cases = [
        ("checkpoint", "nothing", "has no column \"nothing\": correct spec.table.columns.checkpoint"),
        ("checkpointAt", "note", "spec.table.columns.checkpointAt must be timestamptz or timestamp"),
    ];
    for (field, column, expected) in cases {
        world.store(runs(&json!({"table": {"columns": {field: column}}}))).await;
        world.store_until(&operator, |s| message(&s.conditions, "Ready").contains(expected)).await;
    }
    // Nor may this role read it yet.
    let unread = runs(&json!({"table": columns()}));
    world.store(unread.clone()).await;
    world
        .store_until(&operator, |s| {
            is(&s.conditions, "Ready", "False", "InsufficientPrivilege")
                && message(&s.conditions, "Ready").contains("\"checkpoint\", \"checkpoint_at\"")
        })
        .await;
    world.prepare_for(&unread).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    world.store(runs(&json!({"table": {"columns": {"checkpoint": "twice"}}}))).await;
    world.sql(&format!("GRANT SELECT (twice) ON job_executions TO {}", world.role)).await;
    let expected =
        "\"twice\" is generated, so that it cannot be copied: name another one in spec.table.columns";
    world
        .store_until(&operator, |s| {
            is(&s.conditions, "RetriesAvailable", "False", "RetryNotPossible")
                && message(&s.conditions, "RetriesAvailable").contains(expected)
        })
        .await;
    assert!(operator.stop().success());
}
