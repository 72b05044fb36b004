//! The health of the table in a store's status.

use serde_json::json;

use crate::support::{World, is, message};

#[tokio::test]
async fn the_health_metrics_are_exact_and_too_many_long_runners_are_unhealthy() {
    let world = World::new("health").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '3 hours' FROM generate_series(1, 5) n; \
             INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '50 minutes' FROM generate_series(6, 8) n; \
             INSERT INTO job_executions SELECT n, 1, n, 'scheduled' FROM generate_series(9, 12) n; \
             INSERT INTO job_executions SELECT n, 1, n, 'completed', now() - interval '23 hours', now() FROM generate_series(13, 14) n; \
             INSERT INTO job_executions SELECT n, 1, n, 'failed', now() - interval '25 hours', now() FROM generate_series(15, 30) n",
        )
        .await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world.store_until(&operator, |s| is(&s.conditions, "Healthy", "True", "WithinLimits")).await;
    let m = status.metrics.unwrap();
    assert_eq!(
        (m.running_executions, m.scheduled_executions, m.long_running_executions, m.stale_executions),
        (8, 4, 5, 0)
    );
    assert_eq!(m.recent_executions_24h, 10);
    let oldest = world
        .one::<chrono::DateTime<chrono::Utc>>(
            "SELECT min(started_at) FROM job_executions WHERE status = 'running'",
        )
        .await;
    assert_eq!(m.oldest_running_started_at.unwrap().0.as_second(), oldest.timestamp());
    assert!(m.timestamp.is_some());

    world.sql("UPDATE job_executions SET started_at = now() - interval '2 hours' WHERE id = 6").await;
    let status = world
        .store_until(&operator, |s| is(&s.conditions, "Healthy", "False", "LongRunningExecutions"))
        .await;
    assert!(
        message(&status.conditions, "Healthy")
            .starts_with("6 executions have been running for longer than 1h")
    );
    assert!(
        is(&status.conditions, "Ready", "True", "Enforcing"),
        "unhealthy executions are not the operator's fault"
    );
    let event = world.event_until(&operator, "jobs", "LongRunningExecutions").await;
    assert!(event.contains("6 executions"), "{event}");

    world.store(json!({"longRunning": {"after": "4h"}})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Healthy", "True", "WithinLimits")).await;
    world.store(json!({"longRunning": {"after": "40m", "threshold": 7}})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Healthy", "False", "LongRunningExecutions")).await;
}

#[tokio::test]
async fn starts_at_the_ends_of_time_stall_nothing() {
    let world = World::new("extremes").await;
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 1, 1, 'running', '-infinity'), (2, 1, 2, 'running', 'infinity'), \
             (3, 1, 3, 'running', '4713-11-24 00:00:00+00 BC'), (4, 1, 4, 'running', '294276-12-31 23:59:59+00'), \
             (5, 1, 5, 'running', '9999-12-31'), (6, 1, 6, 'running', now() - interval '2 days')",
        )
        .await;
    let operator = world.operator();
    for id in 1..=6 {
        world.execution(&format!("e{id}"), &id.to_string(), json!({})).await;
    }
    world.store(json!({})).await;
    let status = world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    assert_eq!(status.last_sweep.unwrap().failed, 3);
    let statuses = "SELECT string_agg(id || status, ' ' ORDER BY id) FROM job_executions";
    assert_eq!(world.one::<String>(statuses).await, "1failed 2running 3failed 4running 5running 6failed");
    for id in 1..=6 {
        world
            .execution_until(&operator, &format!("e{id}"), |s| is(&s.conditions, "Bound", "True", "RowFound"))
            .await;
    }
}
