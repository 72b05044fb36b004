//! Work that needs every permission of the operator.

use std::time::Duration;

use jobexec_operator::api::{JobExecution, Phase};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::json;

use crate::support::proxy::Proxies;
use crate::support::{Operator, PATIENCE, World};

pub(super) struct Work<'a> {
    world: &'a World,
    proxies: &'a Proxies,
}

impl<'a> Work<'a> {
    pub(super) async fn new(world: &'a World, proxies: &'a Proxies) -> Self {
        let job = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "alive"},
            "spec": {"suspend": true, "template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "c", "image": "none"}],
            }}},
        });
        world.apply::<Job>("alive", job).await.unwrap();
        let objects = json!({"enabled": true, "finishedTTL": "1s"});
        world.store(json!({"executionObjects": objects, "workloads": {}})).await;
        Self { world, proxies }
    }

    /// Removes everything of an interrupted round. No operator may run.
    pub(super) async fn clear(&self) {
        self.proxies.api.recover();
        self.world.sql("DELETE FROM job_executions").await;
        let executions = self.world.api::<JobExecution>();
        let all = (DeleteParams::default(), ListParams::default());
        executions.delete_collection(&all.0, &all.1).await.unwrap();
        self.world.api::<Lease>().delete_collection(&all.0, &all.1).await.unwrap();
    }

    /// Waits until all of it is done, with different numbers for each round.
    pub(super) async fn done(&self, operator: &Operator, round: usize) {
        let id = i64::try_from(round).unwrap() * 10;
        let policy = json!({"timeout": format!("{}h", 100 + round)});
        self.world.policy("all", policy).await;
        self.world.policy_until(operator, "all", |status| !status.conditions.is_empty()).await;
        self.is_ended(operator, id).await;
        self.has_object(operator, id + 1).await;
        self.is_found_there(operator, id + 2).await;
    }

    async fn start(&self, id: i64, age: &str) {
        self.world
            .sql(&format!(
                "INSERT INTO job_executions VALUES ({id}, 7, {id}, 'running', now() - interval '{age}')"
            ))
            .await;
    }

    /// A stale execution is ended and announced, after the workloads were listed.
    async fn is_ended(&self, operator: &Operator, id: i64) {
        let workload = json!({"workloadRef": {"name": "alive"}});
        self.world.execution("with-workload", &(id + 5).to_string(), workload).await;
        self.start(id, "30 days").await;
        self.world.until_true(&format!("SELECT status = 'failed' FROM job_executions WHERE id = {id}")).await;
        self.world.request_sweep(operator).await;
        let told = format!(": {id} (");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self
            .world
            .events()
            .await
            .iter()
            .any(|event| event.note.as_ref().is_some_and(|note| note.contains(&told)))
        {
            assert!(tokio::time::Instant::now() < deadline, "no Event{told}\n{}", operator.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A running execution has an object, whose labels are corrected, and which is deleted some time after the end.
    async fn has_object(&self, operator: &Operator, id: i64) {
        let name = format!("jobs-{id}");
        let objects = self.world.api::<JobExecution>();
        self.start(id, "1 minute").await;
        self.world.execution_until(operator, &name, |s| s.phase == Some(Phase::Running)).await;
        let lie = json!({"metadata": {"labels": {"jobexec.dev/phase": "completed"}}});
        let object = objects.patch(&name, &PatchParams::default(), &Patch::Merge(lie)).await.unwrap();
        let right = |object: Option<&JobExecution>| {
            object.is_some_and(|object| object.labels()["jobexec.dev/phase"] == "running")
        };
        let waited = await_condition(objects.clone(), &name, right);
        tokio::time::timeout(PATIENCE, waited).await.unwrap().unwrap();
        self.world
            .sql(&format!(
                "UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = {id}"
            ))
            .await;
        let uid = object.uid().unwrap();
        let gone = conditions::is_deleted(&uid);
        let waited = await_condition(objects, &name, gone);
        tokio::time::timeout(PATIENCE, waited).await.unwrap().unwrap();
    }

    /// The operator reads an object that somebody else created before the watch delivers it.
    async fn is_found_there(&self, operator: &Operator, id: i64) {
        let name = format!("jobs-{id}");
        self.proxies.api.go_stale();
        self.world.execution(&name, &id.to_string(), json!({})).await;
        self.start(id, "1 minute").await;
        let path = format!("/apis/jobexec.dev/v1alpha1/namespaces/{}/jobexecutions", self.world.namespace);
        self.proxies.api.asked(1, &format!("GET {path}/{name}")).await;
        self.proxies.api.recover();
        self.world.execution_until(operator, &name, |s| s.phase == Some(Phase::Running)).await;
    }
}
