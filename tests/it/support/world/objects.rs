//! Objects of a world, created, changed and deleted as a user would.

use std::fmt::Debug;

use jobexec_operator::api::{ExecutionPolicy, ExecutionStore, JobExecution};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::World;
use crate::support::{Operator, PATIENCE};

impl World {
    /// Labels the namespace.
    pub(crate) async fn label_namespace(&self, labels: Value) {
        let patch = json!({"metadata": {"labels": labels}});
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.patch(&self.namespace, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// The objects of a kind in this namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates or replaces a Secret that may be used for notifications.
    pub(crate) async fn secret(&self, name: &str, data: Value) {
        self.secret_for(name, json!({"jobexec.dev/use": "notifications"}), data).await;
    }

    /// Creates or replaces a Secret with these labels, if there is an API server: only an operator reads it.
    pub(crate) async fn secret_for(&self, name: &str, labels: Value, data: Value) {
        if !self.has_cluster {
            return;
        }
        let metadata = json!({"name": name, "labels": labels});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data});
        self.api::<Secret>()
            .patch(name, &PatchParams::apply("test").force(), &Patch::Apply(secret))
            .await
            .unwrap();
    }

    /// Returns a store with the Secret `db`, the given additions to its spec, and a short poll interval.
    pub(crate) fn store_with(name: &str, spec: Value) -> Value {
        let mut object = json!({
            "apiVersion": "jobexec.dev/v1alpha1", "kind": "ExecutionStore", "metadata": {"name": name},
            "spec": {
                "connection": {"secretRef": {"name": "db"}}, "pollInterval": "1s",
                // Many tests have many stale rows; the circuit breaker has tests of its own.
                "maxFailuresPerSweep": 1_000_000,
                // The operator's objects have tests of their own too.
                "executionObjects": {"enabled": false},
            },
        });
        merge(&mut object["spec"], spec);
        object
    }

    /// Creates or changes the store `jobs`.
    pub(crate) async fn store(&self, spec: Value) -> ExecutionStore {
        Box::pin(self.apply("jobs", Self::store_with("jobs", spec))).await.unwrap()
    }

    /// Changes the store `jobs`, and waits until the operator has observed the change.
    pub(crate) async fn store_changed(&self, operator: &Operator, spec: Value) {
        let generation = self.store(spec).await.metadata.generation;
        self.store_until(operator, |s| s.observed_generation == generation).await;
    }

    /// Creates or changes a `JobExecution` of the store `jobs`.
    pub(crate) async fn execution(&self, name: &str, id: &str, spec: Value) -> JobExecution {
        self.apply(name, Self::execution_with(name, id, spec)).await.unwrap()
    }

    /// Returns a `JobExecution` of the store `jobs`.
    pub(crate) fn execution_with(name: &str, id: &str, spec: Value) -> Value {
        let mut object = json!({
            "apiVersion": "jobexec.dev/v1alpha1", "kind": "JobExecution", "metadata": {"name": name},
            "spec": {"storeRef": {"name": "jobs"}, "executionId": id},
        });
        merge(&mut object["spec"], spec);
        object
    }

    /// Creates or changes an `ExecutionPolicy` of the store `jobs`.
    pub(crate) async fn policy(&self, name: &str, spec: Value) -> ExecutionPolicy {
        self.apply(name, Self::policy_with(name, spec)).await.unwrap()
    }

    /// Returns an `ExecutionPolicy` of the store `jobs`.
    pub(crate) fn policy_with(name: &str, spec: Value) -> Value {
        let mut object = json!({
            "apiVersion": "jobexec.dev/v1alpha1", "kind": "ExecutionPolicy", "metadata": {"name": name},
            "spec": {"storeRef": {"name": "jobs"}},
        });
        merge(&mut object["spec"], spec);
        object
    }

    /// Deletes an object.
    pub(crate) async fn delete<K>(&self, name: &str)
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        self.api::<K>().delete(name, &kube::api::DeleteParams::default()).await.unwrap();
    }

    /// Sets an annotation of the store `jobs` as a user would.
    pub(crate) async fn annotate(&self, key: &str, value: &str) {
        let patch = json!({"metadata": {"annotations": {key: value}}});
        self.api::<ExecutionStore>()
            .patch("jobs", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// Applies an object as a user would.
    pub(crate) async fn apply<K>(&self, name: &str, object: Value) -> Result<K, kube::Error>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let (api, params, patch) =
            (self.api::<K>(), PatchParams::apply("test").force(), Patch::Apply(object));
        // The objects are large, and so would be the futures of all callers.
        Box::pin(api.patch(name, &params, &patch)).await
    }

    /// Creates a Pod once the namespace accepts one.
    pub(crate) async fn pod(&self, name: &str, pod: Value) {
        use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
        let account =
            await_condition(self.api::<ServiceAccount>(), "default", |o: Option<&ServiceAccount>| {
                o.is_some()
            });
        tokio::time::timeout(PATIENCE, account).await.unwrap().unwrap();
        self.apply::<Pod>(name, pod).await.unwrap();
    }

    /// Removes the operator's permissions for a resource.
    pub(crate) async fn forbid(&self, resource: &str) {
        let roles = self.api::<Role>();
        let mut role = roles.get("jobexec-operator").await.unwrap();
        role.metadata.managed_fields = None;
        for rule in role.rules.iter_mut().flatten() {
            rule.resources.iter_mut().flatten().for_each(|r| *r = r.replace(resource, "nothing"));
        }
        roles.replace("jobexec-operator", &PostParams::default(), &role).await.unwrap();
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
