//! Which Jobs and Pods there are, for stores whose executions are run by them. They are listed when it is time to look,
//! since a watch would be trusted while it is stale, and what it has not heard of would count as gone.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::{Context, ReconcileError, bounded};
use crate::api::{ExecutionStore, JobExecution};
use crate::db::evidence::Workloads;
use crate::db::mapping::IdType;

/// How many objects come in one answer.
const PAGE: u32 = 500;

/// The workloads of the store's namespace that exist and have not failed, and which execution says that it is run by which.
pub fn see(
    context: &Context,
    store: &ExecutionStore,
    id_type: IdType,
) -> impl Future<Output = Result<Workloads, ReconcileError>> + Send + use<> {
    let (client, namespace) = (context.client.clone(), store.namespace().unwrap_or_default());
    let mut workloads = Workloads::default();
    // The executions first: a workload that is made in between is alive, not gone.
    for (id, workload) in context.workload_refs(&namespace, &store.name_any(), id_type) {
        workloads.executions.push(id);
        workloads.named.push(workload);
    }
    async move {
        let failed = |job: &Job| {
            let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Failed" && c.status == "True"))
        };
        let api = Api::namespaced(client.clone(), &namespace);
        alive(api, "Job", failed, &mut workloads.alive).await?;
        let failed = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Failed");
        alive(Api::namespaced(client, &namespace), "Pod", failed, &mut workloads.alive).await?;
        Ok(workloads)
    }
}

/// Adds the objects of a kind that have not failed, as `Kind/name`.
async fn alive<K>(
    api: Api<K>,
    kind: &str,
    failed: impl Fn(&K) -> bool,
    alive: &mut Vec<String>,
) -> Result<(), ReconcileError>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    K::DynamicType: Default,
{
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = bounded(api.list(&params)).await?;
        let names =
            page.items.iter().filter(|object| !failed(object)).map(|o| format!("{kind}/{}", o.name_any()));
        alive.extend(names);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// The workload that a `JobExecution` names.
pub fn named(execution: &JobExecution, id_type: IdType) -> Option<(String, String)> {
    let workload = execution.spec.workload_ref.as_ref()?;
    Some((id_type.canonical(&execution.spec.execution_id)?, workload.to_string()))
}
