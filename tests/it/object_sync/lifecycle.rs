//! An object from the start of its row until some time after its end, those that users create, and changes by hand.

use std::process::{Command, Output};

use jobexec_operator::api::{ExecutionStore, JobExecution, Phase};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::json;
use tokio::task::JoinHandle;

use super::{finish, names, names_until, objects, patch, start};
use crate::support::{Operator, PATIENCE, World, is};

async fn gone(world: &World, operator: &Operator, name: &str, uid: &str) {
    let waited = await_condition(world.api::<JobExecution>(), name, conditions::is_deleted(uid));
    let waited = tokio::time::timeout(PATIENCE, waited).await;
    assert!(waited.is_ok(), "{name} was not deleted\n{}", operator.log());
}

fn kubectl(world: &World, args: &[&str]) -> String {
    let output = Command::new("kubectl").args(args).args(["-n", &world.namespace]).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Users find the object of execution 39 in a narrow table, by label and by field.
fn kubectl_finds_it(world: &World) {
    let table = kubectl(world, &["get", "jobexecutions"]);
    assert!(table.lines().all(|line| line.len() <= 120), "{table}");
    assert!(table.contains("22h"), "the start as an age: {table}");
    let selected =
        kubectl(world, &["get", "jexec", "-o", "name", "-l", "jobexec.dev/phase=running,jobexec.dev/job=7"]);
    assert_eq!(selected.lines().count(), 2, "{selected}");
    for selector in
        ["status.phase=Running,spec.executionId=39", "spec.storeRef.name=jobs,spec.executionId=39"]
    {
        let selected = kubectl(world, &["get", "jexec", "-o", "name", "--field-selector", selector]);
        assert_eq!(selected.trim(), "jobexecution.jobexec.dev/jobs-39", "{selector}");
    }
}

/// `kubectl wait` for the end of execution 39, in the background.
fn kubectl_waits_for_the_end(world: &World) -> JoinHandle<Output> {
    let namespace = world.namespace.clone();
    tokio::task::spawn_blocking(move || {
        Command::new("kubectl")
            .args([
                "wait",
                "--for=condition=Finished",
                "jobexecution/jobs-39",
                "--timeout=60s",
                "-n",
                &namespace,
            ])
            .output()
            .unwrap()
    })
}

#[tokio::test]
async fn a_row_has_an_object_from_its_start_until_some_time_after_its_end() {
    let world = World::new("sync").await;
    start(&world, 39, "22 hours").await;
    start(&world, 40, "1 minute").await;
    world.sql("INSERT INTO job_executions VALUES (41, 7, 3, 'scheduled'); INSERT INTO job_executions VALUES (42, 7, 1, 'completed', now(), now())").await;
    let operator = world.operator();
    let store = world.store(objects(&json!({"finishedTTL": "10s"}))).await;
    let status = world.execution_until(&operator, "jobs-39", |s| s.phase == Some(Phase::Running)).await;
    assert!(is(&status.conditions, "Bound", "True", "RowFound"));
    assert!(is(&status.conditions, "Finished", "False", "Running"));
    assert!(is(&status.conditions, "LongRunning", "True", "LongRunning"));
    assert_eq!(status.timeout_source.as_deref(), Some("ExecutionStore/jobs"));
    world.execution_until(&operator, "jobs-40", |s| s.phase == Some(Phase::Running)).await;
    assert_eq!(names(&world).await.len(), 2, "what waits and what ended before has none");

    let object = world.api::<JobExecution>().get("jobs-39").await.unwrap();
    let labels = json!({"jobexec.dev/store": "jobs", "jobexec.dev/job": "7", "jobexec.dev/phase": "running"});
    assert_eq!(json!(object.labels()), labels);
    let owner = &object.owner_references()[0];
    assert_eq!((owner.uid.as_str(), owner.controller), (store.uid().unwrap().as_str(), Some(true)));
    assert!(object.finalizers().is_empty());

    kubectl_finds_it(&world);
    world.event_until(&operator, "jobs-39", "LongRunning").await;
    let described = kubectl(&world, &["describe", "jobexecution", "jobs-39"]);
    assert!(described.contains("Events:") && described.contains("LongRunning"), "{described}");
    kubectl(
        &world,
        &["wait", "--for=jsonpath={.status.phase}=Running", "jobexecution/jobs-40", "--timeout=60s"],
    );

    let waits = kubectl_waits_for_the_end(&world);
    let uid = object.uid().unwrap();
    finish(&world, 39, "completed").await;
    let told = world.execution_until(&operator, "jobs-39", |s| s.phase == Some(Phase::Completed)).await;
    assert!(is(&told.conditions, "Succeeded", "True", "Completed"));
    let waited = waits.await.unwrap();
    assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
    gone(&world, &operator, "jobs-39", &uid).await;
    assert_eq!(world.status(39).await, "completed");
    world
        .store_until(&operator, |s| {
            is(&s.conditions, "ObjectsSynced", "True", "Synced")
                && s.execution_objects.is_some_and(|m| (m.objects, m.executions_without_object) == (1, 0))
        })
        .await;
}

#[tokio::test]
async fn what_began_and_ended_between_two_looks_has_an_object_where_an_index_finds_it() {
    let world = World::new("between").await;
    world.sql("CREATE INDEX ON job_executions (completed_at)").await;
    world
        .sql("INSERT INTO job_executions VALUES (1, 1, 1, 'failed', now() - interval '2 minutes', now() - interval '1 minute'), \
              (2, 1, 2, 'completed', now() - interval '3 hours', now() - interval '2 hours')")
        .await;
    let operator = world.operator();
    world.store(objects(&json!({}))).await;
    world.execution_until(&operator, "jobs-1", |s| s.phase == Some(Phase::Failed)).await;
    names_until(&world, &operator, &["jobs-1"]).await;
}

#[tokio::test]
async fn an_object_of_a_person_is_used_and_never_deleted() {
    let world = World::new("mine").await;
    start(&world, 1, "1 minute").await;
    start(&world, 2, "1 minute").await;
    world.execution("mine", "1", json!({})).await;
    let operator = world.operator();
    world.store(objects(&json!({"finishedTTL": "1s"}))).await;
    names_until(&world, &operator, &["mine", "jobs-2"]).await;
    world.execution_until(&operator, "mine", |s| s.phase == Some(Phase::Running)).await;
    // The operator's own object is removed.
    world.execution("later", "2", json!({})).await;
    names_until(&world, &operator, &["mine", "later"]).await;
    let labelled = kubectl(&world, &["get", "jexec", "-o", "name", "-l", "jobexec.dev/phase=running"]);
    assert_eq!(labelled.lines().count(), 2, "{labelled}");
    finish(&world, 1, "cancelled").await;
    world.execution_until(&operator, "mine", |s| s.phase == Some(Phase::Cancelled)).await;
    world.sql("DELETE FROM job_executions WHERE id = 1").await;
    let told = world
        .execution_until(&operator, "mine", |s| is(&s.conditions, "Bound", "False", "RowNotFound"))
        .await;
    assert_eq!(told.phase, None);
    let unlabelled = |e: Option<&JobExecution>| {
        e.is_some_and(|e| json!(e.labels()) == json!({"jobexec.dev/store": "jobs"}))
    };
    let waited = await_condition(world.api::<JobExecution>(), "mine", unlabelled);
    tokio::time::timeout(PATIENCE, waited).await.unwrap().unwrap();
    assert!(world.api::<JobExecution>().get("mine").await.unwrap().owner_references().is_empty());

    // The garbage collector deletes the operator's objects with the store; those of users report its absence, and nothing
    // holds them.
    start(&world, 3, "1 minute").await;
    world.execution_until(&operator, "jobs-3", |s| s.phase == Some(Phase::Running)).await;
    let uid = world.api::<JobExecution>().get("jobs-3").await.unwrap().uid().unwrap();
    world.delete::<ExecutionStore>("jobs").await;
    gone(&world, &operator, "jobs-3", &uid).await;
    world.execution_until(&operator, "mine", |s| is(&s.conditions, "Bound", "False", "StoreNotFound")).await;
    world.delete::<JobExecution>("mine").await;
    names_until(&world, &operator, &["later"]).await;
}

#[tokio::test]
async fn what_is_done_to_an_object_or_a_row_by_hand_is_put_right() {
    let world = World::new("byhand").await;
    for id in 1..=3 {
        start(&world, id, "1 minute").await;
    }
    let operator = world.operator();
    world.store(objects(&json!({}))).await;
    names_until(&world, &operator, &["jobs-1", "jobs-2", "jobs-3"]).await;
    let api = world.api::<JobExecution>();
    let uid = api.get("jobs-1").await.unwrap().uid();
    world.delete::<JobExecution>("jobs-1").await;
    let again = |e: Option<&JobExecution>| {
        e.is_some_and(|e| {
            e.uid() != uid && e.status.as_ref().is_some_and(|s| s.phase == Some(Phase::Running))
        })
    };
    tokio::time::timeout(PATIENCE, await_condition(api.clone(), "jobs-1", again)).await.unwrap().unwrap();

    world.execution_until(&operator, "jobs-2", |s| s.phase == Some(Phase::Running)).await;
    let lie = json!({"status": {"phase": "Completed", "reason": "ByHand"}, "metadata": {"labels": {"jobexec.dev/phase": "completed"}}});
    api.patch_status("jobs-2", &PatchParams::default(), &Patch::Merge(lie.clone())).await.unwrap();
    api.patch("jobs-2", &PatchParams::default(), &Patch::Merge(lie)).await.unwrap();
    let right = |e: Option<&JobExecution>| {
        e.is_some_and(|e| {
            let status = e.status.clone().unwrap();
            status.phase == Some(Phase::Running)
                && status.reason.is_none()
                && e.labels()["jobexec.dev/phase"] == "running"
        })
    };
    let waited = tokio::time::timeout(PATIENCE, await_condition(api.clone(), "jobs-2", right)).await;
    assert!(waited.is_ok(), "{:#?}\n{}", api.get("jobs-2").await, operator.log());

    // The row is gone; then its id is used again, and the request for the first execution does not apply to the second.
    world.execution_until(&operator, "jobs-3", |s| s.phase == Some(Phase::Running)).await;
    patch(&world, "jobs-3", json!({"timeout": "1h"})).await.unwrap();
    world.execution_until(&operator, "jobs-3", |s| s.timeout.as_deref() == Some("1h")).await;
    finish(&world, 3, "completed").await;
    world.execution_until(&operator, "jobs-3", |s| s.phase == Some(Phase::Completed)).await;
    world.sql("UPDATE job_executions SET status = 'running', completed_at = NULL, execution_number = 9 WHERE id = 3").await;
    let anew = |e: Option<&JobExecution>| {
        e.is_some_and(|e| {
            let status = e.status.as_ref();
            e.spec.timeout.is_none()
                && status
                    .is_some_and(|s| s.execution_number == Some(9) && s.timeout.as_deref() == Some("24h"))
        })
    };
    let waited = tokio::time::timeout(PATIENCE, await_condition(api.clone(), "jobs-3", anew)).await;
    assert!(waited.is_ok(), "{:#?}\n{}", api.get("jobs-3").await, operator.log());
    world.sql("DELETE FROM job_executions WHERE id = 3").await;
    names_until(&world, &operator, &["jobs-1", "jobs-2"]).await;
}
