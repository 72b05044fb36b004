//! What was published of a store, and what is still to be announced.

use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use uuid::Uuid;

use super::mailbox::Unrecorded;
use crate::api::{ExecutionStore, ExecutionStoreStatus};
use crate::kubernetes::guarded::newer;
use crate::runtime::cluster::Cluster;

/// What was published of a store, and what is still to be announced.
#[derive(Default)]
pub(super) struct PublishedState {
    pub(super) uid: String,
    /// The status last written, and the version of the object with it.
    pub(super) written: Option<(Option<String>, ExecutionStoreStatus)>,
    /// When that was.
    pub(super) wrote: Option<Instant>,
    /// Whether a sweep may still have to be announced.
    pub(super) unannounced: bool,
    /// Those that are known to have ended, and since when.
    pub(super) closed: Vec<(Uuid, Instant)>,
    /// What was failed, is recorded nowhere, and was not announced yet.
    pub(super) unrecorded: Option<Unrecorded>,
    /// How often in a row an announcement failed, and when to try again.
    pub(super) refused: Option<(u32, Instant)>,
}

/// How long it is of use to know that a sweep has ended: after a minute without a batch everybody takes it for ended.
const KNOWN: Duration = Duration::from_mins(2);

impl PublishedState {
    /// Notes sweeps that have ended. While Events are refused they do not become ever more.
    pub(super) fn close(&mut self, sweeps: &mut Vec<Uuid>) {
        let now = Instant::now();
        self.closed.retain(|(_, since)| now.duration_since(*since) < KNOWN);
        self.closed.extend(sweeps.drain(..).map(|sweep| (sweep, now)));
    }

    /// The sweeps that are known to have ended.
    pub(super) fn closed(&self) -> Vec<Uuid> {
        self.closed.iter().map(|(sweep, _)| *sweep).collect()
    }

    /// All of them were announced.
    pub(super) fn announced(&mut self) {
        self.closed.clear();
    }

    /// The status of the store as it is now: the one that was written, as long as the cache has not caught up.
    pub(super) fn status(&self, cluster: &Cluster, store: &ExecutionStore) -> ExecutionStoreStatus {
        let cached = cluster.store(&store.namespace().unwrap_or_default(), &store.name_any());
        let cached = cached.as_ref().and_then(|guarded| guarded.0.as_ref().ok());
        let latest = cached.filter(|cached| cached.uid() == store.uid()).unwrap_or(store);
        match &self.written {
            Some((version, status)) if newer(version.as_ref(), latest.metadata.resource_version.as_ref()) => {
                status.clone()
            }
            _ => latest.status.clone().unwrap_or_default(),
        }
    }
}
