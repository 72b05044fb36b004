//! Waits until statuses, conditions and Events of a world are as wanted.

use std::fmt::Debug;

use jobexec_operator::api::{
    ExecutionPolicy, ExecutionPolicyStatus, ExecutionStore, ExecutionStoreStatus, JobExecution,
    JobExecutionStatus,
};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::runtime::wait::await_condition;
use serde::de::DeserializeOwned;

use super::World;
use crate::support::{Operator, PATIENCE};

impl World {
    /// Waits until the status of the store `jobs` is as wanted, and returns it.
    pub(crate) async fn store_until(
        &self,
        operator: &Operator,
        wanted: impl Fn(&ExecutionStoreStatus) -> bool,
    ) -> ExecutionStoreStatus {
        self.store_named_until(operator, "jobs", wanted).await
    }

    /// Waits until the status of a store is as wanted, and returns it.
    pub(crate) async fn store_named_until(
        &self,
        operator: &Operator,
        name: &str,
        wanted: impl Fn(&ExecutionStoreStatus) -> bool,
    ) -> ExecutionStoreStatus {
        let as_wanted =
            |store: Option<&ExecutionStore>| store.and_then(|s| s.status.as_ref()).is_some_and(&wanted);
        let store = Box::pin(self.until(operator, name, as_wanted)).await;
        store.status.unwrap()
    }

    /// Waits until the status of a `JobExecution` is as wanted, and returns it.
    pub(crate) async fn execution_until(
        &self,
        operator: &Operator,
        name: &str,
        wanted: impl Fn(&JobExecutionStatus) -> bool,
    ) -> JobExecutionStatus {
        let as_wanted = |e: Option<&JobExecution>| e.and_then(|e| e.status.as_ref()).is_some_and(&wanted);
        let execution = Box::pin(self.until(operator, name, as_wanted)).await;
        execution.status.unwrap()
    }

    /// Waits until the status of an `ExecutionPolicy` describes its latest spec and is as wanted, and returns it.
    pub(crate) async fn policy_until(
        &self,
        operator: &Operator,
        name: &str,
        wanted: impl Fn(&ExecutionPolicyStatus) -> bool,
    ) -> ExecutionPolicyStatus {
        let as_wanted = |p: Option<&ExecutionPolicy>| {
            p.is_some_and(|p| {
                p.status.as_ref().is_some_and(|s| s.observed_generation == p.metadata.generation && wanted(s))
            })
        };
        let policy = self.until(operator, name, as_wanted).await;
        policy.status.unwrap()
    }

    /// Waits until an object of any kind, which need not decode, has a condition with this reason, and returns all.
    pub(crate) async fn raw_conditions_until(
        &self,
        operator: &Operator,
        kind: &str,
        name: &str,
        type_: &str,
        reason: &str,
    ) -> Vec<Condition> {
        let gvk = GroupVersionKind::gvk("jobexec.dev", "v1alpha1", kind);
        let resource = ApiResource::from_gvk(&gvk);
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let conditions = |object: &DynamicObject| -> Vec<Condition> {
            serde_json::from_value(object.data["status"]["conditions"].clone()).unwrap_or_default()
        };
        let wanted = |object: Option<&DynamicObject>| {
            object.is_some_and(|o| conditions(o).iter().any(|c| c.type_ == type_ && c.reason == reason))
        };
        let waited = tokio::time::timeout(PATIENCE, await_condition(api, name, wanted)).await;
        let object =
            waited.unwrap_or_else(|_| panic!("{kind} {name} was not told {reason}\n{}", operator.log()));
        conditions(&object.unwrap().unwrap())
    }

    /// Waits until an object is as wanted, and returns it; otherwise prints it and the operator's log.
    async fn until<K>(&self, operator: &Operator, name: &str, wanted: impl Fn(Option<&K>) -> bool) -> K
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + serde::Serialize
            + 'static,
        K::DynamicType: Default,
    {
        let waited = tokio::time::timeout(PATIENCE, await_condition(self.api::<K>(), name, wanted)).await;
        if let Ok(found) = waited {
            return found.unwrap().unwrap();
        }
        let now = self.api::<K>().get_opt(name).await.unwrap();
        panic!("{name} did not become as wanted: {now:#?}\n{}", operator.log());
    }

    /// Waits for an Event about `regarding` with this reason, and returns its note.
    pub(crate) async fn event_until(&self, operator: &Operator, regarding: &str, reason: &str) -> String {
        let fits = |e: &Event| {
            e.reason.as_deref() == Some(reason)
                && e.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(regarding)
        };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(event) = self.events().await.into_iter().find(&fits) {
                return event.note.unwrap_or_default();
            }
            assert!(tokio::time::Instant::now() < deadline, "no Event {reason}\n{}", operator.log());
            self.event_change().await;
        }
    }

    /// Every Event of this namespace.
    pub(crate) async fn events(&self) -> Vec<Event> {
        self.api::<Event>().list(&kube::api::ListParams::default()).await.unwrap().items
    }

    /// Waits for any Event, or for a moment.
    async fn event_change(&self) {
        use futures::TryStreamExt as _;
        let params = kube::api::WatchParams::default().timeout(1);
        let events = self.api::<Event>().watch(&params, "0").await.unwrap();
        let mut events = std::pin::pin!(events);
        let _ = events.try_next().await;
    }

    /// Requests a sweep as a user would, and waits until it has run.
    pub(crate) async fn request_sweep(&self, operator: &Operator) -> ExecutionStoreStatus {
        let request = uuid::Uuid::new_v4().to_string();
        self.annotate("jobexec.dev/sweep-requested", &request).await;
        self.store_until(operator, |s| s.observed_sweep_request.as_ref() == Some(&request)).await
    }
}
