//! The stores that this replica manages: each has a worker from its first reconcile until it is gone or changes hands.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::worker::Worker;
use crate::boundary::{Place, caught};
use crate::session::context::{Context, StoreRef};

/// The store controller.
pub struct StoreController {
    /// The state that all controllers share.
    pub context: Arc<Context>,
    workers: Mutex<HashMap<StoreRef, Arc<Worker>>>,
}

impl StoreController {
    /// Returns a controller without any worker.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, workers: Mutex::default() }
    }

    /// The worker of a store, created at the first call.
    pub(super) fn worker(&self, store: &StoreRef) -> Arc<Worker> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let worker = || Arc::new(Worker::new(self.context.handle(store)));
        workers.entry(store.clone()).or_insert_with(worker).clone()
    }

    /// The worker of a store, if there is one.
    pub(super) fn known_worker(&self, store: &StoreRef) -> Option<Arc<Worker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).get(store).cloned()
    }

    /// Releases the stores that no longer exist, or that this operator no longer selects.
    pub(super) fn prune(&self) {
        self.context.prune_tallies();
        for (store, worker) in self.remove(|store| self.context.stores().get(store).is_none()) {
            tracing::info!(%store, "the store is gone or is no longer for this operator: its claim is released, its session closed");
            tokio::spawn(async move { caught(Place::Store, worker.release()).await });
        }
    }

    /// Transfers the stores that another replica now owns.
    pub(super) fn transfer(&self) {
        for (store, worker) in self.remove(|store| !self.context.owns_key(store)) {
            tracing::info!(%store, "another replica manages the store now");
            let namespace = store.namespace.as_deref().unwrap_or_default();
            self.context.queue.enqueue_executions(namespace, &store.name);
            self.context.publishers.spawn(async move { caught(Place::Store, worker.transfer()).await });
        }
    }

    /// Transfers the stores that another replica now owns, and enqueues the stores of this one.
    pub fn rebalance(&self) {
        self.transfer();
        self.context.enqueue_all();
    }

    /// Removes the workers of the stores for which `is_lost` is true, with their handles.
    fn remove(&self, is_lost: impl Fn(&StoreRef) -> bool) -> Vec<(StoreRef, Arc<Worker>)> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let lost: Vec<(StoreRef, Arc<Worker>)> = workers.extract_if(|store, _| is_lost(store)).collect();
        for (store, _) in &lost {
            self.context.remove_handle(store);
        }
        lost
    }
}
