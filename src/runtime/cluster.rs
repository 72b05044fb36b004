//! The cluster side of the operator: the client of the API server, caches of all objects, the stores that this replica
//! manages, and the work queue. It knows nothing about open databases.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{ExecutionPolicy, ExecutionStore, JobExecution};
use crate::db::mapping::IdType;
use crate::db::{Mapping, Pools};
use crate::kubernetes::guarded::{Guarded, Refused};
use crate::kubernetes::queue::{StoreKey, WorkQueue};
use crate::kubernetes::scope::Scope;
use crate::kubernetes::watching::{Cache, Usage};
use crate::metrics::{CacheNow, Metrics};
use crate::net::Dialer;
use crate::rules::{execution_source, policy_source};
use crate::runtime::overrides::{self, DesiredState, RetryEvidence};
use crate::sharding::Sharding;

/// The cluster side of the operator.
pub struct Cluster {
    /// The client of the API server.
    pub client: Client,
    scope: Scope,
    stores: Cache<ExecutionStore>,
    executions: Cache<JobExecution>,
    policies: Cache<ExecutionPolicy>,
    /// Objects to reconcile soon.
    pub queue: WorkQueue,
    /// The operator's own metrics.
    pub metrics: Metrics,
    /// Connects to databases, mail servers and webhooks, as far as the configuration allows.
    pub dialer: Dialer,
    /// The connections to databases.
    pub pools: Pools,
    /// The stores that this replica manages.
    pub sharding: Arc<Sharding>,
    /// Tasks that write the status of stores.
    pub publishers: TaskTracker,
    /// Tasks that deliver notifications.
    pub deliveries: TaskTracker,
    /// Cancelled when the operator stops.
    pub stop: CancellationToken,
}

/// The caches of all controllers.
pub struct Caches {
    /// The stores.
    pub stores: Cache<ExecutionStore>,
    /// The `JobExecution` objects.
    pub executions: Cache<JobExecution>,
    /// The policies.
    pub policies: Cache<ExecutionPolicy>,
}

impl Cluster {
    /// Returns a cluster side over the caches of all controllers.
    pub fn new(
        client: Client,
        scope: Scope,
        caches: Caches,
        sharding: Arc<Sharding>,
        dialer: Dialer,
        stop: CancellationToken,
    ) -> Self {
        let Caches { stores, executions, policies } = caches;
        Self {
            client,
            scope,
            stores,
            executions,
            policies,
            queue: WorkQueue::default(),
            metrics: Metrics::default(),
            pools: Pools::new(dialer.clone()),
            dialer,
            sharding,
            publishers: TaskTracker::new(),
            deliveries: TaskTracker::new(),
            stop,
        }
    }

    /// Reports whether another operator may manage this store and report on it. An operator without a selector knows all
    /// stores.
    pub fn is_for_others(&self, namespace: &str, store: &str) -> bool {
        !self.scope.stores.selects_all() && self.store(namespace, store).is_none()
    }

    /// The stores, as far as they have been seen.
    pub fn stores(&self) -> &Cache<ExecutionStore> {
        &self.stores
    }

    /// The policies, as far as they have been seen.
    pub fn policies(&self) -> &Cache<ExecutionPolicy> {
        &self.policies
    }

    /// Reports whether this replica manages the store of this name, which need not exist.
    pub fn owns(&self, namespace: &str, store: &str) -> bool {
        self.sharding.owns(namespace, store)
    }

    /// Reports whether this replica manages the store.
    pub fn owns_store(&self, store: &ExecutionStore) -> bool {
        self.owns(&store.namespace().unwrap_or_default(), &store.name_any())
    }

    /// Reports whether this replica manages the store that a reference names.
    pub fn owns_key<K: kube::runtime::reflector::Lookup<DynamicType = ()>>(
        &self,
        key: &ObjectRef<K>,
    ) -> bool {
        self.owns(key.namespace.as_deref().unwrap_or_default(), &key.name)
    }

    /// The store of this name, as last seen.
    pub fn store(&self, namespace: &str, name: &str) -> Option<Arc<Guarded<ExecutionStore>>> {
        self.stores.get(&ObjectRef::new(name).within(namespace))
    }

    /// Every store, as last seen.
    pub fn all_stores(&self) -> Vec<Arc<Guarded<ExecutionStore>>> {
        self.stores.state()
    }

    /// Every policy, as last seen.
    pub fn all_policies(&self) -> Vec<Arc<Guarded<ExecutionPolicy>>> {
        self.policies.state()
    }

    /// Reports whether the store exists and its spec is the latest one in the cache.
    pub fn is_current(&self, store: &ExecutionStore) -> bool {
        let latest = self.store(&store.namespace().unwrap_or_default(), &store.name_any());
        latest.is_some_and(|guarded| {
            guarded.0.as_ref().is_ok_and(|latest| {
                latest.uid() == store.uid() && latest.metadata.generation == store.metadata.generation
            })
        })
    }

    /// Waits until the stores of one namespace have been seen, and then for at most `patience` until all caches have synced: a
    /// replica that sees no store must not be assigned any.
    pub(crate) async fn wait_for_caches(&self, patience: Duration) {
        self.stores.wait_for_any().await;
        let synced = async { tokio::join!(self.stores.wait(), self.executions.wait(), self.policies.wait()) };
        if tokio::time::timeout(patience, synced).await.is_err() {
            tracing::warn!("not all caches have synced yet, the Lease is taken nevertheless");
        }
    }

    /// Waits until the `JobExecution` and `ExecutionPolicy` caches of a namespace have synced, for at most `patience`.
    pub async fn wait_for_overrides(&self, namespace: &str, patience: Duration) {
        let both =
            futures::future::join(self.executions.wait_for(namespace), self.policies.wait_for(namespace));
        if tokio::time::timeout(patience, both).await.is_err() {
            tracing::debug!(namespace, "the JobExecution and ExecutionPolicy caches have not synced yet");
        }
    }

    /// The overrides and policies in the objects of a store, or `None` while the caches of its namespace have not synced.
    pub fn overrides(&self, namespace: &str, store: &str, mapping: &Mapping) -> Option<DesiredState> {
        if !self.executions.seen_in(namespace) || !self.policies.seen_in(namespace) {
            return None;
        }
        let evidence = self
            .store(namespace, store)
            .and_then(|guarded| Some(RetryEvidence::of(&guarded.0.as_ref().ok()?.spec)))
            .unwrap_or_default();
        let forgotten = self.executions.forgets_in(namespace) || self.policies.forgets_in(namespace);
        let mut read = DesiredState { readable: forgotten.then(HashSet::new), ..DesiredState::default() };
        for guarded in self.executions.state() {
            match &guarded.0 {
                Ok(execution) if belongs(execution, namespace, store) => {
                    read.executions.extend(overrides::execution(execution, mapping.id_type()));
                    read.note_readable(execution_source(&execution.name_any()));
                }
                Err(invalid) if is_in(invalid, namespace) => {
                    read.unreadable.push(execution_source(name_of(invalid)));
                }
                _ => {}
            }
        }
        for guarded in self.policies.state() {
            match &guarded.0 {
                Ok(policy) if is_of(policy, namespace, store) => {
                    read.policies.push(overrides::policy(policy, mapping, evidence));
                    read.note_readable(policy_source(&policy.name_any()));
                }
                Err(invalid) if is_in(invalid, namespace) => {
                    read.unreadable.push(policy_source(name_of(invalid)));
                }
                _ => {}
            }
        }
        // The cache has no order of its own.
        read.policies.sort_by(|a, b| a.policy.name.cmp(&b.policy.name));
        Some(read)
    }

    /// The workloads that the objects of a store name, by the id of the execution.
    pub fn workload_refs(&self, namespace: &str, store: &str, id_type: IdType) -> Vec<(String, String)> {
        let executions = self.executions.state();
        let readable = executions.iter().filter_map(|guarded| guarded.0.as_ref().ok());
        let own = readable.filter(|execution| belongs(execution, namespace, store));
        own.filter_map(|execution| {
            let workload = execution.spec.workload_ref.as_ref()?;
            Some((id_type.canonical(&execution.spec.execution_id)?, workload.to_string()))
        })
        .collect()
    }

    /// Reports whether refused objects of this namespace may name workloads: those in the table may then be out of date.
    pub fn hides_workloads(&self, namespace: &str) -> bool {
        self.executions.forgets_in(namespace) || !self.undecodable_executions(namespace).is_empty()
    }

    /// Enqueues a store to be reconciled soon.
    pub fn enqueue_store(&self, namespace: &str, store: &str) {
        self.queue.enqueue_store(namespace, store);
    }

    /// Enqueues the policies of a store to be reconciled soon.
    pub fn enqueue_policies(&self, namespace: &str, store: &str) {
        let policies = self.policies.state();
        let own = policies.iter().filter_map(|guarded| {
            let policy = guarded.0.as_ref().ok()?;
            is_of(policy, namespace, store).then(|| ObjectRef::new(&policy.name_any()).within(namespace))
        });
        self.queue.policies.add_all(own);
    }

    /// Enqueues every object whose store may have changed its owner.
    pub(crate) fn enqueue_all(&self) {
        let stores = self.all_stores().into_iter().map(|store| ObjectRef::from_obj(&*store));
        self.queue.stores.add_all(stores.filter(|store| self.owns_key(store)));
        let policies = self.all_policies();
        self.queue.policies.add_all(policies.iter().map(|policy| ObjectRef::from_obj(&**policy)));
        self.queue.executions.add_all(self.execution_keys());
    }

    /// The `JobExecution` objects of a store, as last seen; `None` while the cache has not synced.
    pub fn executions(&self, namespace: &str, store: &str) -> Option<Vec<Arc<Guarded<JobExecution>>>> {
        if !self.executions.seen_in(namespace) {
            return None;
        }
        let of = |guarded: &Arc<Guarded<JobExecution>>| {
            guarded.0.as_ref().is_ok_and(|execution| belongs(execution, namespace, store))
        };
        Some(self.executions.state().into_iter().filter(of).collect())
    }

    /// The stores that `JobExecution` objects name, and the namespaces with objects that cannot be decoded.
    pub fn execution_keys(&self) -> HashSet<StoreKey> {
        let key = |guarded: Arc<Guarded<JobExecution>>| match &guarded.0 {
            Ok(execution) => StoreKey::of(execution),
            Err(invalid) => StoreKey::undecodable(invalid.metadata.namespace.as_ref()),
        };
        self.executions.state().into_iter().map(key).collect()
    }

    /// The `JobExecution` objects of a namespace that cannot be used.
    pub fn undecodable_executions(&self, namespace: &str) -> Vec<Refused> {
        let refused = |guarded: Arc<Guarded<JobExecution>>| {
            let refused = guarded.0.as_ref().err()?;
            is_in(refused, namespace).then(|| refused.clone())
        };
        self.executions.state().into_iter().filter_map(refused).collect()
    }

    /// Reports whether the `JobExecution` objects of a namespace exceed its budget.
    pub fn executions_are_over_budget(&self, namespace: &str) -> bool {
        self.executions.refuses_in(namespace)
    }

    /// The memory that the caches take.
    pub(crate) fn caches(&self) -> Vec<CacheNow> {
        let now = |kind, Usage { bytes, refused }| CacheNow { kind, bytes, refused };
        vec![
            now("executionstores", self.stores.usage()),
            now("executionpolicies", self.policies.usage()),
            now("jobexecutions", self.executions.usage()),
        ]
    }
}

fn belongs(execution: &JobExecution, namespace: &str, store: &str) -> bool {
    execution.spec.store_ref.name == store && execution.metadata.namespace.as_deref() == Some(namespace)
}

fn is_of(policy: &ExecutionPolicy, namespace: &str, store: &str) -> bool {
    policy.spec.store_ref.name == store && policy.metadata.namespace.as_deref() == Some(namespace)
}

fn is_in(refused: &Refused, namespace: &str) -> bool {
    refused.metadata.namespace.as_deref() == Some(namespace)
}

fn name_of(refused: &Refused) -> &str {
    refused.metadata.name.as_deref().unwrap_or_default()
}
