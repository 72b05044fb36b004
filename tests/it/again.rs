//! Executions that run again in the same row and keep the start of the earlier run.

use serde_json::json;

use crate::support::{World, is, message};

/// Runs execution 1 again like a worker that keeps its start.
async fn retry(world: &World) {
    world.sql("UPDATE job_executions SET status = 'running', completed_at = NULL WHERE id = 1").await;
}

/// The actions on execution 1.
const DONE: &str = "SELECT string_agg(action, ' ' ORDER BY event_id) FROM jobexec.events \
     WHERE execution_id = '1' AND action <> 'Warned'";

#[tokio::test]
async fn a_retry_that_keeps_its_start_is_told_of_in_the_records_and_a_condition() {
    let world = World::new("again").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '25 hours')").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    retry(&world).await;
    world.until_true(&format!("SELECT ({DONE}) = 'Failed StartedAgain Failed'")).await;
    let note = "SELECT note FROM jobexec.events WHERE action = 'StartedAgain'";
    assert!(world.one::<String>(note).await.contains("runs again with the same start"));
    world.request_sweep(&operator).await;
    let status =
        world.store_until(&operator, |s| is(&s.conditions, "Consistent", "False", "StartedAgain")).await;
    assert!(message(&status.conditions, "Consistent").contains("has to set its start"));
    assert_eq!(status.violations.unwrap().started_again, 1);
    let file = world.file("store.yaml", &World::store_with("jobs", json!({})).to_string());
    for command in [&["explain", "1", "-f", &file][..], &["history", "-f", &file]] {
        let told = String::from_utf8(world.jobexec(command).stdout).unwrap();
        assert!(told.contains("StartedAgain"), "{told}");
    }
    // A run with its own start is judged by that.
    world.sql("UPDATE job_executions SET status = 'running', completed_at = NULL, started_at = now() WHERE id = 1").await;
    world.request_sweep(&operator).await;
    assert_eq!(world.status(1).await, "running");
}

#[tokio::test]
async fn a_retry_that_keeps_its_start_gets_one_grace_period() {
    let world = World::new("againgrace").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '26 hours')").await;
    let operator = world.operator();
    world.store(json!({"gracePeriod": "1h"})).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    retry(&world).await;
    world.until_true(&format!("SELECT ({DONE}) = 'Failed StartedAgain'")).await;
    world.request_sweep(&operator).await;
    assert_eq!(world.status(1).await, "running");
    operator.kill();
    world
        .sql(
            "UPDATE jobexec.events SET at = at - interval '3 hours'; \
             UPDATE jobexec.observations SET since = now() - interval '2 hours' WHERE kind = 'StartedAgain'",
        )
        .await;
    let _operator = world.operator();
    world.until_true(&format!("SELECT ({DONE}) = 'Failed StartedAgain Failed'")).await;
    assert_eq!(world.status(1).await, "failed");
    // Each run gets a grace period, however soon it follows.
    retry(&world).await;
    world.until_true(&format!("SELECT ({DONE}) = 'Failed StartedAgain Failed StartedAgain'")).await;
    assert_eq!(world.status(1).await, "running");
}

#[tokio::test]
async fn each_run_that_is_only_reported_is_reported() {
    let world = World::new("againalert").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '25 hours')").await;
    world.policy("all", json!({"onStale": "AlertOnly"})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.until_true(&format!("SELECT ({DONE}) = 'Alerted'")).await;
    world.sql("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 1").await;
    world.until_true("SELECT EXISTS (SELECT FROM jobexec.observations WHERE kind = 'Ended')").await;
    retry(&world).await;
    world.until_true(&format!("SELECT ({DONE}) = 'Alerted StartedAgain Alerted'")).await;
    world.request_sweep(&operator).await;
    assert_eq!(world.one::<String>(DONE).await, "Alerted StartedAgain Alerted");
    assert_eq!(world.status(1).await, "running");
}
