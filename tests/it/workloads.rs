//! Executions whose Job or Pod has failed or is gone.

use jobexec_operator::api::JobExecution;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::{World, is, message, rbac};

fn template() -> Value {
    json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "none"}]}})
}

async fn job(world: &World, name: &str) {
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
                     "spec": {"suspend": true, "template": template()}});
    world.apply::<Job>(name, job).await.unwrap();
}

#[tokio::test]
async fn an_execution_ends_with_its_job_or_pod() {
    let spec = json!({"table": {"columns": {"workload": "workload"}}, "workloads": {"gracePeriod": "1s"}});
    let table = "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, \
        execution_number integer NOT NULL, status text NOT NULL, started_at timestamptz, completed_at timestamptz, \
        workload text)";
    let world = World::with("workloads", table, &spec).await;
    job(&world, "alive").await;
    job(&world, "mapped-elsewhere").await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "broken"}, "spec": template()["spec"]});
    // The admission of Pods requires a ServiceAccount, which a controller creates for each namespace.
    world.pod("broken", pod).await;
    let failed = json!({"apiVersion": "v1", "kind": "Pod", "status": {"phase": "Failed"}});
    world
        .api::<Pod>()
        .patch_status("broken", &PatchParams::apply("kubelet").force(), &Patch::Apply(failed))
        .await
        .unwrap();
    world
        .sql(
            "INSERT INTO job_executions (id, job_id, execution_number, status, started_at, workload) \
             SELECT n, n, 1, 'running', now() - interval '1 minute', (ARRAY['alive', 'gone', 'Job/alive', 'Pod/broken', \
                    NULL, 'gone', 'gone', '', 'Pod/alive'])[n] FROM generate_series(1, 9) AS n",
        )
        .await;
    // An object takes precedence over the table.
    world.execution("six", "6", json!({"workloadRef": {"name": "mapped-elsewhere"}})).await;
    world.execution("five", "5", json!({"workloadRef": {"kind": "Pod", "name": "gone-too"}})).await;
    world.sql("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 7").await;

    let operator = world.operator();
    world.store(spec).await;
    // Without permission to list workloads there are no suspects.
    let told =
        world.store_until(&operator, |s| is(&s.conditions, "EvidenceAvailable", "False", "ListFailed")).await;
    assert!(is(&told.conditions, "Ready", "True", "Enforcing"));
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.suspects").await, 0);

    rbac::apply(&world.client, &world.namespace, rbac::WORKLOADS).await;
    world.store_until(&operator, |s| is(&s.conditions, "EvidenceAvailable", "True", "Available")).await;
    world.until_true("SELECT count(*) = 4 FROM job_executions WHERE status = 'failed'").await;
    world.request_sweep(&operator).await;
    let ended = "SELECT string_agg(execution_id || ' ' || reason || ' ' || source, ',' ORDER BY execution_id) \
                 FROM jobexec.events WHERE action = 'Failed'";
    let by = "WorkloadGone ExecutionStore/jobs";
    assert_eq!(world.one::<String>(ended).await, format!("2 {by},4 {by},5 {by},9 {by}"));
    let five = world
        .execution_until(&operator, "five", |s| is(&s.conditions, "Succeeded", "False", "WorkloadGone"))
        .await;
    assert_eq!(five.reason.as_deref(), Some("WorkloadGone"));

    // A Job that is deleted while its execution runs.
    world.api::<Job>().delete("alive", &DeleteParams::background()).await.unwrap();
    world.until_true("SELECT bool_and(status = 'failed') FROM job_executions WHERE id IN (1, 3)").await;
    assert_eq!(world.status(6).await, "running");
    assert_eq!(world.status(8).await, "running");

    // While the object is refused, the outdated value in the table does not count.
    let heavy = json!({"status": {"jobId": "x".repeat(200_000)}});
    let objects = world.api::<JobExecution>();
    objects.patch_status("six", &PatchParams::default(), &Patch::Merge(heavy)).await.unwrap();
    world.raw_conditions_until(&operator, "JobExecution", "six", "Bound", "ObjectTooLarge").await;
    world.store_until(&operator, |s| is(&s.conditions, "EvidenceAvailable", "False", "ObjectsRefused")).await;
    world.request_sweep(&operator).await;
    assert_eq!(world.status(6).await, "running");
}

/// A table with a column for the workload.
const NAMED: &str = "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, \
    execution_number integer NOT NULL, status text NOT NULL, started_at timestamptz, completed_at timestamptz, workload text)";

fn named(recreated: &str) -> Value {
    json!({"table": {"columns": {"workload": "workload"}}, "workloads": {"gracePeriod": "1s", "recreated": recreated}})
}

async fn start(world: &World, id: i64, pod: &str) {
    world
        .sql(&format!(
            "INSERT INTO job_executions VALUES ({id}, {id}, 1, 'running', now() - interval '1 minute', NULL, 'Pod/{pod}')"
        ))
        .await;
}

async fn pod(world: &World, name: &str, finalizers: Value) {
    let metadata = json!({"name": name, "finalizers": finalizers});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template()["spec"]});
    world.pod(name, pod).await;
}

async fn report(world: &World, name: &str, status: Value) {
    let report = json!({"apiVersion": "v1", "kind": "Pod", "status": status});
    let pods = world.api::<Pod>();
    pods.patch_status(name, &PatchParams::apply("kubelet").force(), &Patch::Apply(report)).await.unwrap();
}

async fn delete(world: &World, name: &str) {
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    world.api::<Pod>().delete(name, &now).await.unwrap();
}

#[tokio::test]
async fn a_workload_that_was_seen_to_succeed_is_no_proof_of_death_when_it_is_gone() {
    let world = World::with("succeeded", NAMED, &named("Alive")).await;
    rbac::apply(&world.client, &world.namespace, rbac::WORKLOADS).await;
    for (id, name) in [(1, "well"), (2, "unwell")] {
        pod(&world, name, json!([])).await;
        start(&world, id, name).await;
    }
    report(&world, "well", json!({"phase": "Succeeded"})).await;
    let operator = world.operator();
    world.store(named("Alive")).await;
    world.until_true("SELECT EXISTS (SELECT FROM jobexec.observations WHERE kind = 'WorkloadSucceeded' AND execution_id = '1')").await;
    world.until_true("SELECT EXISTS (SELECT FROM jobexec.observations WHERE kind = 'WorkloadSeen' AND execution_id = '2')").await;
    delete(&world, "well").await;
    delete(&world, "unwell").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
    world.request_sweep(&operator).await;
    world.request_sweep(&operator).await;
    assert_eq!(world.status(1).await, "running");
}

#[tokio::test]
async fn why_a_workload_ended_is_in_the_record_the_event_and_the_object() {
    let world = World::with("why", NAMED, &named("Alive")).await;
    rbac::apply(&world.client, &world.namespace, rbac::WORKLOADS).await;
    pod(&world, "killed", json!([])).await;
    start(&world, 1, "killed").await;
    let killed = json!({"phase": "Failed", "containerStatuses": [{"name": "c", "image": "none", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]});
    report(&world, "killed", killed).await;
    // A Pod on a node that is gone: no kubelet reports that it has terminated.
    pod(&world, "stuck", json!(["test.example.org/held"])).await;
    start(&world, 2, "stuck").await;
    delete(&world, "stuck").await;
    let operator = world.operator();
    world.execution("killed", "1", json!({})).await;
    world.store(named("Alive")).await;
    world.until_true("SELECT bool_and(status = 'failed') FROM job_executions").await;
    let notes: Vec<String> =
        sqlx::query_scalar("SELECT note FROM jobexec.events WHERE action = 'Failed' ORDER BY execution_id")
            .fetch_all(&world.pool)
            .await
            .unwrap();
    assert_eq!(notes[0], "OOMKilled, exit code 137");
    assert!(notes[1].starts_with("it should have terminated at "), "{notes:?}");
    let killed = world
        .execution_until(&operator, "killed", |s| is(&s.conditions, "Succeeded", "False", "WorkloadGone"))
        .await;
    let text = message(&killed.conditions, "Succeeded");
    assert!(text.contains("OOMKilled, exit code 137"), "{text}");
    let event = world.event_until(&operator, "killed", "WorkloadGone").await;
    assert!(event.contains("OOMKilled"), "{event}");
}

#[tokio::test]
async fn a_workload_that_is_made_again_under_its_name_is_reported_and_counts_where_that_is_asked() {
    let world = World::with("again", NAMED, &named("Alive")).await;
    rbac::apply(&world.client, &world.namespace, rbac::WORKLOADS).await;
    for id in [1, 2] {
        let name = format!("worker-{id}");
        pod(&world, &name, json!([])).await;
        start(&world, id, &name).await;
    }
    let operator = world.operator();
    world.store(named("Alive")).await;
    world.until_true("SELECT count(*) = 2 FROM jobexec.observations WHERE kind = 'WorkloadSeen'").await;
    operator.kill();
    delete(&world, "worker-1").await;
    pod(&world, "worker-1", json!([])).await;
    let operator = world.operator();
    let told =
        world.store_until(&operator, |s| is(&s.conditions, "Consistent", "False", "WorkloadRecreated")).await;
    let text = message(&told.conditions, "Consistent");
    assert!(text.contains("execution 1") && text.contains("--reason WorkloadRecreated"), "{text}");
    world.request_sweep(&operator).await;
    assert_eq!(world.status(1).await, "running");
    let file = world.file("store.yaml", &World::store_with("jobs", named("Alive")).to_string());
    let listed = String::from_utf8(world.jobexec(&["list", "-f", &file]).stdout).unwrap();
    assert!(listed.contains("Suspected:WorkloadRecreated"), "{listed}");
    let explained = String::from_utf8(world.jobexec(&["explain", "1", "-f", &file]).stdout).unwrap();
    assert!(explained.contains("another one has its name"), "{explained}");

    world.store_changed(&operator, named("Gone")).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    world.request_sweep(&operator).await;
    assert_eq!(world.status(2).await, "running");
    let record: String =
        world.one("SELECT reason || ': ' || note FROM jobexec.events WHERE action = 'Failed'").await;
    assert!(record.starts_with("WorkloadGone: another one has its name"), "{record}");
}
