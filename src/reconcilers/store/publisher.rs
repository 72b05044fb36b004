//! Stage 6, publish: one publisher a store writes its status and Events, one call after the other and independently of
//! reconciles, so that no deadline waits for Kubernetes.

use std::sync::Arc;

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::mailbox::{Mailbox, StatusUpdate};
use super::publish::publish;
use super::published::PublishedState;
use super::schedule::REVALIDATE_AFTER;
use crate::api::ExecutionStore;
use crate::boundary::{Place, caught};
use crate::kubernetes::backoff::backoff;
use crate::kubernetes::secret::SecretError;
use crate::runtime::cluster::Cluster;
use crate::session::credentials::Credentials;
use crate::session::handle::StoreHandle;

/// Publishes the status of one store.
pub(super) struct Publisher {
    handle: Arc<StoreHandle>,
    pub(super) mailbox: Mailbox,
    /// Locked while it publishes.
    pub(super) published: tokio::sync::Mutex<PublishedState>,
}

impl Publisher {
    pub(super) fn new(handle: Arc<StoreHandle>) -> Self {
        Self { handle, mailbox: Mailbox::default(), published: tokio::sync::Mutex::default() }
    }

    /// Publishes an update, after the one being published.
    pub(super) fn push(self: &Arc<Self>, cluster: &Arc<Cluster>, update: StatusUpdate) {
        if self.mailbox.push(update) {
            let (publisher, cluster) = (self.clone(), cluster.clone());
            let tasks = cluster.publishers.clone();
            tasks.spawn(async move { publisher.run(&cluster).await });
        }
    }

    /// Publishes until nothing is pending. After a panic it goes on: otherwise no other publisher would be started.
    async fn run(&self, cluster: &Cluster) {
        let mut panics = 0;
        while caught(Place::Report, Box::pin(self.publish_all(cluster))).await.is_err() {
            // The written status is read again, and the database is searched for sweeps that may not be announced.
            let mut published = self.published.lock().await;
            let uid = std::mem::take(&mut published.uid);
            *published = PublishedState { uid, unannounced: true, ..PublishedState::default() };
            drop(published);
            panics += 1;
            tokio::select! {
                () = tokio::time::sleep(backoff(panics)) => {}
                () = cluster.stop.cancelled() => return,
            }
        }
    }

    async fn publish_all(&self, cluster: &Cluster) {
        let mut published = self.published.lock().await;
        let mut failures = 0;
        while let Some(mut update) = self.mailbox.pop() {
            let uid = update.store.uid().unwrap_or_default();
            if published.uid != uid {
                *published = PublishedState { uid, ..PublishedState::default() };
            }
            let outcome = Box::pin(publish(cluster, &mut update, &mut published)).await;
            self.refresh_credentials(cluster, &update.store).await;
            let pause = match outcome {
                Ok(None) => {
                    failures = 0;
                    continue;
                }
                Ok(Some(pause)) => pause,
                Err(error) => {
                    let store = ObjectRef::from_obj(&update.store);
                    tracing::warn!(%store, %error, "the status of the ExecutionStore could not be written; it is tried again");
                    failures += 1;
                    backoff(failures)
                }
            };
            if !cluster.owns_store(&update.store) {
                // The new owner publishes the rest. If the store comes back, the next reconcile does.
                if self.mailbox.park(update) {
                    return;
                }
                continue;
            }
            self.mailbox.requeue(update);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // A delayed update is published before the end; one that failed is published by the next operator.
                () = cluster.stop.cancelled() => if failures > 0 { return },
                // Another update may hold a change that must not wait.
                () = self.mailbox.changed(), if failures == 0 => {}
            }
        }
    }

    /// Reads the Secrets again if that is due: each minute, and while there is no session, since the password may be the
    /// cause. The next reconcile uses the new content; until it is known, the old content stays in use.
    async fn refresh_credentials(&self, cluster: &Cluster, store: &ExecutionStore) {
        let handle = &self.handle;
        let Some(known) = handle.credentials(&store.spec.connection) else { return };
        let fresh = handle.credentials_age().is_some_and(|age| age < REVALIDATE_AFTER);
        if handle.session().is_some() && fresh {
            return;
        }
        let now = match Credentials::read(&cluster.client, store).await {
            Ok(read) => Some(Arc::new(read)),
            // An API server that is away is no reason to close a connection that works.
            Err(SecretError::Unavailable(..)) => Some(known.clone()),
            Err(_) => None,
        };
        let changed = now.as_ref() != Some(&known);
        handle.cache_credentials(now);
        if changed {
            cluster.enqueue_store(&store.namespace().unwrap_or_default(), &store.name_any());
        }
    }
}
