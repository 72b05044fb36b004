//! `jobexec explain`.

use std::process::Command;

use serde_json::json;

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

/// With the rights of the operator's role and no more.
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

    assert!(explain(&world, &["4"]).1.contains("It has no start, and was not seen running without one yet"));

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
    assert!(text.contains("If nothing changes it is failed at"), "{text}");
    assert!(text.contains("DeadlineMoved (SpecChanged) on behalf of JobExecution/e, by test"), "{text}");

    let (_, text) = explain(&world, &["2"]);
    assert!(text.contains("Failed (DeadlineExceeded) on behalf of ExecutionPolicy/a-invoices"), "{text}");
    assert!(text.contains("It has ended, and stays as it is."), "{text}");
    assert!(explain(&world, &["3"]).1.contains("It does not run, so it cannot be stale."));
    let (_, text) = explain(&world, &["4"]);
    assert!(text.contains("when it was first seen running, since it has no start"), "{text}");
    for (id, told) in [("7", "the table has no execution 7"), ("abc", "\"abc\" is no id of this table")] {
        let (ok, text) = explain(&world, &[id]);
        assert!(!ok && text.contains(told), "{text}");
    }
}
