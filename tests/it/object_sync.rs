//! `JobExecution` objects that the operator creates: which rows have one, its content, how long it stays, and the changes
//! that users may make.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use jobexec_operator::api::{ExecutionStore, JobExecution, JobExecutionStatus, Phase};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::proxy::Proxies;
use crate::support::{Operator, PATIENCE, World, is, message};

fn objects(more: &Value) -> Value {
    let mut spec = json!({"executionObjects": {"enabled": true}});
    for (key, value) in more.as_object().unwrap() {
        spec["executionObjects"][key] = value.clone();
    }
    spec
}

async fn start(world: &World, id: i64, age: &str) {
    world
        .sql(&format!(
            "INSERT INTO job_executions VALUES ({id}, 7, {id}, 'running', now() - interval '{age}')"
        ))
        .await;
}

async fn finish(world: &World, id: i64, status: &str) {
    world
        .sql(&format!("UPDATE job_executions SET status = '{status}', completed_at = now() WHERE id = {id}"))
        .await;
}

async fn names(world: &World) -> BTreeSet<String> {
    let all = world.api::<JobExecution>().list(&ListParams::default()).await.unwrap();
    all.iter().map(ResourceExt::name_any).collect()
}

/// Waits until exactly these objects exist.
async fn names_until(world: &World, operator: &Operator, wanted: &[&str]) {
    let wanted: BTreeSet<String> = wanted.iter().map(|&name| name.to_owned()).collect();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while names(world).await != wanted {
        let now = names(world).await;
        assert!(tokio::time::Instant::now() < deadline, "{now:?} instead of {wanted:?}\n{}", operator.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

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

async fn patch(world: &World, name: &str, spec: Value) -> Result<JobExecution, kube::Error> {
    let params = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    world.api::<JobExecution>().patch(name, &params, &Patch::Merge(json!({ "spec": spec }))).await
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
async fn beyond_the_limit_the_stale_and_the_longest_running_are_kept() {
    let world = World::new("limit").await;
    for (id, age) in [(1, "50 minutes"), (2, "40 minutes"), (3, "30 minutes"), (4, "20 minutes")] {
        start(&world, id, age).await;
    }
    world.sql("INSERT INTO job_executions VALUES (5, 8, 1, 'running', now() - interval '10 minutes')").await;
    let alert = json!({"selector": {"jobIds": ["8"]}, "timeout": "5m", "onStale": "AlertOnly"});
    world.policy("alert", alert).await;
    // Created by a user, so that it stays whatever the limit is.
    world.execution("mine", "4", json!({})).await;
    let operator = world.operator();
    world.store(objects(&json!({"limit": 2}))).await;
    names_until(&world, &operator, &["jobs-1", "jobs-5", "mine"]).await;
    let limited = |objects, executions_without_object| {
        move |s: &jobexec_operator::api::ExecutionStoreStatus| {
            is(&s.conditions, "ObjectsSynced", "True", "LimitReached")
                && s.execution_objects.is_some_and(|m| {
                    (m.objects, m.executions_without_object) == (objects, executions_without_object)
                })
        }
    };
    world.store_until(&operator, limited(3, 2)).await;
    // A user overrides one that would not be kept when others come first.
    patch(&world, "jobs-1", json!({"timeout": "30h"})).await.unwrap();
    world.execution_until(&operator, "jobs-1", |s| s.timeout.as_deref() == Some("30h")).await;
    world.sql("INSERT INTO job_executions VALUES (6, 8, 2, 'running', now() - interval '9 minutes')").await;
    names_until(&world, &operator, &["jobs-1", "jobs-5", "jobs-6", "mine"]).await;
    finish(&world, 5, "completed").await;
    finish(&world, 6, "completed").await;
    world.execution_until(&operator, "jobs-5", |s| s.phase == Some(Phase::Completed)).await;
    names_until(&world, &operator, &["jobs-1", "jobs-2", "jobs-5", "jobs-6", "mine"]).await;

    world.store(json!({"executionObjects": {"enabled": false}})).await;
    // Objects with overrides stay while these apply.
    names_until(&world, &operator, &["jobs-1", "mine"]).await;
    finish(&world, 1, "completed").await;
    names_until(&world, &operator, &["mine"]).await;
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

#[tokio::test]
async fn ids_of_any_kind_have_objects() {
    let table = "CREATE TABLE job_executions (id text PRIMARY KEY, job_id text, execution_number integer NOT NULL, \
         status text NOT NULL, started_at timestamptz, completed_at timestamptz, kind text)";
    let spec = json!({"table": {"columns": {"jobType": "kind"}}, "executionObjects": {"enabled": true}});
    let world = World::with("anyid", table, &spec).await;
    // A longer id would be skipped.
    let (long, longer) = ("l".repeat(1_000), "l".repeat(10_000));
    for id in ["Über/ß <b>", "", &long, "abc"] {
        sqlx::query("INSERT INTO job_executions VALUES ($1, $2, 1, 'running', now(), NULL, 'a b')")
            .bind(id)
            .bind(&longer)
            .execute(&world.pool)
            .await
            .unwrap();
    }
    // The name for the object of `abc`, taken for another row.
    world.execution("jobs-xba7816bf8f01cfea4141", "xyz", json!({})).await;
    let operator = world.operator();
    world.store(spec).await;
    world
        .store_until(&operator, |s| s.execution_objects.is_some_and(|m| m.executions_without_object == 3))
        .await;
    let all = world.api::<JobExecution>().list(&ListParams::default()).await.unwrap();
    let odd = all.iter().find(|e| e.spec.execution_id == "Über/ß <b>").unwrap();
    assert!(odd.name_any().starts_with("jobs-x") && odd.name_any().len() == 26, "{}", odd.name_any());
    let told = world.execution_until(&operator, &odd.name_any(), |s| s.phase == Some(Phase::Running)).await;
    assert_eq!(told.job_type.as_deref(), Some("a b"));
    assert!(told.job_id.unwrap().len() <= 253 && odd.labels()["jobexec.dev/type"].starts_with('x'));
    world
        .execution_until(&operator, "jobs-xba7816bf8f01cfea4141", |s| {
            is(&s.conditions, "Bound", "False", "RowNotFound")
        })
        .await;
}

#[tokio::test]
async fn an_integer_id_whose_name_is_taken_has_another_name() {
    let world = World::new("taken").await;
    start(&world, 1, "1 minute").await;
    let operator = world.operator();
    // It belongs to another store, so that this one does not know it.
    let mut other = World::execution_with("jobs-1", "7", json!({}));
    other["spec"]["storeRef"]["name"] = "elsewhere".into();
    world
        .api::<JobExecution>()
        .create(&PostParams::default(), &serde_json::from_value(other).unwrap())
        .await
        .unwrap();
    world.store(objects(&json!({}))).await;
    world.execution_until(&operator, "jobs-x6b86b273ff34fce19d6b", |s| s.phase == Some(Phase::Running)).await;
    let theirs = world.api::<JobExecution>().get("jobs-1").await.unwrap();
    assert_eq!((theirs.spec.execution_id.as_str(), theirs.owner_references().len()), ("7", 0));
}

#[tokio::test]
async fn object_sync_that_may_not_write_stops_nothing_else() {
    let world = World::new("forbidden").await;
    start(&world, 1, "1 minute").await;
    let quota: ResourceQuota = serde_json::from_value(json!({
        "metadata": {"name": "none"}, "spec": {"hard": {"count/jobexecutions.jobexec.dev": "0"}},
    }))
    .unwrap();
    let quotas = world.api::<ResourceQuota>();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    let counted =
        |q: Option<&ResourceQuota>| q.and_then(|q| q.status.as_ref()).is_some_and(|s| s.hard.is_some());
    tokio::time::timeout(PATIENCE, await_condition(quotas.clone(), "none", counted)).await.unwrap().unwrap();
    let operator = world.operator();
    world.store(objects(&json!({}))).await;
    let told =
        world.store_until(&operator, |s| is(&s.conditions, "ObjectsSynced", "False", "Forbidden")).await;
    assert!(message(&told.conditions, "ObjectsSynced").contains("quota"), "{:#?}", told.conditions);
    assert!(is(&told.conditions, "Ready", "True", "Enforcing"));
    start(&world, 2, "2 days").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
    quotas.delete("none", &DeleteParams::default()).await.unwrap();
    world.store_until(&operator, |s| is(&s.conditions, "ObjectsSynced", "True", "Synced")).await;
    world.execution_until(&operator, "jobs-1", |s| s.phase == Some(Phase::Running)).await;
}

#[tokio::test]
async fn a_job_that_is_finished_while_its_execution_runs_is_told_with_its_name() {
    let tables = "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, execution_number integer NOT NULL, \
         status text NOT NULL, started_at timestamptz, completed_at timestamptz); \
         CREATE TABLE jobs (id bigint PRIMARY KEY, status text NOT NULL); \
         INSERT INTO jobs VALUES (21, 'completed'); \
         INSERT INTO job_executions VALUES (39, 21, 5, 'running', now() - interval '22 hours')";
    let spec = json!({"mode": "Observe", "jobs": {"name": "jobs", "columns": {"id": "id", "status": "status"}, "finished": ["completed"], "gracePeriod": "1s"}});
    let world = World::with("pair", tables, &spec).await;
    let operator = world.operator();
    world.store(spec).await;
    let told =
        world.store_until(&operator, |s| is(&s.conditions, "Consistent", "False", "JobFinished")).await;
    let message = message(&told.conditions, "Consistent");
    assert!(message.contains("execution 39") && message.contains("job 21"), "{message}");
    world.sql("UPDATE jobs SET status = 'active'").await;
    world.store_until(&operator, |s| is(&s.conditions, "Consistent", "True", "NoViolations")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_starts_anew_writes_nothing_where_nothing_has_changed() {
    let world = World::new("anew").await;
    world.sql("INSERT INTO job_executions SELECT n, n % 10, n, 'running', now() - interval '2 hours' FROM generate_series(1, 200) n").await;
    let proxies = Proxies::before(&world).await;
    let operator = world.operator();
    world.store(objects(&json!({}))).await;
    world
        .store_until(&operator, |s| {
            s.execution_objects.is_some_and(|m| (m.objects, m.executions_without_object) == (200, 0))
        })
        .await;
    for n in [1, 100, 200] {
        world.execution_until(&operator, &format!("jobs-{n}"), |s| s.phase == Some(Phase::Running)).await;
    }
    proxies.writes.until(|passed| passed.quiet >= 16).await;
    operator.kill();
    let before = proxies.writes.passed();
    let operator = world.operator();
    proxies.writes.until(|passed| passed.reads >= before.reads + 40).await;
    let after = proxies.writes.passed();
    let of_objects: Vec<_> = after.writes[before.writes.len()..]
        .iter()
        .filter(|w| w.contains("jobexecutions") || w.contains("events"))
        .collect();
    assert!(of_objects.is_empty(), "{of_objects:#?}\n{}", operator.log());
}
