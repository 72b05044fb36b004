//! The state that all handlers share.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::task::TaskTracker;

use super::auth::Authorizer;
use super::problem::Problem;
use super::stores::StoreName;
use crate::session::Context;

/// The state that all handlers share.
pub(super) struct App {
    /// The stores that the operator manages.
    pub(super) context: Arc<Context>,
    /// Authenticates and authorizes callers.
    pub(super) authorizer: Authorizer,
    /// Work that continues after its client has disconnected.
    pub(super) tasks: TaskTracker,
    /// The stores with a running clean-up.
    cleaning: Arc<Mutex<HashSet<StoreName>>>,
}

impl App {
    pub(super) fn new(context: Arc<Context>, authorizer: Authorizer) -> Self {
        Self { context, authorizer, tasks: TaskTracker::new(), cleaning: Arc::default() }
    }

    /// Locks a store for a clean-up until the lock is dropped.
    ///
    /// Fails with [`Problem::CleanupUnderWay`] if a clean-up of the store is already running.
    pub(super) fn lock_cleanup(&self, store: &StoreName) -> Result<CleanupLock, Problem> {
        let mut cleaning = self.cleaning.lock().unwrap_or_else(PoisonError::into_inner);
        if !cleaning.insert(store.clone()) {
            return Err(Problem::CleanupUnderWay(store.to_string()));
        }
        Ok(CleanupLock { store: store.clone(), cleaning: self.cleaning.clone() })
    }
}

/// The lock of one store, see [`App::lock_cleanup`].
pub(super) struct CleanupLock {
    store: StoreName,
    cleaning: Arc<Mutex<HashSet<StoreName>>>,
}

impl Drop for CleanupLock {
    fn drop(&mut self) {
        self.cleaning.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.store);
    }
}
