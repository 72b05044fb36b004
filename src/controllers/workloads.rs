//! Which Jobs and Pods there are, for stores whose executions are run by them. They are listed when it is time to look,
//! since a watch would be trusted while it is stale, and what it has not heard of would count as gone.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::ListParams;
use kube::core::Request;
use kube::{Client, Resource as _, ResourceExt as _};
use serde::Deserialize;

use super::{Context, ReconcileError, bounded};
use crate::api::{ExecutionStore, JobExecution};
use crate::db::Mapping;
use crate::db::evidence::Workloads;
use crate::db::mapping::IdType;

/// How many objects come in one answer, each of up to 1.5 MiB.
const PAGE: u32 = 20;

/// Why it is not known which execution is run by which workload.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// Kubernetes did not list them.
    #[error(
        "Jobs and Pods cannot be listed ({0}): see that the operator's ServiceAccount may list jobs and pods \
         (manifests/install/workloads.yaml)"
    )]
    Listing(#[from] ReconcileError),
    /// A refused object may name another workload than the table does.
    #[error(
        "JobExecution objects of this namespace cannot be used, and one of them may name another workload than the table: \
         correct or delete those whose condition Bound says InvalidObject, ObjectTooLarge or BudgetExceeded"
    )]
    ObjectsRefused,
}

impl Unknown {
    /// One word for a condition's reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Listing(_) => "ListFailed",
            Self::ObjectsRefused => "ObjectsRefused",
        }
    }
}

/// The workloads of the store's namespace that exist and have not failed, and which execution says that it is run by which.
///
/// # Errors
/// They cannot be listed, or the table names workloads and objects that may say otherwise are refused.
pub fn see(
    context: &Context,
    store: &ExecutionStore,
    mapping: &Mapping,
) -> impl Future<Output = Result<Workloads, Unknown>> + Send + use<> {
    let id_type = mapping.id_type();
    let (client, namespace) = (context.client.clone(), store.namespace().unwrap_or_default());
    let mut workloads = Workloads::default();
    // The executions first: a workload that is made in between is alive, not gone.
    for (id, workload) in context.workload_refs(&namespace, &store.name_any(), id_type) {
        workloads.executions.push(id);
        workloads.named.push(workload);
    }
    let hidden = mapping.workload().is_some() && context.hides_workloads(&namespace);
    async move {
        if hidden {
            return Err(Unknown::ObjectsRefused);
        }
        let failed =
            |job: &Slim| job.status.conditions.iter().any(|c| c.type_ == "Failed" && c.status == "True");
        let jobs = Request::new(Job::url_path(&(), Some(&namespace)));
        alive(&client, &jobs, "Job", failed, &mut workloads.alive).await?;
        let failed = |pod: &Slim| pod.status.phase.as_deref() == Some("Failed");
        let pods = Request::new(Pod::url_path(&(), Some(&namespace)));
        alive(&client, &pods, "Pod", failed, &mut workloads.alive).await?;
        Ok(workloads)
    }
}

/// A page of workloads.
#[derive(Deserialize)]
struct Page {
    metadata: ListMeta,
    /// Null where there is none. An answer without it is no list, and all workloads would count as gone.
    #[serde(deserialize_with = "Option::deserialize")]
    items: Option<Vec<Slim>>,
}

/// What is read of a workload: others may write much into one.
#[derive(Deserialize)]
struct Slim {
    metadata: SlimMeta,
    #[serde(default)]
    status: SlimStatus,
}

#[derive(Deserialize)]
struct SlimMeta {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SlimStatus {
    phase: Option<String>,
    conditions: Vec<SlimCondition>,
}

#[derive(Deserialize)]
struct SlimCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

/// Adds the objects of a kind that have not failed, as `Kind/name`.
async fn alive(
    client: &Client,
    api: &Request,
    kind: &str,
    failed: impl Fn(&Slim) -> bool,
    alive: &mut Vec<String>,
) -> Result<(), ReconcileError> {
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let request = api.list(&params).map_err(kube::Error::BuildRequest)?;
        let page: Page = bounded(client.request(request)).await?;
        let living = page.items.iter().flatten().filter(|object| !failed(object));
        alive.extend(living.map(|object| format!("{kind}/{}", object.metadata.name)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_no_list_does_not_say_that_there_is_nothing() {
        let read = |answer: &str| {
            serde_json::from_str::<Page>(answer).map(|page| page.items.map(|items| items.len()))
        };
        assert_eq!(read(r#"{"metadata": {}, "items": []}"#).unwrap(), Some(0));
        assert_eq!(read(r#"{"metadata": {}, "items": null}"#).unwrap(), None);
        assert!(read(r#"{"metadata": {}}"#).is_err());
        assert!(read(r#"{"metadata": {}, "status": "Success"}"#).is_err());
    }
}
