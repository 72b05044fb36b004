//! Keeps the counts of stores current while clients request them: at most a few seconds old, whatever the poll
//! interval, and counted once for all clients.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::time::timeout;

use super::app::App;
use super::stores::{RemoteStore, Store, StoreAccess};
use crate::api::ExecutionStoreStatus;
use crate::reconcilers::store::with_counts;

/// The maximum age of counts.
const MAX_AGE: Duration = Duration::from_millis(4500);

/// The maximum wait for new counts. If counting takes longer, as in a table with millions of running rows, or the
/// database does not answer, clients get the previous counts.
const REFRESH_WAIT: Duration = Duration::from_millis(500);

/// The maximum wait for the counts of a store that another replica manages, because this replica may have to connect
/// to it first.
const OPEN_WAIT: Duration = Duration::from_secs(2);

/// If a request is about more stores than this, it gets the counts of their last poll.
const MAX_STORES: usize = 10;

impl App {
    /// Returns the stores with current counts.
    pub(super) async fn with_fresh_counts(&self, stores: Vec<Store>) -> Vec<Store> {
        if stores.len() > MAX_STORES {
            return stores;
        }
        join_all(stores.into_iter().map(|store| self.with_fresh_count(store))).await
    }

    /// Returns the store with current counts.
    pub(super) async fn with_fresh_count(&self, store: Store) -> Store {
        let handle = match &store.access {
            StoreAccess::Local(handle) => handle.as_ref().filter(|handle| handle.session().is_some()),
            StoreAccess::Remote(remote) => {
                let status = status_of(remote).await;
                return Store { status: status.or(store.status), ..store };
            }
        };
        let Some(handle) = handle else { return store };
        // The lock is held while counting, so that concurrent requests get the same counts.
        let mut asked = handle.asked.lock().await;
        if asked.is_none_or(|at| at.elapsed() >= MAX_AGE) {
            let timestamp = |status: &Option<Arc<ExecutionStoreStatus>>| {
                status.as_ref().and_then(|status| status.metrics.as_ref()?.timestamp.clone())
            };
            // Set before the wait, which ends early if the client disconnects.
            *asked = Some(Instant::now());
            let mut latest = handle.latest();
            let before = timestamp(&latest.borrow_and_update());
            handle.request_counts();
            self.context.enqueue_store(&store.name.namespace, &store.name.name);
            // On a timeout, the previous counts are used.
            drop(timeout(REFRESH_WAIT, latest.wait_for(|status| timestamp(status) != before)).await);
        }
        drop(asked);
        self.store(&store.name).unwrap_or(store)
    }
}

/// Returns the status of a store that another replica manages, with counts that this replica took, if they arrive in
/// time.
async fn status_of(remote: &RemoteStore) -> Option<Arc<ExecutionStoreStatus>> {
    let object = remote.object.0.as_ref().ok()?;
    let counts = remote.reader.counts(&remote.context.cluster, object, MAX_AGE, OPEN_WAIT).await?;
    Some(Arc::new(with_counts(object, &counts)))
}
