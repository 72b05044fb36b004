//! `JobExecution` objects that the operator creates: which rows have one, its content, how long it stays, and the changes
//! that users may make.

mod cancel;
mod lifecycle;
mod limits;

use std::collections::BTreeSet;

use jobexec_operator::api::JobExecution;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::{Operator, PATIENCE, World};

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

async fn patch(world: &World, name: &str, spec: Value) -> Result<JobExecution, kube::Error> {
    let params = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    world.api::<JobExecution>().patch(name, &params, &Patch::Merge(json!({ "spec": spec }))).await
}
