//! `JobExecution` objects: they are bound to their row, and control its timeout.

use jobexec_operator::api::{JobExecution, Phase};
use kube::api::DeleteParams;
use serde_json::json;

use crate::support::{World, is, message};

#[tokio::test]
async fn an_object_follows_its_row_from_before_it_exists_to_its_end() {
    let world = World::new("follow").await;
    let operator = world.operator();
    world.execution("e", "7", json!({})).await;
    world.execution_until(&operator, "e", |s| is(&s.conditions, "Bound", "False", "StoreNotFound")).await;
    world.store(json!({})).await;
    let status =
        world.execution_until(&operator, "e", |s| is(&s.conditions, "Bound", "False", "RowNotFound")).await;
    assert!(is(&status.conditions, "Finished", "Unknown", "RowNotFound"));

    world.sql("INSERT INTO job_executions VALUES (7, 3, 2, 'scheduled')").await;
    let status = world.execution_until(&operator, "e", |s| s.phase == Some(Phase::Scheduled)).await;
    assert!(is(&status.conditions, "Bound", "True", "RowFound") && status.deadline.is_none());

    world.sql("UPDATE job_executions SET status = 'running', started_at = now() WHERE id = 7").await;
    let status = world.execution_until(&operator, "e", |s| s.phase == Some(Phase::Running)).await;
    assert!(is(&status.conditions, "Finished", "False", "Running"));
    assert!(is(&status.conditions, "Succeeded", "Unknown", "Running"));
    assert_eq!(status.timeout.as_deref(), Some("24h"));
    assert_eq!(status.timeout_source.as_deref(), Some("ExecutionStore/jobs"));
    let (start, deadline) = (status.started_at.unwrap().0, status.deadline.unwrap().0);
    assert_eq!(deadline.duration_since(start).as_hours(), 24);

    world.sql("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 7").await;
    let status = world.execution_until(&operator, "e", |s| s.phase == Some(Phase::Completed)).await;
    assert!(is(&status.conditions, "Finished", "True", "Completed"));
    assert!(is(&status.conditions, "Succeeded", "True", "Completed"));
    world.event_until(&operator, "e", "Completed").await;

    let shown = std::process::Command::new("kubectl")
        .args(["get", "jexec", "e", "--no-headers", "-n", &world.namespace])
        .output()
        .unwrap();
    let line = String::from_utf8(shown.stdout).unwrap();
    let columns: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(columns[..5], ["e", "jobs", "3", "2", "Completed"], "{line}");
}

#[tokio::test]
async fn an_objects_timeout_overrides_the_stores_for_its_row_alone() {
    let world = World::new("override").await;
    world
        .sql("INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 days' FROM generate_series(1, 2) n; \
              INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 hours' FROM generate_series(3, 4) n")
        .await;
    // As long as an id of a distributed generator.
    world.sql("INSERT INTO job_executions VALUES (9223372036854775807, 1, 5, 'running', now() - interval '2 days')").await;
    world.execution("longest-id", "9223372036854775807", json!({"timeout": "72h"})).await;
    world.execution("longer", "1", json!({"timeout": "72h"})).await;
    world.execution("shorter", "3", json!({"timeout": "1h"})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    let statuses = "SELECT string_agg(id || status, ' ' ORDER BY id) FROM job_executions";
    assert_eq!(
        world.one::<String>(statuses).await,
        "1running 2failed 3failed 4running 9223372036854775807running"
    );
    let longer = world.execution_until(&operator, "longer", |s| s.phase == Some(Phase::Running)).await;
    assert_eq!(longer.timeout_source.as_deref(), Some("JobExecution/longer"));
    assert_eq!(longer.timeout.as_deref(), Some("3d"));
    let shorter = world.execution_until(&operator, "shorter", |s| s.phase == Some(Phase::Failed)).await;
    assert!(is(&shorter.conditions, "Succeeded", "False", "DeadlineExceeded"), "{:#?}", shorter.conditions);
    assert!(message(&shorter.conditions, "Succeeded").ends_with("the timeout is from JobExecution/shorter"));
    let source: String = world.one("SELECT source FROM jobexec.events WHERE execution_id = '3'").await;
    assert_eq!(source, "JobExecution/shorter");

    // A shorter timeout takes effect at once while the row runs, whatever the poll interval.
    world.store(json!({"pollInterval": "10m"})).await;
    world.execution("live", "4", json!({"timeout": "1h59m"})).await;
    world
        .execution_until(&operator, "live", |s| is(&s.conditions, "Succeeded", "False", "DeadlineExceeded"))
        .await;
    assert_eq!(world.status(4).await, "failed");
}

#[tokio::test]
async fn deleting_an_object_touches_no_row_and_ends_its_rule() {
    let world = World::new("delete").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '1 hour')").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.execution("e", "1", json!({"timeout": "72h"})).await;
    world.execution_until(&operator, "e", |s| s.timeout.as_deref() == Some("3d")).await;
    assert_eq!(
        world.one::<i64>("SELECT count(*) FROM jobexec.rules WHERE scope = 'execution'").await,
        1,
        "written before it is reported"
    );
    let before: String = world.one("SELECT t::text || xmin FROM job_executions t").await;

    world.api::<JobExecution>().delete("e", &DeleteParams::default()).await.unwrap();
    // Another object for the same row shows when the rule of the first one is gone.
    world.execution("again", "1", json!({})).await;
    world
        .execution_until(&operator, "again", |s| s.timeout_source.as_deref() == Some("ExecutionStore/jobs"))
        .await;
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.rules WHERE scope = 'execution'").await, 0);
    assert_eq!(world.one::<String>("SELECT t::text || xmin FROM job_executions t").await, before);
}

#[tokio::test]
async fn an_id_that_no_row_can_have_is_told() {
    let world = World::new("ids").await;
    let operator = world.operator();
    world.store(json!({})).await;
    for (name, id) in
        [("word", "abc"), ("sql", "1; drop table job_executions"), ("huge", "99999999999999999999")]
    {
        world.execution(name, id, json!({"timeout": "1h"})).await;
        let told = world
            .execution_until(&operator, name, |s| is(&s.conditions, "Bound", "False", "InvalidExecutionId"))
            .await;
        assert!(message(&told.conditions, "Bound").contains("bigint"));
    }
    world.sql("INSERT INTO job_executions VALUES (42, 1, 1, 'running', now())").await;
    world.execution("written-otherwise", "+042", json!({})).await;
    world.execution_until(&operator, "written-otherwise", |s| s.phase == Some(Phase::Running)).await;
}

#[tokio::test]
async fn a_timeout_set_while_the_operator_was_away_counts_from_its_first_sweep() {
    let world = World::new("away").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    operator.kill();
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    world.execution("e", "1", json!({"timeout": "72h"})).await;
    let operator = world.operator();
    let status =
        world.store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.running_executions == 1)).await;
    assert_eq!(status.metrics.unwrap().stale_executions, 0);
    assert_eq!(world.status(1).await, "running");
}
