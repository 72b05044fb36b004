//! Waits until the statuses are those that follow from the table. Each wait ends with a status that says so, not after a
//! time.

use std::collections::BTreeMap;

use jobexec_operator::api::{ExecutionPolicy, JobExecution};
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::{Operator, PATIENCE, World, is};

/// Waits until every policy and every execution has a status.
pub(super) async fn unbound(world: &World, operator: &Operator) {
    for policy in world.api::<ExecutionPolicy>().list(&ListParams::default()).await.unwrap() {
        world.policy_until(operator, &policy.name_any(), |_| true).await;
    }
    for execution in world.api::<JobExecution>().list(&ListParams::default()).await.unwrap() {
        world.execution_until(operator, &execution.name_any(), |s| !s.conditions.is_empty()).await;
    }
}

/// Waits until each running row, and each row that has just ended, has an object, and all objects have the phase of
/// their row.
pub(super) async fn executions_match(world: &World, operator: &Operator) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let rows: Vec<(String, String, bool)> = sqlx::query_as(
            "SELECT id::text, status, status = 'running' OR coalesce(completed_at > now() - interval '1 hour', false) FROM job_executions",
        )
        .fetch_all(&world.pool)
        .await
        .unwrap();
        let phases = phases(world).await;
        let as_row =
            |id: &str, status: &str| phases.get(id).is_some_and(|all| all.iter().all(|p| p == status));
        let missing: Vec<_> =
            rows.iter().filter(|(id, status, shown)| *shown && !as_row(id, status)).collect();
        if missing.is_empty() {
            return;
        }
        let late = tokio::time::Instant::now() >= deadline;
        assert!(!late, "not as their rows: {missing:?}, {phases:?}\n{}", operator.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// The phases of the objects of each execution of `jobs`, by its id, in lower case. An object whose status is about another
/// generation has none.
async fn phases(world: &World) -> BTreeMap<String, Vec<String>> {
    let mut phases = BTreeMap::<String, Vec<String>>::new();
    for object in of_jobs(world).await {
        let current = object.status.filter(|s| s.observed_generation == object.metadata.generation);
        let phase = current.and_then(|status| status.phase).map_or("", |phase| phase.label());
        phases.entry(object.spec.execution_id).or_default().push(phase.to_owned());
    }
    phases
}

async fn of_jobs(world: &World) -> Vec<JobExecution> {
    let all = world.api::<JobExecution>().list(&ListParams::default()).await.unwrap();
    all.items.into_iter().filter(|object| object.spec.store_ref.name == "jobs").collect()
}

/// Waits until the counts in the status of `jobs` are those of the table, and all its other parts are known.
pub(super) async fn store_matches(world: &World, operator: &Operator) {
    let count = async |rows: &str| -> i64 {
        world.one(&format!("SELECT count(*) FROM job_executions WHERE {rows}")).await
    };
    let running = count("status = 'running'").await;
    // A policy expects that execution 12 runs longer.
    let long = count("status = 'running' AND started_at < now() - interval '3 hours' AND id <> 12").await;
    let objects = i64::try_from(of_jobs(world).await.len()).unwrap();
    // Sent, or else it would be sent later.
    world
        .until_true(
            "SELECT NOT EXISTS (SELECT FROM jobexec.outbox) AND NOT EXISTS (SELECT FROM jobexec.messages WHERE ended_at IS NULL)",
        )
        .await;
    world
        .store_until(operator, |s| {
            let counted = s
                .metrics
                .as_ref()
                .is_some_and(|m| (m.running_executions, m.long_running_executions) == (running, long));
            counted
                && s.execution_objects.is_some_and(|o| o.objects == objects)
                && s.conditions.iter().all(|c| c.status != "Unknown")
                && is(&s.conditions, "ObjectsSynced", "True", "Synced")
        })
        .await;
}

/// Waits until the executions of each policy of `jobs` are counted by its latest spec.
pub(super) async fn governed(world: &World, operator: &Operator) {
    for policy in world.api::<ExecutionPolicy>().list(&ListParams::default()).await.unwrap() {
        if policy.spec.store_ref.name == "jobs" {
            let known = |type_: &str, s: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]| {
                s.iter().any(|c| c.type_ == type_ && c.status != "Unknown")
            };
            world
                .policy_until(operator, &policy.name_any(), |s| {
                    s.governed_executions.is_some() && known("Accepted", &s.conditions)
                })
                .await;
        }
    }
}

/// Changes a policy, and waits until the change is in its status.
pub(super) async fn policy_changed(world: &World, operator: &Operator, name: &str, spec: Value) {
    let patch = Patch::Merge(json!({"spec": spec}));
    world.api::<ExecutionPolicy>().patch(name, &PatchParams::default(), &patch).await.unwrap();
    world.policy_until(operator, name, |_| true).await;
}

/// Waits for the Events that follow a status. Those of an execution precede it.
pub(super) async fn events_published(world: &World, operator: &Operator) {
    for (store, reason) in [
        ("jobs", "StaleExecutionsFailed"),
        ("jobs", "LongRunningExecutions"),
        ("jobs", "UnmappedStatus"),
        ("locked", "SecretNotFound"),
        ("misnamed", "TableNotFound"),
    ] {
        world.event_until(operator, store, reason).await;
    }
}
