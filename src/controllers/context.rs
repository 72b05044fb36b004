//! What all reconcilers share.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use futures::SinkExt as _;
use futures::channel::mpsc;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt as _};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::execution::{Key, Wakes};
use super::failures::Failures;
pub use super::guarded::{Guarded, Refused};
use super::membership::Membership;
use super::reader::{Reader, Readers};
use super::scope::Scope;
use super::store::Handle;
use super::watching::{Cache, Usage};
use super::wishes::{self, Wishes};
use super::workloads;
use crate::api::{ExecutionPolicy, ExecutionStore, JobExecution};
use crate::boundary::{Place, caught};
use crate::db::ledger::Claimant;
use crate::db::mapping::IdType;
use crate::db::{Mapping, Pools};
use crate::metrics::{CacheNow, Metrics, Tally};

use crate::net::Dialer;
use crate::rules::{execution_source, policy_source};

/// The first pause after a failure; it doubles with each further one.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);

/// The longest pause after failures.
const BACKOFF_CAP: Duration = Duration::from_mins(1);

/// What all reconcilers share.
pub struct Context {
    /// The API server.
    pub client: Client,
    scope: Scope,
    stores: Cache<ExecutionStore>,
    executions: Cache<JobExecution>,
    policies: Cache<ExecutionPolicy>,
    handles: Mutex<HashMap<ObjectRef<Guarded<ExecutionStore>>, Arc<Handle>>>,
    readers: Readers,
    /// What this process did to each store, whether or not it looks after it at present.
    tallies: Mutex<HashMap<ObjectRef<Guarded<ExecutionStore>>, Arc<Tally>>>,
    nudges: Nudges,
    /// The stores whose executions are to be looked at.
    pub wakes: Wakes,
    /// The `ExecutionPolicy` objects that fail.
    pub failing_policies: Failures<Guarded<ExecutionPolicy>>,
    /// What is counted of the operator.
    pub metrics: Metrics,
    /// Makes connections to databases, mail servers and webhooks, where it may.
    pub dialer: Dialer,
    /// The connections to databases.
    pub pools: Pools,
    /// Which stores are this replica's.
    pub membership: Arc<Membership>,
    /// What is telling Kubernetes of the stores.
    pub tellers: TaskTracker,
    /// What is delivering messages to people.
    pub deliveries: TaskTracker,
    /// Cancelled when the operator is asked to stop.
    pub stop: CancellationToken,
}

/// Where to say that an object should be looked at soon. A nudge that finds no room is covered by the object's own
/// requeue.
pub struct Nudges {
    /// For the store controller.
    pub stores: mpsc::Sender<ObjectRef<Guarded<ExecutionStore>>>,
    /// For the policy controller.
    pub policies: mpsc::Sender<ObjectRef<Guarded<ExecutionPolicy>>>,
}

/// The caches of all controllers.
pub struct Caches {
    /// Of the store controller.
    pub stores: Cache<ExecutionStore>,
    /// Of the execution controller.
    pub executions: Cache<JobExecution>,
    /// Of the policy controller.
    pub policies: Cache<ExecutionPolicy>,
}

impl Context {
    /// A context over the caches of all controllers.
    pub fn new(
        client: Client,
        scope: Scope,
        caches: Caches,
        nudges: Nudges,
        membership: Arc<Membership>,
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
            handles: Mutex::default(),
            readers: Readers::default(),
            tallies: Mutex::default(),
            nudges,
            wakes: Wakes::default(),
            failing_policies: Failures::default(),
            metrics: Metrics::default(),
            pools: Pools::new(dialer.clone()),
            dialer,
            membership,
            tellers: TaskTracker::new(),
            deliveries: TaskTracker::new(),
            stop,
        }
    }

    /// Whether this store is none of this operator's: another one may look after it, and tells of it. An operator that takes all
    /// stores knows them all.
    pub fn is_for_others(&self, namespace: &str, store: &str) -> bool {
        !self.scope.stores.selects_all() && self.store(namespace, store).is_none()
    }

    /// What is kept in memory for a store, made when it is first asked for.
    pub fn handle(&self, store: &ObjectRef<Guarded<ExecutionStore>>) -> Arc<Handle> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.entry(store.clone()).or_insert_with(|| Arc::new(Handle::counting(self.tally(store)))).clone()
    }

    /// What is kept in memory for a store, if anything is.
    pub fn known_handle(&self, store: &ObjectRef<Guarded<ExecutionStore>>) -> Option<Arc<Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).get(store).cloned()
    }

    /// Where what is done to a store is counted, made when it is first asked for.
    pub(super) fn tally(&self, store: &ObjectRef<Guarded<ExecutionStore>>) -> Arc<Tally> {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.entry(store.clone()).or_default().clone()
    }

    /// The same, if anything was counted there.
    pub(super) fn known_tally(&self, store: &ObjectRef<Guarded<ExecutionStore>>) -> Option<Arc<Tally>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner).get(store).cloned()
    }

    /// The stores, as far as they have been seen.
    pub fn stores(&self) -> &Cache<ExecutionStore> {
        &self.stores
    }

    /// The policies.
    pub fn policies(&self) -> &Cache<ExecutionPolicy> {
        &self.policies
    }

    /// Whether this replica looks after the store of this name, which need not exist.
    pub fn owns(&self, namespace: &str, store: &str) -> bool {
        self.membership.owns(namespace, store)
    }

    /// Whether this replica looks after the store.
    pub fn looks_after(&self, store: &ExecutionStore) -> bool {
        self.owns(&store.namespace().unwrap_or_default(), &store.name_any())
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

    /// Whether the store is there and its spec is the latest that was seen.
    pub fn is_current(&self, store: &ExecutionStore) -> bool {
        let latest = self.store(&store.namespace().unwrap_or_default(), &store.name_any());
        latest.is_some_and(|guarded| {
            guarded.0.as_ref().is_ok_and(|latest| {
                latest.uid() == store.uid() && latest.metadata.generation == store.metadata.generation
            })
        })
    }

    /// Forgets the stores that exist no more and closes their connections.
    pub fn prune(&self) {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.retain(|key, _| self.stores.get(key).is_some());
        drop(tallies);
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<_> = handles.keys().filter(|key| self.stores.get(key).is_none()).cloned().collect();
        for key in gone {
            if let Some(handle) = handles.remove(&key) {
                tracing::info!(store = %key, "the store is gone or is no longer for this operator: its claim is released, its session closed");
                tokio::spawn(async move { caught(Place::Store, handle.retire()).await });
            }
        }
    }

    /// What reads a store that another replica looks after.
    pub fn reader(&self, store: &ObjectRef<Guarded<ExecutionStore>>) -> Arc<Reader> {
        self.readers.of(store, || self.tally(store))
    }

    /// Closes the connections to stores of other replicas that nobody asks about any more.
    pub(super) fn tidy(&self) {
        self.readers.tidy(|store| {
            let ours = self.owns(store.namespace.as_deref().unwrap_or_default(), &store.name);
            ours || self.stores.get(store).is_none()
        });
    }

    /// Leaves the stores that are another replica's now to it, and has all of its own looked at.
    pub(super) async fn settle(self: &Arc<Self>) {
        self.hand_over();
        for store in self.all_stores() {
            let target = ObjectRef::from_obj(&*store);
            if self.owns(target.namespace.as_deref().unwrap_or_default(), &target.name) {
                // Unlike other nudges it may not be lost: nothing else would bring a store here.
                let sent = self.nudges.stores.clone().send(target).await;
                sent.unwrap_or_else(|_| tracing::debug!("the stores are no longer looked at"));
            }
        }
        for policy in self.all_policies() {
            let sent = self.nudges.policies.clone().send(ObjectRef::from_obj(&*policy)).await;
            sent.unwrap_or_else(|_| tracing::debug!("the policies are no longer looked at"));
        }
        self.wakes.wake_all(self.execution_keys());
    }

    /// Leaves the stores to others that are no longer this replica's.
    pub(super) fn hand_over(self: &Arc<Self>) {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = |key: &&ObjectRef<_>| !self.owns(key.namespace.as_deref().unwrap_or_default(), &key.name);
        let lost: Vec<_> = handles.keys().filter(lost).cloned().collect();
        for key in lost {
            if let Some(handle) = handles.remove(&key) {
                tracing::info!(store = %key, "another replica looks after the store now");
                self.wakes.wake(key.namespace.as_deref().unwrap_or_default(), &key.name);
                self.tellers.spawn(async move { caught(Place::Store, handle.hand_over()).await });
            }
        }
    }

    /// Closes every connection, all at once.
    pub async fn close(&self) {
        let handles: Vec<_> = self
            .handles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain()
            .map(|(_, handle)| handle)
            .collect();
        let handles = futures::future::join_all(handles.iter().map(|handle| handle.close()));
        tokio::join!(handles, self.readers.close());
    }

    /// Waits until every object that exists has been seen, once any has for at most `patience`: a replica that sees no store
    /// must not be left any.
    pub(super) async fn all_seen(&self, patience: Duration) {
        self.stores.wait_for_any().await;
        let seen = async { tokio::join!(self.stores.wait(), self.executions.wait(), self.policies.wait()) };
        if tokio::time::timeout(patience, seen).await.is_err() {
            tracing::warn!("not all objects have been seen yet, the Lease is taken all the same");
        }
    }

    /// Waits until every `JobExecution` and `ExecutionPolicy` of a namespace has been seen, for at most `patience`.
    pub async fn wishes_seen(&self, namespace: &str, patience: Duration) {
        let both =
            futures::future::join(self.executions.wait_for(namespace), self.policies.wait_for(namespace));
        if tokio::time::timeout(patience, both).await.is_err() {
            tracing::debug!(namespace, "not all JobExecution and ExecutionPolicy objects have been seen yet");
        }
    }

    /// What the objects of a store wish, or `None` while not all objects of its namespace have been seen.
    pub fn wishes(&self, namespace: &str, store: &str, mapping: &Mapping) -> Option<Wishes> {
        if !self.executions.seen_in(namespace) || !self.policies.seen_in(namespace) {
            return None;
        }
        let forgotten = self.executions.forgets_in(namespace) || self.policies.forgets_in(namespace);
        let mut read = Wishes { readable: forgotten.then(HashSet::new), ..Wishes::default() };
        let here = |namespaced: Option<&String>| namespaced.map(String::as_str) == Some(namespace);
        for guarded in self.executions.state() {
            match &guarded.0 {
                Ok(execution) if belongs(execution, namespace, store) => {
                    read.executions.extend(wishes::execution(execution, mapping.id_type()));
                    read.readable.iter_mut().for_each(|readable| {
                        readable.insert(execution_source(&execution.name_any()));
                    });
                }
                Err(invalid) if here(invalid.metadata.namespace.as_ref()) => {
                    let name = invalid.metadata.name.as_deref().unwrap_or_default();
                    read.unreadable.push(execution_source(name));
                }
                _ => {}
            }
        }
        for guarded in self.policies.state() {
            match &guarded.0 {
                Ok(policy) if is_of(policy, namespace, store) => {
                    read.policies.push(wishes::policy(policy, mapping));
                    read.readable.iter_mut().for_each(|readable| {
                        readable.insert(policy_source(&policy.name_any()));
                    });
                }
                Err(invalid) if here(invalid.metadata.namespace.as_ref()) => {
                    let name = invalid.metadata.name.as_deref().unwrap_or_default();
                    read.unreadable.push(policy_source(name));
                }
                _ => {}
            }
        }
        // The cache has no order of its own.
        read.policies.sort_by(|a, b| a.policy.name.cmp(&b.policy.name));
        Some(read)
    }

    /// Which workloads the objects of a store name, by the id of the execution.
    pub fn workload_refs(&self, namespace: &str, store: &str, id_type: IdType) -> Vec<(String, String)> {
        let executions = self.executions.state();
        let readable = executions.iter().filter_map(|guarded| guarded.0.as_ref().ok());
        let own = readable.filter(|execution| belongs(execution, namespace, store));
        own.filter_map(|execution| workloads::named(execution, id_type)).collect()
    }

    /// Whether objects of this namespace are refused that may name workloads: what the table says of their executions may be old.
    pub fn hides_workloads(&self, namespace: &str) -> bool {
        self.executions.forgets_in(namespace) || !self.unreadable_executions(namespace).is_empty()
    }

    /// Another store whose open session is on the same table and whose name comes first. Only needed where the
    /// database has no record of who looks after the table.
    pub fn rival(&self, store: &ObjectRef<Guarded<ExecutionStore>>, identity: &str) -> Option<Claimant> {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let name = |key: &ObjectRef<_>| (key.namespace.clone().unwrap_or_default(), key.name.clone());
        let same = |handle: &Handle| handle.session().is_some_and(|session| session.identity == identity);
        let (namespace, name) =
            handles.iter().filter(|(_, handle)| same(handle)).map(|(key, _)| name(key)).min()?;
        let own = (store.namespace.clone().unwrap_or_default(), store.name.clone());
        ((namespace.clone(), name.clone()) < own).then(|| Claimant {
            uid: String::new(),
            predecessor: None,
            namespace,
            name,
        })
    }

    /// What has this store looked at soon when it is called.
    pub fn nudger(&self, store: &ExecutionStore) -> impl Fn() + Send + Sync + use<> {
        let target = ObjectRef::new(&store.name_any()).within(&store.namespace().unwrap_or_default());
        let stores = self.nudges.stores.clone();
        move || {
            // Without room others wait already, and the poll comes anyway.
            if stores.clone().try_send(target.clone()).is_err() {
                tracing::debug!(store = %target, "no room for a nudge, the store waits for its turn");
            }
        }
    }

    /// Has a store looked at soon.
    pub fn nudge_store(&self, namespace: &str, store: &str) {
        if self.nudges.stores.clone().try_send(ObjectRef::new(store).within(namespace)).is_err() {
            tracing::debug!(store, "no room for a nudge, the store waits for its turn");
        }
    }

    /// Has the policies of a store looked at soon.
    pub fn nudge_policies(&self, namespace: &str, store: &str) {
        for guarded in self.policies.state() {
            let Ok(policy) = &guarded.0 else { continue };
            let target = ObjectRef::new(&policy.name_any()).within(namespace);
            if is_of(policy, namespace, store) && self.nudges.policies.clone().try_send(target).is_err() {
                tracing::debug!(store, "no room for more nudges, the others wait for their turn");
                return;
            }
        }
    }

    /// The `JobExecution` objects of a store, as last seen; `None` while not all have been.
    pub fn executions(&self, namespace: &str, store: &str) -> Option<Vec<Arc<Guarded<JobExecution>>>> {
        if !self.executions.seen_in(namespace) {
            return None;
        }
        let of = |guarded: &Arc<Guarded<JobExecution>>| {
            guarded.0.as_ref().is_ok_and(|execution| belongs(execution, namespace, store))
        };
        Some(self.executions.state().into_iter().filter(of).collect())
    }

    /// The stores that `JobExecution` objects name, and the namespaces with objects that cannot be read.
    pub fn execution_keys(&self) -> HashSet<Key> {
        let key = |guarded: Arc<Guarded<JobExecution>>| match &guarded.0 {
            Ok(execution) => Key::of(execution),
            Err(invalid) => Key::unreadable(invalid.metadata.namespace.as_ref()),
        };
        self.executions.state().into_iter().map(key).collect()
    }

    /// The `JobExecution` objects of a namespace that cannot be used.
    pub fn unreadable_executions(&self, namespace: &str) -> Vec<Refused> {
        let refused = |guarded: Arc<Guarded<JobExecution>>| {
            let refused = guarded.0.as_ref().err()?;
            (refused.metadata.namespace.as_deref() == Some(namespace)).then(|| refused.clone())
        };
        self.executions.state().into_iter().filter_map(refused).collect()
    }

    /// Whether the `JobExecution` objects of a namespace use up its budget.
    pub fn executions_are_over_budget(&self, namespace: &str) -> bool {
        self.executions.refuses_in(namespace)
    }

    /// What the caches take.
    pub(super) fn caches(&self) -> Vec<CacheNow> {
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

/// The pause before the next try after `failures` in a row: doubling, at most a minute, spread by up to a quarter so
/// that many stores of one broken server do not come back in step.
pub fn backoff(failures: u32) -> Duration {
    backoff_between(BACKOFF_FIRST, BACKOFF_CAP, failures)
}

/// The same from `first` on, and at most `cap`.
pub(super) fn backoff_between(first: Duration, cap: Duration, failures: u32) -> Duration {
    let pause = first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(cap);
    let spread = uuid::Uuid::new_v4().as_bytes()[0];
    pause + pause.mul_f64(f64::from(spread) / 1_024.0)
}

/// Whether version `a` of an object is newer than `b`. Versions that are no numbers cannot be compared, as with an API
/// server that is not Kubernetes' own: then whatever differs is taken for older.
pub fn newer(a: Option<&String>, b: Option<&String>) -> bool {
    let number = |version: Option<&String>| version.and_then(|version| version.parse::<u64>().ok());
    matches!((number(a), number(b)), (Some(a), Some(b)) if a > b)
}

/// The time from `now` until `then`, both on the database's clock; zero if it has passed.
pub fn until(now: chrono::DateTime<chrono::Utc>, then: chrono::DateTime<chrono::Utc>) -> Duration {
    (then - now).max(TimeDelta::zero()).to_std().unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_a_minute() {
        for (failures, seconds) in [(1, 1.0), (2, 2.0), (5, 16.0), (7, 60.0), (4_000_000_000, 60.0)] {
            let pause = backoff(failures).as_secs_f64();
            assert!((seconds..=seconds * 1.25).contains(&pause), "{failures}: {pause}");
        }
    }
}
