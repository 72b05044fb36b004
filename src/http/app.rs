//! What the handlers share.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::task::TaskTracker;

use super::auth::Gate;
use super::problem::Problem;
use super::stores::StoreName;
use crate::controllers::Context;

/// What the handlers share.
pub(super) struct App {
    /// The stores that the operator looks after.
    pub(super) context: Arc<Context>,
    /// Who may.
    pub(super) gate: Gate,
    /// What goes on when its client has gone.
    pub(super) tasks: TaskTracker,
    /// The stores that are being cleaned up.
    cleaning: Arc<Mutex<HashSet<StoreName>>>,
}

impl App {
    pub(super) fn new(context: Arc<Context>, gate: Gate) -> Self {
        Self { context, gate, tasks: TaskTracker::new(), cleaning: Arc::default() }
    }

    /// The turn to clean up a store, until it is dropped.
    pub(super) fn turn(&self, store: &StoreName) -> Result<Turn, Problem> {
        let mut cleaning = self.cleaning.lock().unwrap_or_else(PoisonError::into_inner);
        if !cleaning.insert(store.clone()) {
            return Err(Problem::CleanupUnderWay(store.to_string()));
        }
        Ok(Turn { store: store.clone(), cleaning: self.cleaning.clone() })
    }
}

/// See [`App::turn`].
pub(super) struct Turn {
    store: StoreName,
    cleaning: Arc<Mutex<HashSet<StoreName>>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.cleaning.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.store);
    }
}
