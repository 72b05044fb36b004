//! The current state of everything that the operator manages, for readers outside the reconcilers.

use std::sync::Arc;

use chrono::Utc;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::{policy, store};
use crate::api::{ExecutionPolicy, ExecutionPolicyStatus, ExecutionStore, ExecutionStoreStatus};
use crate::kubernetes::guarded::Guarded;
use crate::metrics::{Done, PolicyNow, Pool, ReplicaNow, Snapshot, StoreSnapshot};
use crate::session::context::Context;
use crate::session::handle::StoreHandle;

impl Context {
    /// The status that the last reconcile of a store led to; before the first one, the status in Kubernetes. A store that
    /// cannot be decoded is not reconciled, whatever is known about it.
    pub fn status_of(
        &self,
        store: &Guarded<ExecutionStore>,
        handle: Option<&Arc<StoreHandle>>,
    ) -> Option<Arc<ExecutionStoreStatus>> {
        match &store.0 {
            Ok(store) => {
                let latest = handle.and_then(|handle| handle.latest().borrow().clone());
                latest.or_else(|| store.status.clone().map(Arc::new))
            }
            Err(invalid) => {
                let conditions = store::unusable(invalid);
                Some(Arc::new(ExecutionStoreStatus { conditions, ..ExecutionStoreStatus::default() }))
            }
        }
    }

    /// Takes a snapshot. Other replicas report the stores that they manage, except for what this replica did to them.
    pub fn snapshot(&self) -> Snapshot {
        let namespace = |object: Option<String>| object.unwrap_or_default();
        let owned = |store: &Arc<Guarded<ExecutionStore>>| {
            self.owns(&namespace(store.namespace()), &store.name_any())
        };
        let (stores, others): (Vec<_>, Vec<_>) = self.all_stores().into_iter().partition(owned);
        let mut policies = self.own_policies();
        policies.retain(|policy| self.owns(&namespace(policy.namespace()), policy::store_of(policy)));
        Snapshot {
            replica: ReplicaNow {
                lease_held: self.sharding.holds(),
                members: self.sharding.members(),
                stores_owned: stores.len(),
            },
            stores: stores.iter().map(|store| self.store_now(store)).collect(),
            foreign_stores: others.iter().filter_map(|store| self.done_to(store)).collect(),
            policies: policies.iter().map(|policy| self.policy_now(policy)).collect(),
            caches: self.caches(),
        }
    }

    fn store_now(&self, store: &Guarded<ExecutionStore>) -> StoreSnapshot {
        let handle = self.known_handle(&ObjectRef::from_obj(store));
        let session = handle.as_ref().and_then(|handle| handle.session());
        StoreSnapshot {
            namespace: store.namespace().unwrap_or_default(),
            name: store.name_any(),
            status: self.status_of(store, handle.as_ref()),
            sweep_interval: store.0.as_ref().ok().map(|store| store.spec.sweep_interval.get().as_secs_f64()),
            pool: session.map(|session| {
                let (open, idle, limit, stores) = session.database.pool_usage();
                Pool { open, idle, limit, stores }
            }),
            counters: self.counters(&ObjectRef::from_obj(store)),
        }
    }

    fn done_to(&self, store: &Guarded<ExecutionStore>) -> Option<Done> {
        let counters = self.known_tally(&ObjectRef::from_obj(store))?;
        let (namespace, name) = (store.namespace().unwrap_or_default(), store.name_any());
        Some(Done { namespace, name, counters })
    }

    /// All policies, except for those whose stores other operators manage.
    fn own_policies(&self) -> Vec<Arc<Guarded<ExecutionPolicy>>> {
        let mut all = self.all_policies();
        all.retain(|guarded| {
            let policy = guarded.0.as_ref().ok();
            policy.is_none_or(|policy| {
                let namespace = policy.namespace().unwrap_or_default();
                !self.is_for_others(&namespace, &policy.spec.store_ref.name)
            })
        });
        all
    }

    fn policy_now(&self, policy: &Guarded<ExecutionPolicy>) -> PolicyNow {
        let (store, status, ratios) = match &policy.0 {
            Ok(policy) => (policy.spec.store_ref.name.clone(), policy.status.clone(), self.ratios(policy)),
            // The store it is for cannot be decoded either.
            Err(invalid) => {
                let generation = invalid.metadata.generation;
                let conditions = policy::refused(&invalid.cause, generation, Utc::now());
                (
                    String::new(),
                    Some(ExecutionPolicyStatus { conditions, ..ExecutionPolicyStatus::default() }),
                    None,
                )
            }
        };
        let (namespace, name) = (policy.namespace().unwrap_or_default(), policy.name_any());
        PolicyNow { namespace, name, store, status, ratios }
    }

    /// The smallest and the largest ratio between a policy's computed timeouts and its configured one.
    fn ratios(&self, policy: &ExecutionPolicy) -> Option<(f64, f64)> {
        let (namespace, store) = (policy.namespace()?, &policy.spec.store_ref.name);
        policy.spec.dynamic_timeout.as_ref()?;
        let spec = self.store(&namespace, store)?;
        let configured = match (&policy.spec.timeout, &spec.0) {
            (Some(own), _) => own,
            (None, Ok(store)) => &store.spec.default_timeout,
            (None, Err(_)) => return None,
        };
        // There is no ratio to a timeout of `Never`.
        let configured = configured.to_chrono().length()?;
        let session = self.known_handle(&ObjectRef::new(store).within(&namespace))?.session()?;
        let history = session.history();
        let ratios = history.get(&policy.uid()?)?.computed.iter();
        let ratios = ratios.map(|computed| computed.timeout / configured.as_seconds_f64());
        ratios.fold(None, |range, ratio| {
            let (least, most) = range.unwrap_or((ratio, ratio));
            Some((ratio.min(least), ratio.max(most)))
        })
    }
}
