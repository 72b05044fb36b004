//! Executions that a user cancels through an object: once, guarded, and with a reason if it does not happen.

use jobexec_operator::api::{JobExecution, JobExecutionStatus, Phase};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{objects, patch, start};
use crate::support::{Operator, World, is, message};

/// The object of a cancelled execution gets too large and then small again; its request stays refused.
async fn refused_and_used_again(world: &World, operator: &Operator, name: &str) {
    let statuses = world.api::<JobExecution>();
    let heavy = json!({"status": {"jobId": "x".repeat(200_000)}});
    statuses.patch_status(name, &PatchParams::default(), &Patch::Merge(heavy)).await.unwrap();
    let conditions =
        world.raw_conditions_until(operator, "JobExecution", name, "Bound", "ObjectTooLarge").await;
    assert!(is(&conditions, "Accepted", "False", "ExecutionReused"), "{conditions:#?}");
    let light = json!({"status": {"jobId": null}});
    statuses.patch_status(name, &PatchParams::default(), &Patch::Merge(light)).await.unwrap();
    let told =
        world.execution_until(operator, name, |s| is(&s.conditions, "Bound", "True", "RowFound")).await;
    assert!(is(&told.conditions, "Accepted", "False", "ExecutionReused"), "{:#?}", told.conditions);
    assert!(!message(&told.conditions, "Bound").contains("memory"), "{:#?}", told.conditions);
}

#[tokio::test]
async fn an_execution_is_cancelled_once_when_a_person_asks() {
    let world = World::new("cancel").await;
    start(&world, 1, "1 minute").await;
    world.sql("INSERT INTO job_executions VALUES (2, 7, 2, 'scheduled')").await;
    world.sql("INSERT INTO job_executions VALUES (3, 7, 3, 'completed', now() - interval '2 hours', now() - interval '1 hour')").await;
    start(&world, 4, "1 minute").await;
    let operator = world.operator();
    world.store(objects(&json!({"finishedTTL": "1h"}))).await;
    world.execution_until(&operator, "jobs-1", |s| s.phase == Some(Phase::Running)).await;
    patch(&world, "jobs-1", json!({"cancel": true})).await.unwrap();
    let told = world.execution_until(&operator, "jobs-1", |s| s.phase == Some(Phase::Cancelled)).await;
    assert!(is(&told.conditions, "Accepted", "True", "Cancelled"), "{:#?}", told.conditions);
    assert!(is(&told.conditions, "Succeeded", "False", "CancelRequested"), "{:#?}", told.conditions);
    let why = message(&told.conditions, "Succeeded");
    assert!(why.contains("JobExecution/jobs-1") && why.contains("kubectl-edit"), "{why}");
    let note = world.event_until(&operator, "jobs-1", "CancelRequested").await;
    assert!(note.contains("kubectl-edit"), "{note}");
    let row = "SELECT status || ' ' || (completed_at BETWEEN now() - interval '1 minute' AND now()) FROM job_executions WHERE id = 1";
    assert_eq!(world.one::<String>(row).await, "cancelled true");

    world.execution("waits", "2", json!({"cancel": true})).await;
    world.execution_until(&operator, "waits", |s| s.phase == Some(Phase::Cancelled)).await;
    world.execution("late", "3", json!({"cancel": true})).await;
    let told = world
        .execution_until(&operator, "late", |s| is(&s.conditions, "Accepted", "False", "ExecutionFinished"))
        .await;
    assert_eq!(told.phase, Some(Phase::Completed));

    // A worker that is about to finish wins over any request.
    let mut worker = world.pool.begin().await.unwrap();
    sqlx::query("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 4")
        .execute(&mut *worker)
        .await
        .unwrap();
    world.execution_until(&operator, "jobs-4", |s| s.phase == Some(Phase::Running)).await;
    patch(&world, "jobs-4", json!({"cancel": true})).await.unwrap();
    world.execution_until(&operator, "jobs-4", |s| is(&s.conditions, "Accepted", "False", "RowLocked")).await;
    worker.commit().await.unwrap();
    world
        .execution_until(&operator, "jobs-4", |s| is(&s.conditions, "Accepted", "False", "ExecutionFinished"))
        .await;
    assert_eq!(world.status(4).await, "completed");

    // A second execution with the id of a cancelled one is not cancelled either.
    world.sql("UPDATE job_executions SET status = 'running', started_at = now(), completed_at = NULL WHERE id = 2").await;
    let told = world
        .execution_until(&operator, "waits", |s| is(&s.conditions, "Accepted", "False", "ExecutionReused"))
        .await;
    assert_eq!(told.phase, Some(Phase::Running));
    world.request_sweep(&operator).await;
    assert_eq!(world.status(2).await, "running");

    // Nor after the object was refused and can be used again: the status remembers that the cancel was carried out.
    refused_and_used_again(&world, &operator, "waits").await;
    world.request_sweep(&operator).await;
    assert_eq!(world.status(2).await, "running");

    let noted: String = world
        .one("SELECT string_agg(concat_ws(' ', execution_id, action, reason, source, actor), ', ' ORDER BY execution_id) FROM jobexec.events")
        .await;
    assert_eq!(
        noted,
        "1 Cancelled CancelRequested JobExecution/jobs-1 kubectl-edit, 2 Cancelled CancelRequested JobExecution/waits test"
    );
}

/// Withdraws the request to cancel an execution, and waits until that was observed.
async fn take_back(world: &World, operator: &Operator, name: &str) {
    patch(world, name, json!({"cancel": false})).await.unwrap();
    world.execution_until(operator, name, |s| s.conditions.iter().all(|c| c.type_ != "Accepted")).await;
}

#[tokio::test]
async fn what_was_asked_while_the_store_observed_is_not_carried_out_later() {
    let world = World::new("observed").await;
    start(&world, 1, "1 minute").await;
    start(&world, 2, "1 minute").await;
    let operator = world.operator();
    world.store(json!({"mode": "Observe"})).await;
    world.execution("asked", "1", json!({"cancel": true})).await;
    let observing = |s: &JobExecutionStatus| is(&s.conditions, "Accepted", "False", "Observing");
    let told = world.execution_until(&operator, "asked", observing).await;
    assert!(message(&told.conditions, "Accepted").contains("not carried out later"), "{told:#?}");
    world.store(json!({"mode": "Enforce"})).await;
    // Another change of the object does not repeat the request.
    patch(&world, "asked", json!({"extendBy": "1h"})).await.unwrap();
    world.execution("later", "2", json!({"cancel": true})).await;
    world.execution_until(&operator, "later", |s| s.phase == Some(Phase::Cancelled)).await;
    let generation = world.api::<JobExecution>().get("asked").await.unwrap().metadata.generation;
    let again = |s: &JobExecutionStatus| s.observed_generation == generation && observing(s);
    world.execution_until(&operator, "asked", again).await;
    assert_eq!(world.status(1).await, "running");

    patch(&world, "asked", json!({"cancel": false})).await.unwrap();
    world.execution_until(&operator, "asked", |s| is(&s.conditions, "Accepted", "True", "InForce")).await;
    patch(&world, "asked", json!({"cancel": true})).await.unwrap();
    world.execution_until(&operator, "asked", |s| is(&s.conditions, "Accepted", "True", "Cancelled")).await;
    assert_eq!(world.status(1).await, "cancelled");
}

#[tokio::test]
async fn why_an_execution_is_not_cancelled_is_told() {
    let world = World::new("uncancel").await;
    start(&world, 1, "1 minute").await;
    let operator = world.operator();
    world.store(json!({"mode": "Observe"})).await;
    world.execution("e", "1", json!({"cancel": true})).await;
    world.execution_until(&operator, "e", |s| is(&s.conditions, "Accepted", "False", "Observing")).await;
    take_back(&world, &operator, "e").await;
    world.store(json!({"mode": "Enforce", "table": {"statuses": {"cancelled": []}}})).await;
    patch(&world, "e", json!({"cancel": true})).await.unwrap();
    world.execution_until(&operator, "e", |s| is(&s.conditions, "Accepted", "False", "NotSupported")).await;
    world
        .sql("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not on a Sunday'; END $$; \
              CREATE TRIGGER no BEFORE UPDATE ON job_executions FOR EACH ROW EXECUTE FUNCTION no()")
        .await;
    world.store(json!({"mode": "Enforce"})).await;
    let told = world
        .execution_until(&operator, "e", |s| is(&s.conditions, "Accepted", "False", "ExecutionRefused"))
        .await;
    assert!(message(&told.conditions, "Accepted").contains("not on a Sunday"));
    assert_eq!(world.status(1).await, "running");
    world.sql("DROP TRIGGER no ON job_executions").await;
    world.execution_until(&operator, "e", |s| is(&s.conditions, "Accepted", "True", "Cancelled")).await;
}
