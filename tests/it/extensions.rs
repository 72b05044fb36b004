//! Extensions: the promised deadline stays until somebody withdraws it.

use jobexec_operator::api::JobExecutionStatus;
use serde_json::json;

use crate::support::{Operator, World, is};

/// Starts a row that has run for this long.
async fn start(world: &World, id: i64, age: &str) {
    world
        .sql(&format!(
            "INSERT INTO job_executions VALUES ({id}, {id}, 1, 'running', now() - interval '{age}')"
        ))
        .await;
}

/// Puts a policy for all with this timeout into effect.
async fn all_have(world: &World, operator: &Operator, timeout: &str) {
    world.policy("all", json!({"timeout": timeout})).await;
    world.policy_until(operator, "all", |s| is(&s.conditions, "Accepted", "True", "InForce")).await;
}

/// Runs the command line directly on the database.
fn run(world: &World, args: &[&str]) -> String {
    let ran = world.jobexec(args);
    let text = String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap();
    assert!(ran.status.success(), "{text}");
    text
}

/// The hours from the start to the deadline, if they are whole.
fn hours(status: &JobExecutionStatus) -> Option<i64> {
    let (start, deadline) = (status.started_at.as_ref()?, status.deadline.as_ref()?);
    let seconds = deadline.0.as_second() - start.0.as_second();
    (seconds % 3600 == 0).then_some(seconds / 3600)
}

/// The running rows.
const RUNNING: &str =
    "SELECT COALESCE(string_agg(id::text, ' ' ORDER BY id), '') FROM job_executions WHERE status = 'running'";

/// One extension by the command line (1), one by an object (2): 24 hours of the store and 12 more.
#[tokio::test]
async fn no_policy_takes_what_people_granted_and_they_can_take_it_back() {
    let world = World::new("granted").await;
    for (id, age) in [(1, "30 hours"), (2, "30 hours"), (3, "10 hours"), (4, "10 hours")] {
        start(&world, id, age).await;
    }
    world.execution("one", "1", json!({})).await;
    world.execution("two", "2", json!({"extendBy": "12h"})).await;
    run(&world, &["extend", "1", "--by", "12h", "--table", "public.job_executions"]);
    let operator = world.operator();
    world.store(json!({})).await;
    for name in ["one", "two"] {
        world.execution_until(&operator, name, |s| hours(s) == Some(36)).await;
    }
    // A promise that is made while an operator has rules in effect is recorded with it.
    run(&world, &["extend", "4", "--by", "2h"]);
    let noted = "SELECT promised = promised_start + interval '26 hours' FROM jobexec.rules WHERE key = '4'";
    assert!(world.one::<bool>(noted).await);

    // This timeout alone would give them 13 hours and 3 hours.
    all_have(&world, &operator, "1h").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 3").await;
    world.request_sweep(&operator).await;
    assert_eq!(world.one::<String>(RUNNING).await, "1 2 4");
    let governed = |s: &JobExecutionStatus| s.timeout_source.as_deref() == Some("ExecutionPolicy/all");
    for name in ["one", "two"] {
        let status = world.execution_until(&operator, name, governed).await;
        assert_eq!(hours(&status), Some(36), "{name}: {status:#?}");
    }
    for id in ["1", "2"] {
        let text = run(&world, &["explain", id]);
        let line = text.lines().find(|line| line.starts_with("* extendBy")).unwrap().to_owned();
        assert!(line.contains(" 12h ") && line.contains("; extended to at least 2"), "{line}");
        assert!(line.contains("as promised when its timeout was longer"), "{line}");
        assert!(text.contains("It is not stale. If nothing changes, it is failed at"), "{text}");
    }
    assert_eq!(run(&world, &["list", "--overdue", "-o", "name"]), "");

    // The promise survives a restart of the operator.
    operator.kill();
    let operator = world.operator();
    world.request_sweep(&operator).await;
    assert_eq!(world.one::<String>(RUNNING).await, "1 2 4");

    // A longer timeout gives more time, as it does to all others, but only the promise stays when the timeout is removed.
    for (timeout, total) in [("48h", 60), ("1h", 36)] {
        all_have(&world, &operator, timeout).await;
        for name in ["one", "two"] {
            world.execution_until(&operator, name, |s| hours(s) == Some(total)).await;
        }
    }
    world.request_sweep(&operator).await;
    assert_eq!(world.one::<String>(RUNNING).await, "1 2 4");

    // A shorter extension withdraws the promise.
    run(&world, &["extend", "1", "--by", "11h"]);
    world.execution("two", "2", json!({"extendBy": "11h"})).await;
    world.until_true("SELECT count(*) = 3 FROM job_executions WHERE status = 'failed'").await;
    let deadlines = "SELECT bool_and(deadline = started_at + CASE execution_id WHEN '3' THEN interval '1 hour' \
                     ELSE interval '12 hours' END) FROM jobexec.events WHERE action = 'Failed'";
    assert!(world.one::<bool>(deadlines).await, "recorded is what was true");
    assert_eq!(world.one::<String>(RUNNING).await, "4");
}

#[tokio::test]
async fn a_promise_is_for_the_run_to_which_it_was_made() {
    let world = World::new("promises").await;
    start(&world, 1, "30 hours").await;
    world.sql("INSERT INTO job_executions VALUES (2, 2, 1, 'scheduled', NULL)").await;
    for id in ["1", "2"] {
        world.execution(&format!("e{id}"), id, json!({"extendBy": "12h"})).await;
    }
    let operator = world.operator();
    world.store(json!({})).await;
    for name in ["e1", "e2"] {
        world.execution_until(&operator, name, |s| is(&s.conditions, "Accepted", "True", "InForce")).await;
    }
    // A waiting execution begins before the rules change.
    world
        .sql("UPDATE job_executions SET status = 'running', started_at = now() - interval '30 hours' WHERE id = 2")
        .await;
    all_have(&world, &operator, "1h").await;
    world.request_sweep(&operator).await;
    assert_eq!(world.one::<String>(RUNNING).await, "1 2");
    // Another run in the same row gets the present timeout and the extension: 13 hours.
    world.sql("UPDATE job_executions SET started_at = now() - interval '14 hours' WHERE id = 1").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    assert_eq!(world.one::<String>(RUNNING).await, "2");

    // An extension that is withdrawn and granted again adds to the present timeout.
    let rule = |is: &str| {
        format!("SELECT extend_by {is} FROM jobexec.rules WHERE scope = 'execution' AND key = '2'")
    };
    world.sql("UPDATE job_executions SET status = 'scheduled' WHERE id = 2").await;
    world.execution("e2", "2", json!({"timeout": "1h"})).await;
    world.until_true(&rule("IS NULL")).await;
    world.execution("e2", "2", json!({"timeout": "1h", "extendBy": "12h"})).await;
    world.until_true(&rule("= interval '12 hours'")).await;
    world.sql("UPDATE job_executions SET status = 'running' WHERE id = 2").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
}

#[tokio::test]
async fn an_extension_outlives_a_new_name_of_the_table_and_a_shorter_timeout() {
    let world = World::new("renaming").await;
    start(&world, 1, "10 hours").await;
    start(&world, 2, "2 hours").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    run(&world, &["extend", "1", "--by", "2h"]);
    world.sql("ALTER TABLE job_executions RENAME TO runs").await;
    world.store_changed(&operator, json!({"table": {"name": "runs"}, "defaultTimeout": "1h"})).await;
    world.until_true("SELECT status = 'failed' FROM runs WHERE id = 2").await;
    world.request_sweep(&operator).await;
    assert_eq!(world.one::<String>("SELECT status FROM runs WHERE id = 1").await, "running");
    assert!(run(&world, &["explain", "1"]).contains("; extended to at least 2"));
}
