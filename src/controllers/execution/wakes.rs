//! Which stores' executions are to be looked at. It holds each store once, so it never grows beyond them.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use kube::ResourceExt as _;
use tokio::sync::Notify;

use crate::api::JobExecution;

/// The objects of one store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The store, which need not exist; empty: the objects of the namespace that cannot be read.
    pub store: String,
}

impl Key {
    /// The one that an object belongs to.
    pub fn of(execution: &JobExecution) -> Self {
        Self {
            namespace: execution.namespace().unwrap_or_default(),
            store: execution.spec.store_ref.name.clone(),
        }
    }

    /// That of the objects that cannot be read.
    pub fn unreadable(namespace: Option<&String>) -> Self {
        Self { namespace: namespace.cloned().unwrap_or_default(), store: String::new() }
    }
}

/// See the module.
#[derive(Default)]
pub struct Wakes {
    keys: Mutex<HashSet<Key>>,
    put: Notify,
}

impl Wakes {
    /// Has the objects of a store looked at soon.
    pub fn wake(&self, namespace: &str, store: &str) {
        self.put(Key { namespace: namespace.to_owned(), store: store.to_owned() });
    }

    /// The same.
    pub fn put(&self, key: Key) {
        self.wake_all([key]);
    }

    /// The same for many.
    pub fn wake_all(&self, keys: impl IntoIterator<Item = Key>) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
        self.put.notify_one();
    }

    /// Those that were named since the last call, once there are any.
    pub async fn next(&self) -> HashSet<Key> {
        loop {
            let keys = std::mem::take(&mut *self.keys.lock().unwrap_or_else(PoisonError::into_inner));
            if !keys.is_empty() {
                return keys;
            }
            self.put.notified().await;
        }
    }
}
