//! Replicas of one installation share the stores between them. Each holds a Lease of its own (`lease_holder`, `lease`) and sees
//! those of the others (`peers`); from the names of the live ones each knows by itself which stores are its own (`owner`).
//!
//! The Leases only keep work from being done twice. That it does no harm if it is, as when a replica that was thought dead
//! awakes, is the work of the statements that change rows.

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

/// A Lease that nobody has renewed for so many times as long as it holds is deleted.
const ABANDONED: u32 = 6;

/// How long a replica that knew of no other goes on while the API server gives no answer: nobody else would do its work, and
/// Kubernetes puts no other Pod in the place of one whose node has fallen silent before five minutes have passed.
const ALONE: Duration = Duration::from_mins(4);

/// So often a list is made although the watch tells nothing, in renewals.
const LIST_EVERY: u32 = 5;

/// The label value that stands for the namespaces and stores that a replica looks after: replicas of one installation differ
/// while it is brought up to date, and what one does not see it must not be left.
pub fn scope(what: &str) -> String {
    Sha256::digest(what).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Who is alive, as this replica sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct View {
    /// Whether this replica holds its Lease.
    held: bool,
    members: Arc<BTreeSet<String>>,
}

/// See the module.
pub struct Sharding {
    /// The name of this replica's Lease; `None`: it is alone, and has everything.
    name: Option<String>,
    view: watch::Sender<View>,
}

impl Sharding {
    /// That of a replica with these options, which has nothing until [`run`] has found its place; without any it is alone.
    pub(super) fn new(options: Option<&Options>) -> Self {
        Self { name: options.map(Options::lease_name), view: watch::Sender::default() }
    }

    /// Whether the store of this name is this replica's.
    pub fn owns(&self, namespace: &str, store: &str) -> bool {
        let Some(name) = &self.name else { return true };
        let view = self.view.borrow();
        view.held && owner::owner(&view.members, namespace, store) == Some(name)
    }

    /// Whether this replica may work: it holds its Lease, or needs none.
    pub fn holds(&self) -> bool {
        self.name.is_none() || self.view.borrow().held
    }

    /// How many replicas are alive, as far as this one knows.
    pub fn members(&self) -> usize {
        if self.name.is_none() { 1 } else { self.view.borrow().members.len() }
    }

    /// Returns after the next change of who is alive, again and again; never where this replica is alone.
    pub(super) fn changes(&self) -> watch::Receiver<impl Sized + use<>> {
        self.view.subscribe()
    }
}

/// Holds a Lease for this replica until it is to `leave`, and keeps `sharding` up to date. It begins once this replica is
/// `ready` to work, since the others leave stores to it from then on. An error means that it must not go on.
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
    /// Whether there was no other replica when the Lease was last renewed, and none has been seen since.
    alone: bool,
}

impl Work {
    /// Takes the Lease and sees the others, however long that takes. Returns whether it did before it was to leave.
    async fn join(&mut self, leave: &CancellationToken) -> Result<bool, LeaseError> {
        loop {
            // The others first: from the moment that it holds its Lease they leave stores to this one.
            let joined = async {
                let others = self.lease_holder.list().await?;
                self.lease_holder.renew().await?;
                Ok(others)
            };
            match joined.await {
                Ok(leases) => {
                    self.peers.see_all(&leases, Instant::now());
                    self.look_around();
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
            // That others are seen no more says nothing while nothing is seen.
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
            // Nobody is given up on the word of a watch that may have fallen silent.
            if self.peers.silent(&members, self.options.retry_period() * 2, Instant::now()) {
                self.list().await;
            }
        }
    }

    /// Returns when to renew next. An error: it could not be renewed for too long.
    async fn renew(&mut self) -> Result<Instant, LeaseError> {
        let next = Instant::now() + self.options.retry_period();
        match self.lease_holder.renew().await {
            Ok(()) => {
                self.look_around();
                Ok(next)
            }
            Err(Failure::Final(error)) => Err(error),
            Err(Failure::Passing(error)) => {
                // Without an answer nobody else's Lease is renewed either, as far as can be known.
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

    /// Notes whether there is any other replica, while that can be known.
    fn look_around(&mut self) {
        let own = self.options.lease_name();
        self.alone = self.peers.live(Instant::now()).iter().all(|name| *name == own);
    }

    async fn list(&mut self) {
        match self.lease_holder.list().await {
            Ok(leases) => self.peers.see_all(&leases, Instant::now()),
            Err(failure) => tracing::info!(%failure, "the Leases of other replicas could not be listed"),
        }
    }

    /// Takes in an event of the watch. Returns whether something was done to the own Lease.
    fn heard(&mut self, event: watcher::Result<watcher::Event<Lease>>) -> bool {
        match event {
            Ok(watcher::Event::Apply(lease) | watcher::Event::InitApply(lease)) => {
                let disturbed = self.lease_holder.is_disturbed(&lease);
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

    /// One of the live replicas does it for all.
    async fn clean_up(&mut self, others: &BTreeSet<String>) {
        if others.first().is_some_and(|first| *first < self.options.lease_name()) {
            return;
        }
        let own = self.options.lease_name();
        let old = self.peers.abandoned(self.options.duration * ABANDONED, Instant::now());
        // One at a time, so that a server that deletes slowly keeps no renewal waiting.
        if let Some((name, version)) = old.into_iter().find(|(name, _)| *name != own) {
            self.lease_holder.bury(&name, version).await;
        }
    }

    /// Says who is alive, this replica included, and returns the names.
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
