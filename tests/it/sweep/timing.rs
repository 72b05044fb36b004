//! When a sweep comes, and when it must not fail anything yet.

use std::time::Duration;

use serde_json::json;

use crate::support::{World, is};

#[tokio::test]
async fn an_execution_is_failed_at_its_deadline_and_never_before() {
    let world = World::new("deadline").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, 1, n, 'running', clock_timestamp() - interval '1 hour' + n * interval '700 ms' \
             FROM generate_series(1, 5) n",
        )
        .await;
    let operator = world.operator();
    // The poll interval is far longer than the time to the deadlines.
    world.store(json!({"defaultTimeout": "59m59s", "gracePeriod": "1s", "pollInterval": "10m"})).await;
    world.store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.running_executions == 0)).await;
    let early: i64 = world
        .one("SELECT count(*) FROM job_executions WHERE completed_at < started_at + interval '1 hour'")
        .await;
    assert_eq!(early, 0);
    let recorded: i64 = world
        .one(
            "SELECT count(*) FROM jobexec.events e JOIN job_executions x ON x.id::text = e.execution_id \
              WHERE e.deadline = x.started_at + interval '1 hour' AND e.at = x.completed_at",
        )
        .await;
    assert_eq!(recorded, 5);
}

#[tokio::test]
async fn observing_changes_no_row_and_enforcing_resumes() {
    let world = World::new("observe").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    let operator = world.operator();
    world.store(json!({"mode": "Observe"})).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "EnforcementPaused", "True", "Observing") && s.metrics.is_some()
        })
        .await;
    assert!(is(&status.conditions, "Ready", "True", "Observing"));
    assert_eq!(status.metrics.unwrap().stale_executions, 1);
    assert!(status.last_sweep.is_none());
    assert_eq!(world.status(1).await, "running");

    world.store(json!({"mode": "Enforce"})).await;
    world.store_until(&operator, |s| s.last_sweep.as_ref().is_some_and(|w| w.failed == 1)).await;
    assert_eq!(world.status(1).await, "failed");
}

#[tokio::test]
async fn a_sweep_comes_when_asked_for_once() {
    let world = World::new("request").await;
    let operator = world.operator();
    world.store(json!({"pollInterval": "10m"})).await;
    world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    let status = world.request_sweep(&operator).await;
    let sweep = status.last_sweep.unwrap();
    assert_eq!((sweep.trigger.as_str(), sweep.failed), ("Requested", 1));
    assert_eq!(world.status(1).await, "failed");

    // After a restart, the same request is not answered again.
    operator.kill();
    let operator = world.operator();
    let status =
        world.store_until(&operator, |s| s.last_sweep.as_ref().is_some_and(|w| w.trigger == "Startup")).await;
    assert_eq!(status.last_sweep.unwrap().failed, 0);
}

#[tokio::test]
async fn a_sweep_comes_at_each_interval_and_finds_what_nothing_told_of() {
    let world = World::new("interval").await;
    let operator = world.operator();
    // Without it, there would be no reconcile for a minute.
    world.store(json!({"sweepInterval": "10s", "pollInterval": "10m"})).await;
    let status = world
        .store_until(&operator, |s| s.last_sweep.as_ref().is_some_and(|w| w.trigger == "Interval"))
        .await;
    assert_eq!(status.last_sweep.unwrap().failed, 0);
    for rows in 1..=2 {
        let sql = "INSERT INTO job_executions SELECT $1 * 10 + n, 1, n, 'running', now() - interval '2 days' FROM generate_series(1, $1) n";
        sqlx::query(sql).bind(rows).execute(&world.pool).await.unwrap();
        let failed =
            world.store_until(&operator, |s| s.last_sweep.as_ref().is_some_and(|w| w.failed == rows));
        tokio::time::timeout(Duration::from_secs(40), failed).await.expect("no sweep came");
    }
}

#[tokio::test]
async fn nothing_is_failed_before_all_objects_were_seen() {
    let world = World::new("unseen").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    world.execution("e", "1", json!({"timeout": "72h"})).await;
    world.forbid("jobexecutions").await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world
        .store_until(&operator, |s| is(&s.conditions, "EnforcementPaused", "True", "CacheNotSynced"))
        .await;
    assert!(is(&status.conditions, "Ready", "False", "CacheNotSynced"));
    assert_eq!(world.status(1).await, "running");
    assert!(operator.log().contains("cannot watch jobexecutions"), "{}", operator.log());
    assert!(operator.stop().success(), "it ends also while it cannot watch");

    crate::support::rbac::install(&world.client, &world.namespace).await;
    let operator = world.operator();
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    assert_eq!(world.status(1).await, "running");
}
