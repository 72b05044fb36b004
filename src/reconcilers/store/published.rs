//! The published state of a store, and the pending announcements.

use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use uuid::Uuid;

use super::mailbox::Unrecorded;
use crate::api::{ExecutionStore, ExecutionStoreStatus};
use crate::kubernetes::guarded::newer;
use crate::runtime::cluster::Cluster;

/// The published state of a store, and the pending announcements.
#[derive(Default)]
pub(super) struct PublishedState {
    pub(super) uid: String,
    /// The status last written, and the resource version of the object with it.
    pub(super) written: Option<(Option<String>, ExecutionStoreStatus)>,
    /// The time when the status was last written.
    pub(super) wrote: Option<Instant>,
    /// True if a sweep may still have to be announced.
    pub(super) unannounced: bool,
    /// The sweeps that are known to have ended, and since when.
    pub(super) closed: Vec<(Uuid, Instant)>,
    /// The failed executions that are recorded nowhere and are not announced yet.
    pub(super) unrecorded: Option<Unrecorded>,
    /// The number of announcements that failed in a row, and when to try again.
    pub(super) refused: Option<(u32, Instant)>,
}

/// The time for which the end of a sweep is remembered: a batch counts as ended for everyone a minute after its last
/// sweep.
const KNOWN: Duration = Duration::from_mins(2);

impl PublishedState {
    /// Records sweeps that have ended. Old ones are dropped, so that refused Events do not let the list grow.
    pub(super) fn close(&mut self, sweeps: &mut Vec<Uuid>) {
        let now = Instant::now();
        self.closed.retain(|(_, since)| now.duration_since(*since) < KNOWN);
        self.closed.extend(sweeps.drain(..).map(|sweep| (sweep, now)));
    }

    /// The sweeps that are known to have ended.
    pub(super) fn closed(&self) -> Vec<Uuid> {
        self.closed.iter().map(|(sweep, _)| *sweep).collect()
    }

    /// Records that all sweeps were announced.
    pub(super) fn announced(&mut self) {
        self.closed.clear();
    }

    /// The current status of the store: the written one while the cache has not caught up.
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
