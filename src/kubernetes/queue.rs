//! The work queue: the objects to reconcile soon. It holds each object once, so it never grows beyond them and loses
//! none.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt as _, stream};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;

use crate::api::{ExecutionPolicy, ExecutionStore, JobExecution};
use crate::kubernetes::guarded::Guarded;

/// The `JobExecution` objects of one store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoreKey {
    /// The namespace.
    pub namespace: String,
    /// The store, which need not exist; empty: the objects of the namespace that cannot be decoded.
    pub store: String,
}

impl StoreKey {
    /// The key of the store that an object belongs to.
    pub fn of(execution: &JobExecution) -> Self {
        Self {
            namespace: execution.namespace().unwrap_or_default(),
            store: execution.spec.store_ref.name.clone(),
        }
    }

    /// The key of a namespace's objects that cannot be decoded.
    pub fn undecodable(namespace: Option<&String>) -> Self {
        Self { namespace: namespace.cloned().unwrap_or_default(), store: String::new() }
    }
}

/// The queues of all controllers.
#[derive(Default)]
pub struct WorkQueue {
    /// Stores to reconcile.
    pub stores: Arc<Pending<ObjectRef<Guarded<ExecutionStore>>>>,
    /// Policies to reconcile.
    pub policies: Arc<Pending<ObjectRef<Guarded<ExecutionPolicy>>>>,
    /// Stores whose `JobExecution` objects to reconcile.
    pub executions: Pending<StoreKey>,
}

impl WorkQueue {
    /// Enqueues a store.
    pub fn enqueue_store(&self, namespace: &str, store: &str) {
        self.stores.add(ObjectRef::new(store).within(namespace));
    }

    /// A function that enqueues the store.
    pub fn enqueuer(&self, store: &ExecutionStore) -> impl Fn() + Send + Sync + use<> {
        let target = ObjectRef::new(&store.name_any()).within(&store.namespace().unwrap_or_default());
        let stores = self.stores.clone();
        move || stores.add(target.clone())
    }

    /// Enqueues the `JobExecution` objects of a store.
    pub fn enqueue_executions(&self, namespace: &str, store: &str) {
        self.executions.add(StoreKey { namespace: namespace.to_owned(), store: store.to_owned() });
    }
}

/// The pending keys, each once.
pub struct Pending<K> {
    keys: Mutex<HashSet<K>>,
    added: Notify,
}

impl<K> Default for Pending<K> {
    fn default() -> Self {
        Self { keys: Mutex::default(), added: Notify::new() }
    }
}

impl<K: Eq + Hash> Pending<K> {
    /// Adds one key.
    pub fn add(&self, key: K) {
        self.add_all([key]);
    }

    /// Adds many keys.
    pub fn add_all(&self, keys: impl IntoIterator<Item = K>) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
        self.added.notify_one();
    }

    /// Takes the keys that were added since the last call, once there are any.
    pub async fn take(&self) -> HashSet<K> {
        loop {
            let keys = std::mem::take(&mut *self.keys.lock().unwrap_or_else(PoisonError::into_inner));
            if !keys.is_empty() {
                return keys;
            }
            self.added.notified().await;
        }
    }

    /// Returns the keys as an endless stream.
    pub fn stream(self: Arc<Self>) -> impl Stream<Item = K> + Send
    where
        K: Send + 'static,
    {
        stream::unfold(self, |pending| async move {
            let keys = pending.take().await;
            Some((stream::iter(keys), pending))
        })
        .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_that_was_added_twice_is_taken_once_and_none_is_lost() {
        let pending = Arc::new(Pending::default());
        pending.add_all(["a", "b", "a"]);
        assert_eq!(pending.take().await, HashSet::from(["a", "b"]));
        let mut stream = std::pin::pin!(pending.clone().stream());
        assert!(futures::poll!(stream.next()).is_pending());
        pending.add("c");
        pending.add("c");
        assert_eq!(stream.next().await, Some("c"));
        assert!(futures::poll!(stream.next()).is_pending());
    }
}
