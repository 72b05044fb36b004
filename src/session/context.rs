//! The state that all controllers share: the cluster side, and the open stores.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use kube::runtime::reflector::ObjectRef;

use crate::api::ExecutionStore;
use crate::db::ledger::StoreIdentity;
use crate::kubernetes::guarded::Guarded;
use crate::metrics::StoreCounters;
use crate::runtime::cluster::Cluster;
use crate::session::follower::{FollowerSession, FollowerSessions};
use crate::session::handle::StoreHandle;

/// A reference to a store.
pub type StoreRef = ObjectRef<Guarded<ExecutionStore>>;

/// The state that all controllers share.
pub struct Context {
    /// The cluster side.
    pub cluster: Arc<Cluster>,
    handles: Mutex<HashMap<StoreRef, Arc<StoreHandle>>>,
    readers: FollowerSessions,
    /// The counters for what this process did to each store, whether or not it manages the store at present.
    tallies: Mutex<HashMap<StoreRef, Arc<StoreCounters>>>,
}

impl Deref for Context {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Context {
    /// Returns a context without any open store.
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            cluster,
            handles: Mutex::default(),
            readers: FollowerSessions::default(),
            tallies: Mutex::default(),
        }
    }

    /// The handle of a store, created at the first call.
    pub(crate) fn handle(&self, store: &StoreRef) -> Arc<StoreHandle> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = || Arc::new(StoreHandle::counting(self.counters(store)));
        handles.entry(store.clone()).or_insert_with(handle).clone()
    }

    /// The handle of a store, if this replica has one.
    pub fn known_handle(&self, store: &StoreRef) -> Option<Arc<StoreHandle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).get(store).cloned()
    }

    /// Removes the handle of a store.
    pub(crate) fn remove_handle(&self, store: &StoreRef) {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).remove(store);
    }

    /// The counters of a store, created at the first call.
    pub(crate) fn counters(&self, store: &StoreRef) -> Arc<StoreCounters> {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.entry(store.clone()).or_default().clone()
    }

    /// The counters of a store, if anything was counted.
    pub(crate) fn known_tally(&self, store: &StoreRef) -> Option<Arc<StoreCounters>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner).get(store).cloned()
    }

    /// Drops the counters of stores that no longer exist.
    pub(crate) fn prune_tallies(&self) {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.retain(|key, _| self.stores().get(key).is_some());
    }

    /// The read-only session of a store that another replica manages.
    pub fn reader(&self, store: &StoreRef) -> Arc<FollowerSession> {
        self.readers.of(store, || self.counters(store))
    }

    /// Closes the sessions of other replicas' stores that were not used for a while.
    pub(crate) fn close_idle_readers(&self) {
        self.readers.tidy(|store| self.owns_key(store) || self.stores().get(store).is_none());
    }

    /// Closes every connection, all at the same time.
    pub(crate) async fn close(&self) {
        let mut handles = std::mem::take(&mut *self.handles.lock().unwrap_or_else(PoisonError::into_inner));
        let handles =
            futures::future::join_all(handles.drain().map(|(_, handle)| async move { handle.close().await }));
        tokio::join!(handles, self.readers.close());
    }

    /// Another store whose open session is on the same table and whose name sorts first. Only needed if the database has
    /// no record of which store manages the table.
    pub(crate) fn conflicting_store(&self, store: &StoreRef, identity: &str) -> Option<StoreIdentity> {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let name = |key: &StoreRef| (key.namespace.clone().unwrap_or_default(), key.name.clone());
        let same =
            |handle: &StoreHandle| handle.session().is_some_and(|session| session.identity == identity);
        let (namespace, name) =
            handles.iter().filter(|(_, handle)| same(handle)).map(|(key, _)| name(key)).min()?;
        let own = (store.namespace.clone().unwrap_or_default(), store.name.clone());
        ((namespace.clone(), name.clone()) < own).then(|| StoreIdentity {
            uid: String::new(),
            predecessor: None,
            namespace,
            name,
        })
    }
}
