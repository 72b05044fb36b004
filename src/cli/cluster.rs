//! A store in Kubernetes, by the current kube context: what a person wants is applied to its objects.

use std::str::FromStr;
use std::time::Duration as Limit;

use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::{Value, json};

use super::{CliError, person};
use crate::api::{ADOPT, Duration, ExecutionStore, JobExecution, RESUME};
use crate::controllers::execution::names;
use crate::db::adopt::{DISCARD, How};
use crate::db::mapping::IdType;
use crate::http::wire::StoreName;
use crate::secrets::describe;

/// How long a call may take, the client's own retries included.
const TIMEOUT: Limit = Limit::from_secs(30);

impl FromStr for StoreName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = "write NAMESPACE/NAME of an ExecutionStore, for example prod/jobs";
        Self::try_from(text.to_owned()).map_err(|_| wrong.to_owned())
    }
}

/// A store that is there.
pub(super) struct Cluster {
    client: Client,
    store: StoreName,
}

impl Cluster {
    /// Connects, and sees that there is such a store.
    pub(super) async fn open(store: StoreName) -> Result<Self, CliError> {
        let config = Config::infer().await.map_err(|error| CliError::Cluster(describe(&error)))?;
        let client = Client::try_from(config).map_err(|error| CliError::Cluster(describe(&error)))?;
        let cluster = Self { client, store };
        let stores: Api<ExecutionStore> = cluster.api();
        call(stores.get_metadata_opt(&cluster.store.name)).await?.ok_or_else(|| {
            let StoreName { namespace, name } = &cluster.store;
            CliError::NotDone(format!(
                "there is no ExecutionStore {name} in the namespace {namespace}: see `kubectl get executionstores -A`"
            ))
        })?;
        Ok(cluster)
    }

    /// Asks for more time for an execution. Returns the object's name.
    pub(super) async fn extend(&self, id: &str, by: &Duration) -> Result<String, CliError> {
        self.apply(id, "extend", json!({"extendBy": by.to_string()})).await
    }

    /// Asks for an execution to be cancelled. Returns the object's name.
    pub(super) async fn cancel(&self, id: &str) -> Result<String, CliError> {
        if let Some(object) = self.found(id).await?.filter(JobExecution::was_declined) {
            return Err(CliError::NotDone(format!(
                "jobexecution/{name} asked for that already, while its store only observed, and it is not carried out: take it \
                 back with kubectl -n {namespace} patch jobexecution {name} --type=merge -p '{{\"spec\":{{\"cancel\":false}}}}', \
                 and run this again once the store enforces",
                name = object.name_any(),
                namespace = self.store.namespace,
            )));
        }
        self.apply(id, "cancel", json!({"cancel": true})).await
    }

    /// Lets the operator go on although its breaker is open. Returns the object's name.
    pub(super) async fn resume(&self) -> Result<String, CliError> {
        self.annotate("resume", RESUME, &chrono::Utc::now().to_rfc3339()).await
    }

    /// Has the store take over what another one has left, or drop it. Returns the object's name.
    pub(super) async fn adopt(&self, how: How) -> Result<String, CliError> {
        let now = chrono::Utc::now().to_rfc3339();
        let value = match how {
            How::TakeOver => now,
            How::Discard => format!("{DISCARD}-{now}"),
        };
        self.annotate("adopt", ADOPT, &value).await
    }

    async fn annotate(&self, wish: &str, annotation: &str, value: &str) -> Result<String, CliError> {
        let name = &self.store.name;
        let object = json!({
            "apiVersion": "jobexec.dev/v1alpha1", "kind": "ExecutionStore",
            "metadata": {"name": name, "annotations": {annotation: value}},
        });
        let stores: Api<ExecutionStore> = self.api();
        call(stores.patch_metadata(name, &manager(wish), &Patch::Apply(object))).await?;
        Ok(format!("executionstore/{name}"))
    }

    /// Applies a wish to the object of an execution. Each wish has a field manager of its own, so that one does not take
    /// back another.
    async fn apply(&self, id: &str, wish: &str, mut spec: Value) -> Result<String, CliError> {
        let name = self.object_of(id).await?;
        spec["storeRef"] = json!({"name": self.store.name});
        spec["executionId"] = json!(id);
        let object = json!({
            "apiVersion": "jobexec.dev/v1alpha1", "kind": "JobExecution", "metadata": {"name": name}, "spec": spec,
        });
        let executions: Api<JobExecution> = self.api();
        call(executions.patch_metadata(&name, &manager(wish), &Patch::Apply(object))).await?;
        Ok(format!("jobexecution/{name}"))
    }

    /// The name of the oldest object for an execution, or of the one to be made.
    async fn object_of(&self, id: &str) -> Result<String, CliError> {
        let id_type = if id.parse::<i64>().is_ok() { IdType::Integer } else { IdType::Text };
        let found = self.found(id).await?;
        Ok(found.map_or_else(|| names::name(&self.store.name, id_type, id), |object| object.name_any()))
    }

    /// The oldest object for an execution, whose wishes count.
    async fn found(&self, id: &str) -> Result<Option<JobExecution>, CliError> {
        let executions: Api<JobExecution> = self.api();
        let store = &self.store.name;
        let fields = format!("spec.storeRef.name={store},spec.executionId={}", escaped(id));
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

/// As a value in a field selector.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| "\\,=".contains(c).then_some('\\').into_iter().chain([c])).collect()
}

/// Who asks, as the API server notes it; at most 128 characters.
fn manager(wish: &str) -> PatchParams {
    let who: String = format!("jobexec {wish} ({})", person()).chars().take(128).collect();
    PatchParams::apply(&who).force()
}

async fn call<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CliError> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(outcome) => outcome.map_err(|error| CliError::Cluster(describe(&error))),
        Err(_) => Err(CliError::Cluster(format!("the API server did not answer within {TIMEOUT:?}"))),
    }
}
