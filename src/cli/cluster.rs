//! A store in Kubernetes, in the current kube context: applies actions of the user to its objects.

use std::str::FromStr;

use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::{Value, json};

use super::{CliError, actor};
use crate::api::{ADOPT, Duration, ExecutionStore, JobExecution, RESUME};
use crate::db::adopt::{DISCARD, How};
use crate::db::mapping::IdType;
use crate::http::types::StoreName;
use crate::reconcilers::execution::names;
use crate::secrets::describe;

/// Time limit of one call, including the client's own retries.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

impl FromStr for StoreName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = "write NAMESPACE/NAME of an ExecutionStore, for example prod/jobs";
        Self::try_from(text.to_owned()).map_err(|_| wrong.to_owned())
    }
}

/// An existing store.
pub(super) struct Cluster {
    client: Client,
    store: StoreName,
}

impl Cluster {
    /// Connects, and checks that the store exists.
    pub(super) async fn open(store: StoreName) -> Result<Self, CliError> {
        let config = Config::infer().await.map_err(|error| CliError::Cluster(describe(&error)))?;
        let client = Client::try_from(config).map_err(|error| CliError::Cluster(describe(&error)))?;
        let cluster = Self { client, store };
        let stores: Api<ExecutionStore> = cluster.api();
        call(stores.get_metadata_opt(&cluster.store.name)).await?.ok_or_else(|| {
            let StoreName { namespace, name } = &cluster.store;
            CliError::NotDone(format!(
                "ExecutionStore {name} does not exist in the namespace {namespace}: see `kubectl get executionstores -A`"
            ))
        })?;
        Ok(cluster)
    }

    /// Sets the extension of an execution. Returns the name of the object; and if the execution has no deadline by the last status,
    /// the object that sets its timeout to `Never`.
    pub(super) async fn extend(&self, id: &str, by: &Duration) -> Result<(String, Option<String>), CliError> {
        let status = self.find(id).await?.and_then(|object| object.status).unwrap_or_default();
        let never_by = status.timeout_source.filter(|_| status.no_deadline.is_some());
        Ok((self.apply(id, "extend", json!({"extendBy": by.to_string()})).await?, never_by))
    }

    /// Requests that an execution be cancelled. Returns the name of the object.
    pub(super) async fn cancel(&self, id: &str) -> Result<String, CliError> {
        if let Some(object) = self.find(id).await?.filter(JobExecution::was_declined) {
            return Err(CliError::NotDone(format!(
                "jobexecution/{name} requested this already, while its store only observed, so that the request was declined: \
                 withdraw it with kubectl -n {namespace} patch jobexecution {name} --type=merge -p '{{\"spec\":{{\"cancel\":false}}}}', \
                 and run this command again once the store enforces",
                name = object.name_any(),
                namespace = self.store.namespace,
            )));
        }
        self.apply(id, "cancel", json!({"cancel": true})).await
    }

    /// Lets the operator continue although its breaker is open. Returns the name of the object.
    pub(super) async fn resume(&self) -> Result<String, CliError> {
        self.annotate("resume", RESUME, &chrono::Utc::now().to_rfc3339()).await
    }

    /// Makes the store take over, or drop, the records of another one. Returns the name of the object.
    pub(super) async fn adopt(&self, how: How) -> Result<String, CliError> {
        let now = chrono::Utc::now().to_rfc3339();
        let value = match how {
            How::TakeOver => now,
            How::Discard => format!("{DISCARD}-{now}"),
        };
        self.annotate("adopt", ADOPT, &value).await
    }

    async fn annotate(&self, action: &str, annotation: &str, value: &str) -> Result<String, CliError> {
        let name = &self.store.name;
        let object = json!({
            "apiVersion": "jobexec.dev/v1alpha1", "kind": "ExecutionStore",
            "metadata": {"name": name, "annotations": {annotation: value}},
        });
        let stores: Api<ExecutionStore> = self.api();
        call(stores.patch_metadata(name, &manager(action), &Patch::Apply(object))).await?;
        Ok(format!("executionstore/{name}"))
    }

    /// Applies one field to the object of an execution. Each action has a field manager of its own, so that one does not
    /// remove the fields of another.
    async fn apply(&self, id: &str, action: &str, mut spec: Value) -> Result<String, CliError> {
        let name = self.object_name(id).await?;
        spec["storeRef"] = json!({"name": self.store.name});
        spec["executionId"] = json!(id);
        let object = json!({
            "apiVersion": "jobexec.dev/v1alpha1", "kind": "JobExecution", "metadata": {"name": name}, "spec": spec,
        });
        let executions: Api<JobExecution> = self.api();
        call(executions.patch_metadata(&name, &manager(action), &Patch::Apply(object))).await?;
        Ok(format!("jobexecution/{name}"))
    }

    /// Returns the name of the oldest object for an execution, or the name for a new one.
    async fn object_name(&self, id: &str) -> Result<String, CliError> {
        let id_type = if id.parse::<i64>().is_ok() { IdType::Integer } else { IdType::Text };
        let found = self.find(id).await?;
        Ok(found.map_or_else(|| names::name(&self.store.name, id_type, id), |object| object.name_any()))
    }

    /// Returns the oldest object for an execution, whose spec takes effect.
    async fn find(&self, id: &str) -> Result<Option<JobExecution>, CliError> {
        let executions: Api<JobExecution> = self.api();
        let store = &self.store.name;
        let fields = format!("spec.storeRef.name={store},spec.executionId={}", escape_selector(id));
        let mut found = call(executions.list(&ListParams::default().fields(&fields))).await?.items;
        found.sort_by_key(|e| (e.creation_timestamp(), e.name_any()));
        Ok(found.into_iter().next())
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.store.namespace)
    }
}

/// Escapes a value for a field selector.
fn escape_selector(text: &str) -> String {
    text.chars().flat_map(|c| "\\,=".contains(c).then_some('\\').into_iter().chain([c])).collect()
}

/// Returns the field manager, which names the user; the API server allows 128 characters.
fn manager(action: &str) -> PatchParams {
    let name: String = format!("jobexec {action} ({})", actor()).chars().take(128).collect();
    PatchParams::apply(&name).force()
}

async fn call<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CliError> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(outcome) => outcome.map_err(|error| CliError::Cluster(describe(&error))),
        Err(_) => Err(CliError::Cluster(format!("the API server did not answer within {TIMEOUT:?}"))),
    }
}
