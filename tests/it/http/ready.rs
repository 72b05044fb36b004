//! The checks of the operator before a sweep also run before a clean-up of a caller.

use k8s_openapi::api::rbac::v1::Role;
use serde_json::json;

use super::{CLEANUP, RUNNING};
use crate::support::{World, is, rbac};

/// The spec of a store that only observes and rarely polls: the clean-up itself notices changes after the first
/// reconcile.
fn seldom() -> serde_json::Value {
    json!({"mode": "Observe", "pollInterval": "1h"})
}

/// As if the operator had reconciled while the workload of an execution was missing.
const SUSPECT: &str = "INSERT INTO jobexec.suspects (store_id, reason, execution_id, began_at, since, certain) \
     SELECT store_id, 'WorkloadGone', '1', started_at, now() - interval '1 hour', true \
     FROM jobexec.stores, job_executions ON CONFLICT DO NOTHING";

#[tokio::test]
async fn rules_that_somebody_changed_are_put_right_before() {
    let world = World::new("apirules").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '30 hours')").await;
    let (operator, https) = world.serving(&[]).await;
    world.store(seldom()).await;
    world.execution("e", "1", json!({"timeout": "48h"})).await;
    world.execution_until(&operator, "e", |s| s.timeout.as_deref() == Some("2d")).await;
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
    for path in [CLEANUP.to_owned(), format!("{CLEANUP}?dry_run=true")] {
        let (status, problem) = admin.post(&path).await;
        assert_eq!((status, &problem["reason"]), (503, &json!("StoreNotReady")), "{problem:#}");
        assert!(problem["detail"].as_str().unwrap().contains("UPDATE"), "{problem:#}");
    }
}

/// A dry run shows what a clean-up would do: nothing here, although the rows can be read.
#[tokio::test]
async fn a_database_that_takes_no_writes_is_told_as_such() {
    let world = World::new("apireadonly").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '30 hours')").await;
    world.sql(&format!("ALTER ROLE {} SET default_transaction_read_only = on", world.role)).await;
    let (_operator, https) = world.serving(&[]).await;
    world.store(seldom()).await;
    let admin = https.with(&world.token("jobexec-administrator").await);
    admin.until(RUNNING, |status, page| status == 200 && page["executions"][0]["id"] == "1").await;
    for path in [format!("{CLEANUP}?dry_run=true"), CLEANUP.to_owned()] {
        let (status, problem) = admin.post(&path).await;
        assert_eq!((status, &problem["reason"]), (503, &json!("StoreNotReady")), "{problem:#}");
        assert!(problem["detail"].as_str().unwrap().contains("DatabaseReadOnly"), "{problem:#}");
    }
}

/// A dry run equals a clean-up except for its effects.
#[tokio::test]
async fn a_dry_run_goes_by_no_evidence_that_a_clean_up_does_without() {
    let world = World::new("apidryrun").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '1 hour')").await;
    rbac::apply(&world.client, &world.namespace, rbac::WORKLOADS).await;
    let (operator, https) = world.serving(&[]).await;
    world.execution("e", "1", json!({"workloadRef": {"kind": "Pod", "name": "gone"}})).await;
    world.store(json!({"mode": "Observe", "pollInterval": "1h", "workloads": {"gracePeriod": "1s"}})).await;
    world.store_until(&operator, |s| is(&s.conditions, "EvidenceAvailable", "True", "Available")).await;
    let admin = https.with(&world.token("jobexec-administrator").await);
    admin.until(RUNNING, |status, _| status == 200).await;
    let dry = format!("{CLEANUP}?dry_run=true");
    let report = admin.until_posted(&dry, |status, report| status == 200 && report["cleaned"] == 1).await;
    assert_eq!(report["executions"][0]["reason"], "WorkloadGone", "{report:#}");
    // Evidence that cannot be checked does not count, although the operator has recorded it before.
    world.delete::<Role>("jobexec-operator-workloads").await;
    admin.until_posted(&dry, |status, report| status == 200 && report["cleaned"] == 0).await;
    for path in [[dry.as_str(); 10].as_slice(), &[CLEANUP]].concat() {
        // The operator's own reconciles remove it at any time.
        world.sql(SUSPECT).await;
        let (status, report) = admin.post(path).await;
        assert_eq!((status, &report["cleaned"]), (200, &json!(0)), "{path}: {report:#}");
    }
    assert_eq!(world.status(1).await, "running");
    rbac::apply(&world.client, &world.namespace, rbac::WORKLOADS).await;
    admin.until_posted(&dry, |status, report| status == 200 && report["cleaned"] == 1).await;
    let (status, report) = admin.post(CLEANUP).await;
    assert_eq!((status, &report["cleaned"]), (200, &json!(1)), "{report:#}");
    assert_eq!(world.status(1).await, "failed");
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
    world.store_until(&operator, |s| is(&s.conditions, "EvidenceAvailable", "True", "Available")).await;
    let admin = https.with(&world.token("jobexec-administrator").await);
    admin.until(RUNNING, |status, _| status == 200).await;
    world
        .until_true("SELECT bool_and(watched_since < now() - interval '1 second') FROM jobexec.stores")
        .await;
    world.sql(SUSPECT).await;
    let (status, report) = admin.post(CLEANUP).await;
    assert_eq!((status, &report["cleaned"]), (200, &json!(0)), "{report:#}");
    assert_eq!(world.status(1).await, "running");
}
