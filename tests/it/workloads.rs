//! Executions whose Job or Pod has failed or is gone.

use jobexec_operator::api::JobExecution;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::{World, is, rbac};

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
    // The admission of Pods wants a ServiceAccount, which a controller makes for each namespace.
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
    // An object knows better than the table.
    world.execution("six", "6", json!({"workloadRef": {"name": "mapped-elsewhere"}})).await;
    world.execution("five", "5", json!({"workloadRef": {"kind": "Pod", "name": "gone-too"}})).await;
    world.sql("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 7").await;

    let operator = world.operator();
    world.store(spec).await;
    // Without the right to list them nobody is suspected.
    let told =
        world.store_until(&operator, |s| is(&s.conditions, "EvidenceSeen", "False", "ListFailed")).await;
    assert!(is(&told.conditions, "Ready", "True", "Enforcing"));
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.suspects").await, 0);

    rbac::apply(&world.client, &world.namespace, rbac::WORKLOADS).await;
    world.store_until(&operator, |s| is(&s.conditions, "EvidenceSeen", "True", "Seen")).await;
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

    // While the object is refused the table's word, which is old, does not count.
    let heavy = json!({"status": {"jobId": "x".repeat(200_000)}});
    let objects = world.api::<JobExecution>();
    objects.patch_status("six", &PatchParams::default(), &Patch::Merge(heavy)).await.unwrap();
    world.raw_conditions_until(&operator, "JobExecution", "six", "Bound", "ObjectTooLarge").await;
    world.store_until(&operator, |s| is(&s.conditions, "EvidenceSeen", "False", "ObjectsRefused")).await;
    world.request_sweep(&operator).await;
    assert_eq!(world.status(6).await, "running");
}
