//! The operator's tables, its permissions or its index are missing or disappear.

use jobexec_operator::api::ExecutionStoreStatus;
use serde_json::json;

use super::{enforces, records, running};
use crate::support::world::TABLE;
use crate::support::{World, is, message};

#[tokio::test]
async fn without_the_right_to_create_anything_timeouts_are_kept_in_memory() {
    let world = World::bare("norights").await;
    world.sql(TABLE).await;
    world
        .sql(&format!("GRANT SELECT, UPDATE (status, completed_at) ON job_executions TO {}", world.role))
        .await;
    world.secret("db", json!({"uri": world.url("right/password")})).await;
    for (id, age) in [(1, "2 days"), (2, "2 days"), (3, "2 hours"), (4, "2 hours")] {
        world.sql(&running(id, age)).await;
    }
    world.execution("longer", "2", json!({"timeout": "72h"})).await;
    world.execution("shorter", "3", json!({"timeout": "1h"})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world
        .store_until(&operator, |s| {
            enforces(s) && s.metrics.as_ref().is_some_and(|m| m.running_executions == 2)
        })
        .await;
    assert!(is(&status.conditions, "AuditAvailable", "False", "TablesMissing"), "{:#?}", status.conditions);
    let text = message(&status.conditions, "AuditAvailable");
    assert!(
        text.contains("this login may not create it") && text.contains("jobexec schema --apply"),
        "{text}"
    );
    let left: String = world
        .one("SELECT string_agg(id::text, ' ' ORDER BY id) FROM job_executions WHERE status = 'running'")
        .await;
    assert_eq!(left, "2 4", "the default timeout and both objects' timeouts are respected");
    world.execution_until(&operator, "shorter", |s| is(&s.conditions, "Finished", "True", "Failed")).await;
    let longer = world.execution_until(&operator, "longer", |s| s.timeout.is_some()).await;
    assert_eq!(longer.timeout.as_deref(), Some("3d"));
    assert!(!world.one::<bool>("SELECT to_regnamespace('jobexec') IS NOT NULL").await);
}

#[tokio::test]
async fn tables_dropped_while_running_stop_the_recording_and_nothing_else() {
    let world = World::new("dropped").await;
    world.sql(&running(1, "2 days")).await;
    world.execution("longer", "1", json!({"timeout": "72h"})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| enforces(s) && records(s)).await;
    for (id, what) in [(10, "SCHEMA jobexec CASCADE"), (20, "TABLE jobexec.rules")] {
        world.sql(&format!("DROP {what}; {}", running(id, "2 days"))).await;
        let told = world
            .store_until(&operator, |s| {
                enforces(s) && is(&s.conditions, "AuditAvailable", "False", "TablesMissing")
            })
            .await;
        assert!(message(&told.conditions, "AuditAvailable").contains("jobexec schema --apply"), "{what}");
        world.until_true(&format!("SELECT status = 'failed' FROM job_executions WHERE id = {id}")).await;
        assert_eq!(world.status(1).await, "running", "the timeouts in force are known without {what}");

        // An administrator fixes it, and the operator continues without a restart.
        world.prepare().await;
        world.store_until(&operator, |s| enforces(s) && records(s)).await;
        let next = id + 1;
        world.sql(&running(next, "2 days")).await;
        let recorded = format!("SELECT count(*) = 1 FROM jobexec.events WHERE execution_id = '{next}'");
        world.until_true(&recorded).await;
        assert_eq!(
            (world.status(next).await.as_str(), world.status(1).await.as_str()),
            ("failed", "running")
        );
    }
}

#[tokio::test]
async fn tables_that_the_operator_may_create_it_makes_again() {
    let world = World::that_may_create("again").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| enforces(s) && records(s)).await;
    for (id, what) in [(1, "SCHEMA jobexec CASCADE"), (2, "TABLE jobexec.rules")] {
        world.sql(&format!("DROP {what}; {}", running(id, "2 days"))).await;
        world.until_true("SELECT to_regclass('jobexec.rules') IS NOT NULL").await;
        world
            .until_true(&format!("SELECT count(*) = 1 FROM jobexec.events WHERE execution_id = '{id}'"))
            .await;
        world.store_until(&operator, |s| enforces(s) && records(s)).await;
    }
}

#[tokio::test]
async fn rights_taken_away_while_running_are_told_and_mended() {
    let world = World::new("revoked").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| enforces(s) && records(s)).await;
    world.sql(&format!("REVOKE INSERT ON jobexec.events FROM {}", world.role)).await;
    world.sql(&running(1, "2 days")).await;
    let status = world
        .store_until(&operator, |s| {
            enforces(s) && is(&s.conditions, "AuditAvailable", "False", "TablesMissing")
        })
        .await;
    assert!(message(&status.conditions, "AuditAvailable").contains("jobexec.events (SELECT, INSERT)"));
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;

    world.sql(&format!("REVOKE UPDATE (status) ON job_executions FROM {}", world.role)).await;
    world.sql(&running(2, "2 days")).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "SchemaValid", "False", "InsufficientPrivilege")
                && is(&s.conditions, "EnforcementPaused", "True", "InsufficientPrivilege")
        })
        .await;
    assert!(message(&status.conditions, "Ready").contains("GRANT UPDATE"), "{:#?}", status.conditions);
    assert_eq!(world.status(2).await, "running");

    world.prepare().await;
    world.store_until(&operator, |s| enforces(s) && records(s)).await;
    world.until_true("SELECT count(*) = 1 FROM jobexec.events WHERE execution_id = '2'").await;
}

/// Extensions are recorded in these tables and nowhere else.
#[tokio::test]
async fn rights_taken_away_end_no_execution_that_a_person_gave_more_time() {
    let world = World::new("more-time").await;
    world.sql(&running(1, "1 hour")).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| enforces(s) && records(s)).await;
    let extended = world.jobexec(&["extend", "1", "--by", "72h"]);
    assert!(extended.status.success(), "{}", String::from_utf8_lossy(&extended.stderr));
    world.sql("UPDATE job_executions SET started_at = now() - interval '2 days'").await;
    for (id, what) in [(2, "USAGE ON SCHEMA jobexec"), (3, "INSERT ON jobexec.events")] {
        world.sql(&format!("REVOKE {what} FROM {}; {}", world.role, running(id, "2 days"))).await;
        let held = |s: &ExecutionStoreStatus| is(&s.conditions, "EnforcementPaused", "True", "TablesMissing");
        let status = world.store_until(&operator, held).await;
        assert!(message(&status.conditions, "EnforcementPaused").contains("extended"), "{status:#?}");
        assert_eq!(world.status(1).await, "running", "{what}");
        world.prepare().await;
        world.store_until(&operator, |s| enforces(s) && records(s)).await;
        world.until_true(&format!("SELECT status = 'failed' FROM job_executions WHERE id = {id}")).await;
    }
    assert_eq!(world.status(1).await, "running");
}

#[tokio::test]
async fn without_the_index_a_sweep_is_slower_and_does_the_same() {
    let world = World::new("noindex").await;
    let many = |from: i64| {
        format!(
            "INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 days' FROM generate_series({from}, {from} + 6000) n"
        )
    };
    world.sql("DROP INDEX job_executions_running").await;
    world.sql(&many(1)).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status =
        world.store_until(&operator, |s| s.last_sweep.as_ref().is_some_and(|w| w.failed == 6001)).await;
    assert!(enforces(&status) && records(&status), "{:#?}", status.conditions);

    world.prepare().await;
    world.sql("DROP INDEX job_executions_running").await;
    world.sql(&many(10_001)).await;
    world
        .store_until(&operator, |s| {
            enforces(s) && s.last_sweep.as_ref().is_some_and(|w| w.trigger == "Deadline" && w.failed == 6001)
        })
        .await;
}
