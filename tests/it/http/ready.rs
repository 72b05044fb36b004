//! What the operator makes sure of before a sweep, it makes sure of before it ends anything for a caller.

use serde_json::json;

use super::{CLEANUP, RUNNING};
use crate::support::{World, is, rbac};

/// Only observed, and seldom: what changes after the first look is found by the clean-up itself.
fn seldom() -> serde_json::Value {
    json!({"mode": "Observe", "pollInterval": "1h"})
}

#[tokio::test]
async fn rules_that_somebody_changed_are_put_right_before() {
    let world = World::new("apirules").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '30 hours')").await;
    let (operator, https) = world.serving(&[]).await;
    world.store(seldom()).await;
    world.execution("e", "1", json!({"timeout": "48h"})).await;
    world.execution_until(&operator, "e", |s| s.timeout.as_deref() == Some("48h")).await;
    world.until_true("SELECT EXISTS (SELECT FROM jobexec.rules WHERE key = '1')").await;
    let admin = https.with(&world.token("jobexec-administrator").await);
    admin.until(RUNNING, |status, _| status == 200).await;
    world.sql("DELETE FROM jobexec.rules WHERE key = '1'").await;
    let (status, report) = admin.post(CLEANUP).await;
    assert_eq!((status, &report["cleaned"]), (200, &json!(0)), "{report:#}");
    assert_eq!(world.status(1).await, "running");
}

#[tokio::test]
async fn a_table_that_takes_no_writes_is_told_as_such() {
    let world = World::new("apiunwritable").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '30 hours')").await;
    world.sql(&format!("REVOKE UPDATE ON job_executions FROM {}", world.role)).await;
    let (operator, https) = world.serving(&[]).await;
    world.store(seldom()).await;
    world
        .store_until(&operator, |s| {
            s.conditions.iter().any(|c| c.type_ == "EnforcementPaused" && c.status == "True")
        })
        .await;
    let admin = https.with(&world.token("jobexec-administrator").await);
    admin.until(RUNNING, |status, _| status == 200).await;
    let (status, problem) = admin.post(CLEANUP).await;
    assert_eq!((status, &problem["reason"]), (503, &json!("StoreNotReady")), "{problem:#}");
    assert!(problem["detail"].as_str().unwrap().contains("UPDATE"), "{problem:#}");
    let (status, dry) = admin.post(&format!("{CLEANUP}?dry_run=true")).await;
    assert_eq!((status, &dry["cleaned"]), (200, &json!(1)), "looking is allowed: {dry:#}");
}

#[tokio::test]
async fn workloads_are_looked_at_again_before() {
    let world = World::new("apiworkloads").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '1 hour')").await;
    rbac::apply(&world.client, &world.namespace, rbac::WORKLOADS).await;
    let container = json!({"name": "c", "image": "none"});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "there"}, "spec": {"containers": [container]}});
    world.pod("there", pod).await;
    let (operator, https) = world.serving(&[]).await;
    world.execution("e", "1", json!({"workloadRef": {"kind": "Pod", "name": "there"}})).await;
    world.store(json!({"mode": "Observe", "pollInterval": "1h", "workloads": {"gracePeriod": "1s"}})).await;
    world.store_until(&operator, |s| is(&s.conditions, "EvidenceSeen", "True", "Seen")).await;
    let admin = https.with(&world.token("jobexec-administrator").await);
    admin.until(RUNNING, |status, _| status == 200).await;
    world
        .until_true("SELECT bool_and(watched_since < now() - interval '1 second') FROM jobexec.stores")
        .await;
    // As if the operator had looked while the Pod was not there.
    world
        .sql(
            "INSERT INTO jobexec.suspects (store_id, reason, execution_id, began_at, since) \
             SELECT store_id, 'WorkloadGone', '1', started_at, now() - interval '1 hour' \
             FROM jobexec.stores, job_executions",
        )
        .await;
    let (status, report) = admin.post(CLEANUP).await;
    assert_eq!((status, &report["cleaned"]), (200, &json!(0)), "{report:#}");
    assert_eq!(world.status(1).await, "running");
}
