//! A read-only session for a store that another replica manages. It claims nothing and listens to nothing, is opened on
//! request and closed when idle, and uses the rules in effect in the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::watch;
use tokio::time::timeout_at;

use crate::api::ExecutionStore;
use crate::boundary::{Place, caught};
use crate::db::DbError;
use crate::kubernetes::guarded::Guarded;
use crate::metrics::StoreCounters;
use crate::runtime::cluster::Cluster;
use crate::session::counts::HealthCounts;
use crate::session::credentials::Credentials;
use crate::session::not_ready::NotReady;
use crate::session::rules::EffectiveRules;
use crate::session::session::Session;

/// The time for which an idle session is kept.
const IDLE: Duration = Duration::from_mins(5);

/// The time for which credentials and catalog are trusted before they are checked again.
const RECHECK: Duration = Duration::from_mins(1);

/// The pause before a failed session is opened again.
const REST: Duration = Duration::from_secs(1);

/// A read-only session for a store that another replica manages.
pub struct FollowerSession {
    opened: Mutex<Option<Opened>>,
    /// Held while it is opened or checked; holds the error of the last attempt, if that failed.
    opening: tokio::sync::Mutex<Option<Failure>>,
    counts: Mutex<Taken>,
    asked: Mutex<Instant>,
    counters: Arc<StoreCounters>,
}

/// The reason why it could not be opened, and when that was known.
struct Failure {
    ended: Instant,
    /// The UID and the generation of the object that it was opened for.
    of: (Option<String>, Option<i64>),
    why: NotReady,
}

/// A permit to open the session.
pub struct OpenPermit<'a> {
    asked: Instant,
    last: tokio::sync::MutexGuard<'a, Option<Failure>>,
}

/// The counts last taken, and those being taken.
#[derive(Default)]
struct Taken {
    last: Option<Last>,
    under_way: Option<UnderWay>,
    /// The time when the table was last known to change.
    changed: Option<Instant>,
}

struct Last {
    begun: Instant,
    ended: Instant,
    counts: HealthCounts,
}

#[derive(Clone)]
struct UnderWay {
    begun: Instant,
    /// Closed at the end.
    end: watch::Receiver<()>,
}

#[derive(Clone)]
struct Opened {
    session: Arc<Session>,
    credentials: Arc<Credentials>,
    checked: Instant,
}

impl FollowerSession {
    fn new(counters: Arc<StoreCounters>) -> Self {
        Self {
            opened: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            counts: Mutex::default(),
            asked: Mutex::new(Instant::now()),
            counters,
        }
    }

    /// Waits for a permit to open the session. That takes long while a server does not answer, so callers may give up
    /// waiting.
    pub async fn turn(&self) -> OpenPermit<'_> {
        OpenPermit { asked: Instant::now(), last: self.opening.lock().await }
    }

    /// Opens a session, and returns the rules in effect; `None`: no replica has managed the store yet, or the caches have
    /// not synced.
    pub async fn open(
        &self,
        cluster: &Cluster,
        store: &ExecutionStore,
        turn: OpenPermit<'_>,
    ) -> Result<(Arc<Session>, Option<Arc<EffectiveRules>>), NotReady> {
        *lock(&self.asked) = Instant::now();
        let session = self.session(cluster, store, turn).await?;
        match session.sync_rules(cluster, store, false).await {
            Ok(effective_rules) => Ok((session, effective_rules)),
            Err(error) => {
                self.counters.failed(error.reason());
                self.failed(&session, &error);
                Err(error.into())
            }
        }
    }

    /// Returns the open session, or opens one. One attempt counts for all callers that waited for it: if each made its
    /// own, they would run one after the other, and requests come faster than that.
    async fn session(
        &self,
        cluster: &Cluster,
        store: &ExecutionStore,
        OpenPermit { asked, mut last }: OpenPermit<'_>,
    ) -> Result<Arc<Session>, NotReady> {
        if let Some(failure) = last.as_ref().filter(|failure| failure.counts_for(store, asked)) {
            return Err(failure.why.clone());
        }
        let opened = self.opened(cluster, store).await;
        *last = opened.as_ref().err().map(|why| Failure::new(store, why));
        opened
    }

    async fn opened(&self, cluster: &Cluster, store: &ExecutionStore) -> Result<Arc<Session>, NotReady> {
        let last = lock(&self.opened).clone().filter(|last| last.session.describes(store));
        if let Some(last) = last {
            if last.checked.elapsed() < RECHECK {
                return Ok(last.session);
            }
            let credentials = Credentials::read(&cluster.client, store).await?;
            let holds = match last.session.still_holds(store).await {
                Err(NotReady::Database(busy @ DbError::Busy(_))) => return Err(busy.into()),
                holds => holds.unwrap_or(false),
            };
            if *last.credentials == credentials && holds {
                *lock(&self.opened) = Some(Opened { checked: Instant::now(), ..last.clone() });
                return Ok(last.session);
            }
        }
        self.forget();
        let credentials = Arc::new(Credentials::read(&cluster.client, store).await?);
        let session = Arc::new(
            Session::open_follower(&cluster.pools, store, &credentials, self.counters.clone()).await?,
        );
        let opened = Opened { session: session.clone(), credentials, checked: Instant::now() };
        *lock(&self.opened) = Some(opened);
        Ok(session)
    }

    /// Returns counts that are at most `age` old. They are taken once for all callers, which wait for them until
    /// `patience` after the start; `None`: they are not ready by then.
    pub async fn counts(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        store: &ExecutionStore,
        age: Duration,
        patience: Duration,
    ) -> Option<HealthCounts> {
        let asked = Instant::now();
        let UnderWay { begun, mut end } = {
            let mut counts = lock(&self.counts);
            if let Some(last) = counts.good(age) {
                return Some(last.clone());
            }
            let under_way = counts.under_way().unwrap_or_else(|| self.take(cluster, store));
            counts.under_way.insert(under_way).clone()
        };
        // Nothing is ever sent. Counts that come too late are there for the next caller.
        drop(timeout_at((begun + patience).into(), end.changed()).await);
        let counts = lock(&self.counts);
        let taken = counts.last.as_ref().filter(|last| last.ended >= asked)?;
        Some(taken.counts.clone())
    }

    /// Starts to take the counts, which goes on even if the caller stops waiting.
    fn take(self: &Arc<Self>, cluster: &Arc<Cluster>, store: &ExecutionStore) -> UnderWay {
        let (ended, end) = watch::channel(());
        let (reader, cluster, store) = (self.clone(), cluster.clone(), store.clone());
        let begun = Instant::now();
        tokio::spawn(async move {
            let taken = async {
                let turn = reader.turn().await;
                if let Ok((session, Some(effective_rules))) = reader.open(&cluster, &store, turn).await {
                    let counts = HealthCounts::now(&store, &session, &effective_rules).await;
                    if !counts.are_taken() {
                        reader.forget();
                    }
                    lock(&reader.counts).keep(Last { begun, ended: Instant::now(), counts });
                }
            };
            if caught(Place::Read, Box::pin(taken)).await.is_err() {
                reader.forget();
            }
            drop(ended);
        });
        UnderWay { begun, end }
    }

    /// Makes the next request for counts take new ones.
    pub fn note_change(&self) {
        lock(&self.counts).changed = Some(Instant::now());
    }

    /// Makes the next caller open the session again, on new connections if those failed. An exhausted pool says nothing
    /// about the session.
    pub fn failed(&self, session: &Session, error: &DbError) {
        if error.of_connection() {
            session.database.renew();
        }
        if !matches!(error, DbError::Busy(_)) {
            self.forget();
        }
    }

    /// Makes the next caller open the session again.
    pub fn forget(&self) {
        if let Some(opened) = lock(&self.opened).take() {
            tokio::spawn(async move { opened.session.database.close().await });
        }
    }

    async fn close(&self) {
        let opened = lock(&self.opened).take();
        if let Some(opened) = opened {
            opened.session.database.close().await;
        }
    }
}

impl Failure {
    fn new(store: &ExecutionStore, why: &NotReady) -> Self {
        let of = (store.uid(), store.metadata.generation);
        Self { ended: Instant::now(), of, why: why.clone() }
    }

    /// Reports whether this failure answers a request made at `asked`. A different spec is tried at once.
    fn counts_for(&self, store: &ExecutionStore, asked: Instant) -> bool {
        let same = self.of == (store.uid(), store.metadata.generation);
        same && (self.ended >= asked || self.ended.elapsed() < REST)
    }
}

impl Taken {
    /// The counts last taken, if they are not older than `age`.
    fn good(&self, age: Duration) -> Option<&HealthCounts> {
        let last = self.last.as_ref().filter(|last| self.knows_all(last.begun))?;
        (last.ended.elapsed() < age).then_some(&last.counts)
    }

    fn under_way(&self) -> Option<UnderWay> {
        let goes_on =
            |under_way: &&UnderWay| self.knows_all(under_way.begun) && under_way.end.has_changed().is_ok();
        self.under_way.as_ref().filter(goes_on).cloned()
    }

    /// Reports whether counts started at `begun` include the last known change.
    fn knows_all(&self, begun: Instant) -> bool {
        self.changed.is_none_or(|changed| begun > changed)
    }

    fn keep(&mut self, taken: Last) {
        if self.last.as_ref().is_none_or(|last| last.begun < taken.begun) {
            self.last = Some(taken);
        }
    }
}

/// The sessions of all stores that were requested.
#[derive(Default)]
pub(crate) struct FollowerSessions(Mutex<HashMap<ObjectRef<Guarded<ExecutionStore>>, Arc<FollowerSession>>>);

impl FollowerSessions {
    /// The session of a store, created at the first call.
    pub(crate) fn of(
        &self,
        store: &ObjectRef<Guarded<ExecutionStore>>,
        counters: impl FnOnce() -> Arc<StoreCounters>,
    ) -> Arc<FollowerSession> {
        lock(&self.0)
            .entry(store.clone())
            .or_insert_with(|| Arc::new(FollowerSession::new(counters())))
            .clone()
    }

    /// Closes idle sessions, and those of stores that are `ours` now, or gone.
    pub(crate) fn tidy(&self, ours: impl Fn(&ObjectRef<Guarded<ExecutionStore>>) -> bool) {
        lock(&self.0).retain(|store, reader| {
            let keep = lock(&reader.asked).elapsed() < IDLE && !ours(store);
            if !keep {
                reader.forget();
            }
            keep
        });
    }

    /// Closes all sessions.
    pub(crate) async fn close(&self) {
        let readers: Vec<_> = lock(&self.0).drain().map(|(_, reader)| reader).collect();
        futures::future::join_all(readers.iter().map(|reader| reader.close())).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
