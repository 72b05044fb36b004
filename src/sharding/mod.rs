//! Shares stores between the replicas of one installation. Each replica holds a Lease of its own (`lease_holder`,
//! `lease`) and watches those of the others (`peers`). From the names of the live ones each replica computes which stores
//! are its own (`owner`).
//!
//! The Leases only avoid duplicate work. The statements that change rows make sure that duplicate work does no harm, as
//! when a replica that was thought dead wakes up.

mod error;
mod lease;
mod lease_holder;
mod options;
mod owner;
mod peers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use error::LeaseError;
use lease_holder::{Failure, LeaseHolder};
pub use options::Options;
use peers::Peers;

/// A Lease that was not renewed for this many times its duration is deleted.
const ABANDONED: u32 = 6;

/// The time for which a replica that knew of no other goes on while the API server does not answer: no other replica
/// would do its work, and Kubernetes replaces a Pod only five minutes after its node has fallen silent.
const ALONE: Duration = Duration::from_mins(4);

/// The number of renewals after which Leases are listed even if the watch reports nothing.
const LIST_EVERY: u32 = 5;

/// The label value that identifies the namespaces and stores that a replica manages: replicas of one installation differ
/// during an upgrade, and a replica must not be assigned a store that it does not watch.
pub fn scope(what: &str) -> String {
    Sha256::digest(what).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The live replicas, as this one sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct View {
    /// True if this replica holds its Lease.
    held: bool,
    members: Arc<BTreeSet<String>>,
}

/// The share of this replica in the stores.
pub struct Sharding {
    /// The name of this replica's Lease; `None`: it is the only replica, and owns every store.
    name: Option<String>,
    view: watch::Sender<View>,
}

impl Sharding {
    /// Returns the share of a replica with these options, which owns nothing until [`run`] has joined the others. Without
    /// options it owns everything.
    pub(super) fn new(options: Option<&Options>) -> Self {
        Self { name: options.map(Options::lease_name), view: watch::Sender::default() }
    }

    /// Reports whether this replica owns the store of this name.
    pub fn owns(&self, namespace: &str, store: &str) -> bool {
        let Some(name) = &self.name else { return true };
        let view = self.view.borrow();
        view.held && owner::owner(&view.members, namespace, store) == Some(name)
    }

    /// Reports whether this replica may work: it holds its Lease, or needs none.
    pub fn holds(&self) -> bool {
        self.name.is_none() || self.view.borrow().held
    }

    /// The number of live replicas, as far as this one knows.
    pub fn members(&self) -> usize {
        if self.name.is_none() { 1 } else { self.view.borrow().members.len() }
    }

    /// A receiver for changes of the live replicas; it receives none if this is the only replica.
    pub(super) fn changes(&self) -> watch::Receiver<impl Sized + use<>> {
        self.view.subscribe()
    }
}

/// Holds a Lease for this replica until `leave` is cancelled, and keeps `sharding` up to date. It begins once this
/// replica is `ready` to work, since the others leave stores to it from then on. An error means that it must not go on.
pub(super) async fn run(
    sharding: Arc<Sharding>,
    client: Client,
    options: Options,
    ready: impl Future<Output = ()>,
    leave: CancellationToken,
) -> Result<(), LeaseError> {
    tokio::select! {
        () = ready => {}
        () = leave.cancelled() => return Ok(()),
    }
    let mut work = Work {
        api: Api::namespaced(client.clone(), &options.namespace),
        lease_holder: LeaseHolder::new(client, options.clone()),
        peers: Peers::of(&options.scope),
        options,
        sharding,
        alone: false,
    };
    if !work.join(&leave).await? {
        return Ok(());
    }
    let outcome = work.stay(&leave).await;
    work.sharding.view.send_replace(View::default());
    if outcome.is_ok() {
        work.lease_holder.release().await;
    }
    outcome
}

struct Work {
    api: Api<Lease>,
    lease_holder: LeaseHolder,
    options: Options,
    peers: Peers,
    sharding: Arc<Sharding>,
    /// True if there was no other replica when the Lease was last renewed, and none has been seen since.
    alone: bool,
}

impl Work {
    /// Takes the Lease and lists the others, however long that takes. Returns whether it did before `leave` was
    /// cancelled.
    async fn join(&mut self, leave: &CancellationToken) -> Result<bool, LeaseError> {
        loop {
            // The others first: as soon as it holds its Lease, they leave stores to this one.
            let joined = async {
                let others = self.lease_holder.list().await?;
                self.lease_holder.renew().await?;
                Ok(others)
            };
            match joined.await {
                Ok(leases) => {
                    self.peers.see_all(&leases, Instant::now());
                    self.refresh_peers();
                    tracing::info!(lease = self.options.lease_name(), "holds its Lease");
                    self.publish();
                    return Ok(true);
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error)) => tracing::warn!(%error, "cannot take the Lease yet"),
            }
            tokio::select! {
                () = tokio::time::sleep(self.options.retry_period()) => {}
                () = leave.cancelled() => {
                    self.lease_holder.release().await;
                    return Ok(false);
                }
            }
        }
    }

    /// Renews the Lease and watches the others.
    async fn stay(&mut self, leave: &CancellationToken) -> Result<(), LeaseError> {
        let config = watcher::Config::default().labels(&self.options.selector());
        let mut events = std::pin::pin!(watcher(self.api.clone(), config).default_backoff());
        let mut renew_at = Instant::now() + self.options.retry_period();
        let mut renewals = 0_u32;
        let mut watched = false;
        loop {
            let mut members = self.publish();
            members.remove(&self.options.lease_name());
            // The absence of others proves nothing while the watch delivers nothing.
            self.alone &= members.is_empty();
            let end = self.peers.next_end(&members).unwrap_or(renew_at).max(Instant::now());
            tokio::select! {
                () = leave.cancelled() => return Ok(()),
                Some(event) = events.next() => {
                    watched = event.is_ok();
                    if self.heard(event) {
                        renew_at = Instant::now();
                    }
                }
                () = tokio::time::sleep_until(renew_at.min(end).into()) => {}
            }
            if Instant::now() >= renew_at {
                renew_at = self.renew().await?;
                renewals = renewals.wrapping_add(1);
                self.clean_up(&members).await;
                if !watched || renewals.is_multiple_of(LIST_EVERY) {
                    self.list().await;
                }
            }
            // No replica is given up because of a watch that may have fallen silent.
            if self.peers.silent(&members, self.options.retry_period() * 2, Instant::now()) {
                self.list().await;
            }
        }
    }

    /// Renews the Lease, and returns when to renew it next. An error means that it could not be renewed for too long.
    async fn renew(&mut self) -> Result<Instant, LeaseError> {
        let next = Instant::now() + self.options.retry_period();
        match self.lease_holder.renew().await {
            Ok(()) => {
                self.refresh_peers();
                Ok(next)
            }
            Err(Failure::Final(error)) => Err(error),
            Err(Failure::Passing(error)) => {
                // If the API server does not answer, the other Leases cannot be renewed either, as far as is known.
                let unanswered = error.code().is_none_or(|code| code >= 500);
                let span = if self.alone && unanswered { ALONE } else { self.options.renew_deadline() };
                match self.lease_holder.lost_after(span) {
                    Some(lost) if Instant::now() < lost => {
                        tracing::warn!(%error, "the Lease could not be renewed, it is tried again");
                        Ok(next.min(lost))
                    }
                    _ => Err(self.lease_holder.lost(span, &error)),
                }
            }
        }
    }

    /// Records whether there is any other replica, while that can be known.
    fn refresh_peers(&mut self) {
        let own = self.options.lease_name();
        self.alone = self.peers.live(Instant::now()).iter().all(|name| *name == own);
    }

    async fn list(&mut self) {
        match self.lease_holder.list().await {
            Ok(leases) => self.peers.see_all(&leases, Instant::now()),
            Err(failure) => tracing::info!(%failure, "the Leases of other replicas could not be listed"),
        }
    }

    /// Handles an event of the watch. Returns whether somebody changed this replica's Lease.
    fn heard(&mut self, event: watcher::Result<watcher::Event<Lease>>) -> bool {
        match event {
            Ok(watcher::Event::Apply(lease) | watcher::Event::InitApply(lease)) => {
                let disturbed = self.lease_holder.was_modified(&lease);
                self.peers.see(&lease, Instant::now());
                disturbed
            }
            Ok(watcher::Event::Delete(lease)) => {
                self.peers.gone(&lease.name_any());
                lease.name_any() == self.options.lease_name()
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => false,
            Err(error) => {
                tracing::info!(%error, "the Leases of other replicas cannot be watched, they are listed instead");
                false
            }
        }
    }

    /// Deletes an abandoned Lease. The first of the live replicas does it for all.
    async fn clean_up(&mut self, others: &BTreeSet<String>) {
        if others.first().is_some_and(|first| *first < self.options.lease_name()) {
            return;
        }
        let own = self.options.lease_name();
        let old = self.peers.abandoned(self.options.duration * ABANDONED, Instant::now());
        // One at a time, so that slow deletions do not delay a renewal.
        if let Some((name, version)) = old.into_iter().find(|(name, _)| *name != own) {
            self.lease_holder.delete_expired(&name, version).await;
        }
    }

    /// Publishes the live replicas, including this one, and returns their names.
    fn publish(&self) -> BTreeSet<String> {
        let mut members = self.peers.live(Instant::now());
        members.insert(self.options.lease_name());
        let view = View { held: true, members: Arc::new(members.clone()) };
        self.sharding.view.send_if_modified(|last| {
            let changed = *last != view;
            if changed {
                tracing::info!(members = members.len(), names = ?members, "the replicas that are alive");
                *last = view;
            }
            changed
        });
        members
    }
}
