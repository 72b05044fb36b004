//! The worker of one store: its private state, locked while it is reconciled, and the publisher of its status.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;

use super::mailbox::StatusUpdate;
use super::publisher::Publisher;
use super::reconciled::Reconciled;
use super::state::StoreState;
use super::status;
use crate::api::ExecutionStore;
use crate::runtime::cluster::Cluster;
use crate::session::handle::StoreHandle;

/// The time for which the old owner waits for its publisher after a transfer.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(10);

/// The worker of one store.
pub(super) struct Worker {
    pub(super) handle: Arc<StoreHandle>,
    /// Locked while the store is reconciled.
    pub(super) state: tokio::sync::Mutex<StoreState>,
    pub(super) publisher: Arc<Publisher>,
}

impl Worker {
    pub(super) fn new(handle: Arc<StoreHandle>) -> Self {
        let publisher = Arc::new(Publisher::new(handle.clone()));
        Self { handle, state: tokio::sync::Mutex::default(), publisher }
    }

    /// Computes the status from the result of a reconcile, and publishes it. It builds on the last computed status, even
    /// if Kubernetes does not hold that yet.
    pub(super) fn publish(&self, cluster: &Arc<Cluster>, store: &ExecutionStore, mut result: Reconciled) {
        let last = self.handle.latest().borrow().clone();
        let before = last.map_or_else(|| store.status.clone().unwrap_or_default(), Arc::unwrap_or_clone);
        let status = status::compute(store, &before, &result, Utc::now());
        self.handle.publish_status(status.clone());
        self.publisher.push(cluster, StatusUpdate::new(store.clone(), status, &mut result));
    }

    /// Transfers the store to another replica: once the current reconcile has ended and is published, closes the
    /// connections. The claim belongs to the store, and stays.
    pub(super) async fn transfer(&self) {
        let mut state = self.state.lock().await;
        state.notifier.leave().await;
        // The next owner publishes the rest.
        let _published = tokio::time::timeout(HANDOVER_TIMEOUT, self.publisher.published.lock()).await;
        self.handle.close().await;
    }

    /// Releases the claim of a store that is gone or that another operator manages now, then closes the connections.
    pub(super) async fn release(&self) {
        self.publisher.mailbox.close();
        let uid = self.state.lock().await.uid.clone();
        if let Some(session) = self.handle.session()
            && let Err(error) = session.release(&uid).await
        {
            tracing::info!(%error, "the claim of a deleted store could not be released, it expires by itself");
        }
        self.handle.close().await;
    }
}
