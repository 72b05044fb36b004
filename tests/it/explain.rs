//! The command `jobexec explain`.

use std::process::Command;

use serde_json::json;

use crate::support::world::TABLE;
use crate::support::{World, is};

fn explain(world: &World, args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_jobexec"))
        .arg("explain")
        .args(args)
        .env("DATABASE_URL", world.url("right/password"))
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), text)
}

/// Evidence that never ends an execution is not announced.
#[tokio::test]
async fn a_lost_heartbeat_of_a_run_whose_beginning_nobody_knows_is_not_said_to_end_it() {
    let spec = json!({"heartbeatTimeout": "1m", "table": {"columns": {"heartbeatAt": "beat"}}});
    let table = format!("{TABLE}; ALTER TABLE job_executions ADD beat timestamptz");
    let world = World::with("explain-undated", &table, &spec).await;
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 1, 1, 'running', NULL, NULL, now()), \
             (2, 1, 2, 'running', now(), NULL, now()), (3, 1, 3, 'scheduled', now(), NULL, now())",
        )
        .await;
    let operator = world.operator();
    world.store(spec.clone()).await;
    world
        .until_true("SELECT count(*) = 1 FROM jobexec.observations WHERE kind = 'RunningWithoutStart'")
        .await;
    operator.kill();
    // No operator has observed this version of the row.
    world.sql("UPDATE job_executions SET job_id = 2 WHERE id = 1").await;
    let file = world.file("store.yaml", &World::store_with("jobs", spec).to_string());
    let told = |id: &str| explain(&world, &[id, "-f", &file]).1;
    let text = told("1");
    assert!(
        text.contains("that it is lost does not count, since it is not known when this run began"),
        "{text}"
    );
    assert!(text.contains("so nothing ends it. Once an operator sees it"), "{text}");
    assert!(!text.contains("stale by that") && !text.contains("(HeartbeatLost)"), "{text}");
    assert!(told("2").contains("(HeartbeatLost)"), "{}", told("2"));
    assert!(!told("3").contains("stale by that"), "{}", told("3"));
}

/// Runs with exactly the permissions of the operator's role.
#[tokio::test]
async fn every_rule_is_told_and_why_it_counts() {
    let world = World::new("explain").await;
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 21, 5, 'running', now() - interval '2 hours'), \
             (2, 21, 6, 'running', now() - interval '30 hours'), (3, 21, 7, 'scheduled', NULL), (4, 22, 1, 'running', NULL)",
        )
        .await;
    let (ok, text) = explain(&world, &["2"]);
    assert!(ok && text.contains("only the store's own settings count here"), "{text}");
    assert!(text.contains("It is stale (DeadlineExceeded), and is failed by the next sweep"), "{text}");

    assert!(explain(&world, &["4"]).1.contains(
        "It has no start time and has not yet been seen running in the present version of its row, so nothing ends it"
    ));

    let operator = world.operator();
    for (name, timeout) in [("a-invoices", "5h"), ("b-invoices", "1h")] {
        let policy = json!({
            "apiVersion": "jobexec.dev/v1alpha1", "kind": "ExecutionPolicy", "metadata": {"name": name},
            "spec": {"storeRef": {"name": "jobs"}, "selector": {"jobIds": ["21"]}, "timeout": timeout},
        });
        world.apply::<jobexec_operator::api::ExecutionPolicy>(name, policy).await.unwrap();
    }
    world.execution("e", "1", json!({"extendBy": "90m"})).await;
    world.store(json!({})).await;
    world.execution_until(&operator, "e", |s| is(&s.conditions, "Accepted", "True", "InForce")).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;

    let (ok, text) = explain(&world, &["1"]);
    assert!(ok, "{text}");
    let line = |start: &str| {
        let found = text.lines().find(|line| line.starts_with(start));
        found
            .unwrap_or_else(|| panic!("no {start:?} in {text}"))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(line("* timeout"), "* timeout 5h ExecutionPolicy/a-invoices the most specific");
    assert_eq!(line("* extendBy"), "* extendBy 1h30m JobExecution/e the most specific");
    assert!(text.contains("ExecutionPolicy/b-invoices  another object of the same rank is older"), "{text}");
    assert!(line("  deadline").contains(", in 4h2"), "{text}");
    assert!(text.contains("If nothing changes, it is failed at"), "{text}");
    assert!(text.contains("DeadlineMoved (SpecChanged) on behalf of JobExecution/e, by test"), "{text}");

    let (_, text) = explain(&world, &["2"]);
    assert!(text.contains("Failed (DeadlineExceeded) on behalf of ExecutionPolicy/a-invoices"), "{text}");
    assert!(text.contains("It has ended and stays as it is."), "{text}");
    assert!(explain(&world, &["3"]).1.contains("It is not running, so it cannot be stale."));
    let (_, text) = explain(&world, &["4"]);
    assert!(
        text.contains(
            "when it was first seen running in the present version of its row, since it has no start"
        ),
        "{text}"
    );
    for (id, told) in [("7", "execution 7 does not exist in the table"), ("abc", "invalid id \"abc\"")] {
        let (ok, text) = explain(&world, &[id]);
        assert!(!ok && text.contains(told), "{text}");
    }
}
