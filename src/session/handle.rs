//! The shared handle of a store that this replica manages: its session, and the results of its last reconcile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::api::ExecutionStoreStatus;
use crate::api::store::{Connection, ObjectsStatus};
use crate::metrics::StoreCounters;
use crate::session::credentials::Credentials;
use crate::session::rules::EffectiveRules;
use crate::session::session::Session;

/// The shared handle of a store.
#[derive(Default)]
pub struct StoreHandle {
    session: RwLock<Option<Arc<Session>>>,
    reconciled: AtomicBool,
    /// The counters for what was done to the store.
    pub counters: Arc<StoreCounters>,
    /// True if the table has reported a change since the last reconcile.
    changed: Arc<AtomicBool>,
    /// True if new counts were requested.
    counts_requested: AtomicBool,
    /// The time when its counts were last requested.
    pub asked: tokio::sync::Mutex<Option<Instant>>,
    /// The status that the last reconcile led to, even if it is not written to Kubernetes yet.
    latest: watch::Sender<Option<Arc<ExecutionStoreStatus>>>,
    /// The content of the Secrets, and when it was read.
    credentials: Mutex<Option<(Instant, Arc<Credentials>)>>,
    governed: Mutex<Option<Governed>>,
    sync_status: Mutex<Option<SyncStatus>>,
}

/// The number of running executions that each object governs, by the object's source.
#[derive(Clone, Debug)]
pub struct Governed {
    /// The rules in effect when they were counted.
    pub effective_rules: Arc<EffectiveRules>,
    /// The counts.
    pub counts: Arc<BTreeMap<String, i64>>,
}

/// The state of a store's `JobExecution` objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncStatus {
    /// The counts.
    pub status: ObjectsStatus,
    /// The reason and the message if objects are out of sync.
    pub trouble: Option<(&'static str, String)>,
}

impl StoreHandle {
    /// Returns a handle without a session, which counts in `counters`.
    pub fn counting(counters: Arc<StoreCounters>) -> Self {
        Self { counters, ..Self::default() }
    }

    /// The open session, if there is one.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.session.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The content of the Secrets that `connection` names, as last read.
    pub(crate) fn credentials(&self, connection: &Connection) -> Option<Arc<Credentials>> {
        let last = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|(_, credentials)| credentials.clone()).filter(|last| last.are_of(connection))
    }

    /// The time since the Secrets were read.
    pub(crate) fn credentials_age(&self) -> Option<Duration> {
        let last = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|(at, _)| at.elapsed())
    }

    /// Caches the content of the Secrets; `None`: it cannot be used.
    pub(crate) fn cache_credentials(&self, credentials: Option<Arc<Credentials>>) {
        *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) =
            credentials.map(|credentials| (Instant::now(), credentials));
    }

    /// The number of running executions that each object governs, as last counted.
    pub fn governed(&self) -> Option<Governed> {
        self.governed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces that count.
    pub(crate) fn keep_governed(&self, governed: Option<Governed>) {
        *self.governed.lock().unwrap_or_else(PoisonError::into_inner) = governed;
    }

    /// A receiver of the status that each reconcile leads to. The one in Kubernetes may be up to a minute older.
    pub fn latest(&self) -> watch::Receiver<Option<Arc<ExecutionStoreStatus>>> {
        self.latest.subscribe()
    }

    /// Forgets everything that belongs to an earlier object with the store's name.
    pub(crate) fn forget_object(&self) {
        self.cache_credentials(None);
        self.latest.send_replace(None);
    }

    /// Publishes a status to the subscribers of [`Self::latest`].
    pub(crate) fn publish_status(&self, status: ExecutionStoreStatus) {
        self.latest.send_replace(Some(Arc::new(status)));
    }

    /// Records that the table has changed, so that the next reconcile counts again.
    pub fn note_change(&self) {
        self.changed.store(true, Ordering::Release);
    }

    /// Returns a function that does the same and holds no reference to the handle.
    pub(crate) fn change_noter(&self) -> impl Fn() + Send + Sync + use<> {
        let changed = self.changed.clone();
        move || changed.store(true, Ordering::Release)
    }

    /// Returns whether the table has changed since the last call.
    pub(crate) fn take_change(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }

    /// Makes the next reconcile count, although no change is known.
    pub fn request_counts(&self) {
        self.counts_requested.store(true, Ordering::Release);
    }

    /// Returns whether counts were requested since the last call.
    pub(crate) fn take_counts_request(&self) -> bool {
        self.counts_requested.swap(false, Ordering::AcqRel)
    }

    /// The state of its `JobExecution` objects, if that is known.
    pub fn sync_status(&self) -> Option<SyncStatus> {
        self.sync_status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces that state. Returns whether it has changed.
    pub(crate) fn keep_sync_status(&self, sync_status: SyncStatus) -> bool {
        let mut kept = self.sync_status.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = kept.as_ref() != Some(&sync_status);
        *kept = Some(sync_status);
        differs
    }

    /// Records that a reconcile has ended, with or without success.
    pub(crate) fn mark_reconciled(&self) {
        self.reconciled.store(true, Ordering::Release);
    }

    /// Reports whether the store was reconciled since the operator started.
    pub fn is_reconciled(&self) -> bool {
        self.reconciled.load(Ordering::Acquire)
    }

    /// Replaces the session and returns the previous one.
    pub(crate) fn replace_session(&self, session: Option<Arc<Session>>) -> Option<Arc<Session>> {
        std::mem::replace(&mut *self.session.write().unwrap_or_else(PoisonError::into_inner), session)
    }

    /// Closes the session, and its connections if no other store shares them.
    pub async fn close(&self) {
        if let Some(session) = self.replace_session(None) {
            close(session).await;
        }
    }

    /// Drops the session, and closes it after `finished`. `renew`: its connections are unusable. The next ones are new,
    /// also for the stores that share them: the server or the password may have changed.
    pub(crate) fn drop_session(&self, renew: bool, finished: impl Future<Output = ()> + Send + 'static) {
        let Some(session) = self.replace_session(None) else { return };
        if renew {
            session.database.renew();
        }
        tokio::spawn(async move {
            finished.await;
            close(session).await;
        });
    }
}

/// Closes the connections of a session, and first the one that listens, if nobody else uses the session.
async fn close(session: Arc<Session>) {
    let database = session.database.clone();
    drop(session);
    database.close().await;
}
