//! What is kept in memory for a store between two looks. All of it can be lost: it is learnt again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::adoption::Tried;
use super::breaker::Breaker;
use super::bundle::Bundles;
use super::figures::Counter;
use super::historian::Historian;
use super::notifier::Notifier;
use super::slot::Slot;
use super::tell::Told;
use super::witness::Witness;
use crate::api::ExecutionStoreStatus;
use crate::api::store::Connection;
use crate::controllers::context::backoff;
use crate::controllers::execution::SyncStatus;
use crate::controllers::in_force::InForce;
use crate::controllers::session::{Credentials, Session};
use crate::db::held::Held;
use crate::db::sweep::{Known, Refused};
use crate::metrics::Tally;

/// How long a store that is another replica's now is still told of.
const TELL: Duration = Duration::from_secs(10);

/// What is kept for a store.
#[derive(Default)]
pub struct Handle {
    session: RwLock<Option<Arc<Session>>>,
    looked: AtomicBool,
    /// What was done to it.
    pub tally: Arc<Tally>,
    /// Set when the table says that it has changed.
    pub(super) changed: Arc<AtomicBool>,
    /// Set when somebody asks for figures.
    pub(super) wanted: AtomicBool,
    /// When somebody last asked for its figures.
    pub asked: tokio::sync::Mutex<Option<Instant>>,
    /// What the last look came to, also where Kubernetes has not been told yet.
    latest: watch::Sender<Option<Arc<ExecutionStoreStatus>>>,
    /// What the Secrets held when last read, and when that was.
    credentials: Mutex<Option<(Instant, Arc<Credentials>)>>,
    /// Held while the store is looked at.
    pub(super) memory: tokio::sync::Mutex<Memory>,
    /// What Kubernetes is still to be told.
    pub(super) slot: Slot,
    /// How many running executions each object says something of that counts.
    governed: Mutex<Option<Governed>>,
    /// How its objects stand.
    sync_status: Mutex<Option<SyncStatus>>,
    /// Held while Kubernetes is told.
    pub(super) told: tokio::sync::Mutex<Told>,
}

/// How many running executions each object says something of that counts, by the object.
#[derive(Clone, Debug)]
pub struct Governed {
    /// What was in force when they were counted.
    pub in_force: Arc<InForce>,
    /// The counts.
    pub counts: Arc<BTreeMap<String, i64>>,
}

/// What one look leaves for the next.
#[derive(Default)]
pub(super) struct Memory {
    /// The UID and generation that the session describes, and what it logged in with.
    pub(super) described: Option<(String, Option<i64>, Arc<Credentials>)>,
    /// When the session was last held against the catalog.
    pub(super) checked: Option<Instant>,
    /// Whether a session has recorded what was done.
    pub(super) recorded: bool,
    /// What people want to know of the table; it belongs to the session.
    pub(super) counter: Counter,
    /// How many sweeps in a row left the same stale executions, because others hold them.
    pub(super) held: u32,
    pub(super) refused: RefusedRows,
    /// The stale executions that were passed over for long; `None`: nothing is noted of any.
    pub(super) passed_over: Option<Vec<Held>>,
    /// Whether what an operator before this one noted of them was looked at.
    pub(super) noted: bool,
    pub(super) breaker: Breaker,
    pub(super) historian: Historian,
    pub(super) notifier: Notifier,
    pub(super) witness: Witness,
    /// What was in force at the last look.
    pub(super) in_force: Option<Arc<InForce>>,
    /// The database's time at the last look.
    pub(super) now: Option<DateTime<Utc>>,
    /// Whether the database has been away since the session was opened.
    pub(super) outage: bool,
    /// How sweeps are told together.
    pub(super) bundles: Bundles,
    /// When the last sweep began.
    pub(super) swept: Option<Instant>,
    /// The request that the last sweep answered.
    pub(super) answered: Option<String>,
    /// The request to adopt that was last carried out, or was there before the store was first looked at.
    pub(super) adopted: Option<String>,
    /// The one that was last tried and not carried out.
    pub(super) unadopted: Option<Tried>,
    /// Why the last look failed, and how many in a row did so for that reason.
    pub(super) failure: Option<(&'static str, u32)>,
    /// The UID of the store, and of the one that had its name before.
    pub(super) uid: String,
    pub(super) predecessor: Option<String>,
}

/// The rows that the server does not let the operator fail. They are tried again, but so seldom that looking for them
/// keeps the server busy for at most 5 % of the time.
#[derive(Default)]
pub(super) struct RefusedRows {
    rows: Vec<Refused>,
    until: Option<Instant>,
}

impl RefusedRows {
    /// Those that are known, to be tried again where it is time or `asked` for.
    pub(super) fn known(&self, asked: bool) -> Known {
        let again = asked || self.until.is_none_or(|until| Instant::now() >= until);
        Known { rows: self.rows.clone(), again }
    }

    /// Keeps what a sweep came to, and how long it took.
    pub(super) fn keep(&mut self, rows: &[Refused], again: bool, took: Duration) {
        if again || self.rows.len() < rows.len() {
            self.until = Some(Instant::now() + 20 * took);
        }
        self.rows = rows.to_vec();
    }
}

impl Memory {
    /// The pause after a look that failed: longer each time, but short again for another reason, because then
    /// somebody is at work on it.
    pub(super) fn pause_after(&mut self, reason: &'static str) -> Duration {
        let times = match self.failure {
            Some((last, times)) if last == reason => times.saturating_add(1),
            _ => 1,
        };
        self.failure = Some((reason, times));
        backoff(times)
    }
}

impl Handle {
    /// One that knows nothing yet, and counts what is done there.
    pub fn counting(tally: Arc<Tally>) -> Self {
        Self { tally, ..Self::default() }
    }

    /// The open connection, if there is one.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.session.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the Secrets that `connection` names held when last read.
    pub(super) fn credentials(&self, connection: &Connection) -> Option<Arc<Credentials>> {
        let last = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|(_, credentials)| credentials.clone()).filter(|last| last.are_of(connection))
    }

    /// How long ago that was.
    pub(super) fn credentials_age(&self) -> Option<Duration> {
        let last = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|(at, _)| at.elapsed())
    }

    /// Keeps what the Secrets hold now; `None`: nothing that can be used.
    pub(super) fn keep(&self, credentials: Option<Arc<Credentials>>) {
        *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) =
            credentials.map(|credentials| (Instant::now(), credentials));
    }

    /// How many running executions each object says something of that counts, by the object, as last counted.
    pub fn governed(&self) -> Option<Governed> {
        self.governed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps that.
    pub(super) fn keep_governed(&self, governed: Option<Governed>) {
        *self.governed.lock().unwrap_or_else(PoisonError::into_inner) = governed;
    }

    /// What each look comes to, whether or not Kubernetes has been told of it: the status would be up to a minute older.
    pub fn latest(&self) -> watch::Receiver<Option<Arc<ExecutionStoreStatus>>> {
        self.latest.subscribe()
    }

    /// Keeps that.
    pub(super) fn keep_latest(&self, status: ExecutionStoreStatus) {
        self.latest.send_replace(Some(Arc::new(status)));
    }

    /// Notes that the table has changed, so that the next look counts it anew.
    pub fn note_change(&self) {
        self.changed.store(true, Ordering::Release);
    }

    /// Has the next look take figures, although nothing is known to have changed.
    pub fn want_figures(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    /// How its `JobExecution` objects stand, if that is known.
    pub fn sync_status(&self) -> Option<SyncStatus> {
        self.sync_status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps that. Returns whether it is another than before.
    pub fn keep_sync_status(&self, sync_status: SyncStatus) -> bool {
        let mut kept = self.sync_status.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = kept.as_ref() != Some(&sync_status);
        *kept = Some(sync_status);
        differs
    }

    /// Notes that a look at the store has ended, well or not.
    pub(super) fn looked(&self) {
        self.looked.store(true, Ordering::Release);
    }

    /// Whether the store has been looked at since the operator started.
    pub fn known(&self) -> bool {
        self.looked.load(Ordering::Acquire)
    }

    /// Puts another session in place and returns the one that was there.
    pub(super) fn replace(&self, session: Option<Arc<Session>>) -> Option<Arc<Session>> {
        std::mem::replace(&mut *self.session.write().unwrap_or_else(PoisonError::into_inner), session)
    }

    /// Closes the session, and the connections if no other store shares them.
    pub async fn close(&self) {
        if let Some(session) = self.replace(None) {
            session.database.close().await;
        }
    }

    /// Another replica looks after the store: once a look under way has ended and was told, closes the connections. The claim
    /// is the store's, and stays.
    pub async fn hand_over(&self) {
        let mut memory = self.memory.lock().await;
        memory.notifier.leave().await;
        // What cannot be told now the next replica tells.
        let _told = tokio::time::timeout(TELL, self.told.lock()).await;
        self.close().await;
    }

    /// Closes the session once what is being delivered has been (`left`), so that the next look opens another. `renew`: its
    /// connections are no good any more, the next ones are new, also for the stores that share them: the server may be another
    /// one by then, or the password may have changed.
    pub(super) fn give_up(&self, renew: bool, left: impl Future<Output = ()> + Send + 'static) {
        let Some(session) = self.replace(None) else { return };
        if renew {
            session.database.renew();
        }
        tokio::spawn(async move {
            left.await;
            session.database.close().await;
        });
    }

    /// The store is gone, or is another operator's now: gives up its claim, then closes the connections.
    pub async fn retire(&self) {
        self.slot.close();
        let uid = self.memory.lock().await.uid.clone();
        if let Some(session) = self.session()
            && let Err(error) = session.release(&uid).await
        {
            tracing::info!(%error, "the claim of a store that is gone could not be released, it ends by itself");
        }
        self.close().await;
    }
}
