//! The existing Jobs and Pods and their state, for stores whose executions they run. They are listed when evidence is
//! due, since a watch would be trusted while it is stale, and objects that it missed would count as gone.

mod slim;

use std::collections::BTreeMap;

use chrono::Utc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::Request;
use kube::{Client, Resource as _, ResourceExt as _};

use crate::api::ExecutionStore;
use crate::db::Mapping;
use crate::db::workloads::{State, Workload, Workloads};
use crate::kubernetes::error::{ReconcileError, bounded};
use crate::runtime::cluster::Cluster;
use slim::{Page, Slim};

/// The number of objects in one response, each of up to 1.5 MiB.
const PAGE: u32 = 20;

/// The reason why it is unknown which workload runs which execution.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// Kubernetes did not list them.
    #[error(
        "Jobs and Pods cannot be listed ({0}): see that the operator's ServiceAccount may list jobs and pods \
         (manifests/install/workloads.yaml)"
    )]
    Listing(#[from] ReconcileError),
    /// A refused object may name a different workload than the table.
    #[error(
        "JobExecution objects of this namespace cannot be used, and one of them may name another workload than the table: \
         correct or delete those whose condition Bound says InvalidObject, ObjectTooLarge or BudgetExceeded"
    )]
    ObjectsRefused,
}

impl Unknown {
    /// The reason, for a condition.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Listing(_) => "ListFailed",
            Self::ObjectsRefused => "ObjectsRefused",
        }
    }
}

/// Lists the workloads in the store's namespace and their state, and the executions whose objects name one.
///
/// # Errors
/// Fails if they cannot be listed, or if the table names workloads and objects that may override it are refused.
pub fn see(
    cluster: &Cluster,
    store: &ExecutionStore,
    mapping: &Mapping,
) -> impl Future<Output = Result<Workloads, Unknown>> + Send + use<> {
    let id_type = mapping.id_type();
    let (client, namespace) = (cluster.client.clone(), store.namespace().unwrap_or_default());
    let mut workloads = Workloads::default();
    // The executions first: a workload that is created in between is alive, not gone.
    for (id, workload) in cluster.workload_refs(&namespace, &store.name_any(), id_type) {
        workloads.executions.push(id);
        workloads.named.push(workload);
    }
    let hidden = mapping.workload().is_some() && cluster.hides_workloads(&namespace);
    async move {
        if hidden {
            return Err(Unknown::ObjectsRefused);
        }
        let mut failures = BTreeMap::new();
        let jobs = Request::new(Job::url_path(&(), Some(&namespace)));
        list(&client, &jobs, |job| workloads.seen.push(workload("Job", &job))).await?;
        let pods = Request::new(Pod::url_path(&(), Some(&namespace)));
        list(&client, &pods, |pod| {
            if let Some((job, why)) = pod.failure_of_job() {
                failures.insert(format!("Job/{job}"), why);
            }
            workloads.seen.push(workload("Pod", &pod));
        })
        .await?;
        // The failure of a Pod says more than that of its Job.
        for job in &mut workloads.seen {
            if let (State::Ended(Some(why)), Some(of_pod)) = (&mut job.state, failures.get(&job.name)) {
                *why = format!("{why}: {of_pod}");
            }
        }
        Ok(workloads)
    }
}

fn workload(kind: &str, object: &Slim) -> Workload {
    Workload {
        name: format!("{kind}/{}", object.metadata.name),
        uid: object.metadata.uid.clone(),
        state: object.state(Utc::now()),
    }
}

/// Passes all objects of a kind to `each`.
async fn list(client: &Client, api: &Request, mut each: impl FnMut(Slim)) -> Result<(), ReconcileError> {
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let request = api.list(&params).map_err(kube::Error::BuildRequest)?;
        let page: Page = bounded(client.request(request)).await?;
        page.items.into_iter().flatten().for_each(&mut each);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}
