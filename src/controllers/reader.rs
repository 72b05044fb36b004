//! A store that another replica looks after, as far as this one is asked about it: a session that claims nothing and listens
//! to nothing, opened when somebody asks and closed when nobody has for some time. It goes by what is in force in the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::runtime::reflector::ObjectRef;

use super::Context;
use super::context::Guarded;
use super::in_force::InForce;
use super::session::{Credentials, NotReady, Session};
use super::store::{Figures, with_figures};
use crate::api::{ExecutionStore, ExecutionStoreStatus};
use crate::db::DbError;
use crate::metrics::Tally;

/// How long a session is kept that nobody asks.
const IDLE: Duration = Duration::from_mins(5);

/// How long credentials and catalog are trusted before they are looked at again.
const RECHECK: Duration = Duration::from_mins(1);

/// See the module.
pub struct Reader {
    opened: Mutex<Option<Opened>>,
    /// Held while it is opened or looked at again.
    opening: tokio::sync::Mutex<()>,
    /// The figures last taken, and when that was.
    figures: tokio::sync::Mutex<Option<(Instant, Figures)>>,
    asked: Mutex<Instant>,
    tally: Arc<Tally>,
}

#[derive(Clone)]
struct Opened {
    session: Arc<Session>,
    credentials: Arc<Credentials>,
    checked: Instant,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            opened: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            figures: tokio::sync::Mutex::default(),
            asked: Mutex::new(Instant::now()),
            tally: Arc::default(),
        }
    }
}

impl Reader {
    /// A session, and what is in force; `None`: no replica has looked after the store yet, or it has not seen all wishes.
    pub async fn open(
        &self,
        context: &Context,
        store: &ExecutionStore,
    ) -> Result<(Arc<Session>, Option<Arc<InForce>>), NotReady> {
        *lock(&self.asked) = Instant::now();
        let session = self.session(context, store).await?;
        match session.bring_in_force(context, store, false).await {
            Ok(in_force) => Ok((session, in_force)),
            Err(error) => {
                self.tally.failed(error.reason());
                self.failed(&session, &error);
                Err(error.into())
            }
        }
    }

    async fn session(&self, context: &Context, store: &ExecutionStore) -> Result<Arc<Session>, NotReady> {
        let _opening = self.opening.lock().await;
        let last = lock(&self.opened).clone().filter(|last| last.session.describes(store));
        if let Some(last) = last {
            if last.checked.elapsed() < RECHECK {
                return Ok(last.session);
            }
            let credentials = Credentials::read(context, store).await?;
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
        let credentials = Arc::new(Credentials::read(context, store).await?);
        let session =
            Arc::new(Session::borrow(&context.pools, store, &credentials, self.tally.clone()).await?);
        let opened = Opened { session: session.clone(), credentials, checked: Instant::now() };
        *lock(&self.opened) = Some(opened);
        Ok(session)
    }

    /// The status of the store as Kubernetes has it, with figures that are at most so old; they are taken once for all who ask.
    pub async fn status(
        &self,
        context: &Context,
        store: &ExecutionStore,
        age: Duration,
    ) -> Result<ExecutionStoreStatus, NotReady> {
        let mut figures = self.figures.lock().await;
        let last = figures.as_ref().filter(|(at, _)| at.elapsed() < age).map(|(_, figures)| figures.clone());
        let taken = match last {
            Some(last) => last,
            None => match self.open(context, store).await? {
                (session, Some(in_force)) => {
                    let taken = Figures::now(store, &session, &in_force).await;
                    if !taken.are_taken() {
                        self.forget();
                    }
                    figures.insert((Instant::now(), taken)).1.clone()
                }
                (_, None) => Figures::default(),
            },
        };
        Ok(with_figures(store, &taken))
    }

    /// Has the next one who asks for figures get new ones.
    pub async fn note_change(&self) {
        *self.figures.lock().await = None;
    }

    /// Has the next one who asks open it anew, on new connections if that is what failed. That others use all connections says
    /// nothing of the session.
    pub fn failed(&self, session: &Session, error: &DbError) {
        if error.of_connection() {
            session.database.renew();
        }
        if !matches!(error, DbError::Busy(_)) {
            self.forget();
        }
    }

    /// Has the next one who asks open it anew.
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

/// Those of all stores that were asked about.
#[derive(Default)]
pub(super) struct Readers(Mutex<HashMap<ObjectRef<Guarded<ExecutionStore>>, Arc<Reader>>>);

impl Readers {
    /// That of a store, made when it is first asked for.
    pub(super) fn of(&self, store: &ObjectRef<Guarded<ExecutionStore>>) -> Arc<Reader> {
        lock(&self.0).entry(store.clone()).or_default().clone()
    }

    /// Closes those that nobody has asked for some time, and those of stores that are `ours` now, or gone.
    pub(super) fn tidy(&self, ours: impl Fn(&ObjectRef<Guarded<ExecutionStore>>) -> bool) {
        lock(&self.0).retain(|store, reader| {
            let keep = lock(&reader.asked).elapsed() < IDLE && !ours(store);
            if !keep {
                reader.forget();
            }
            keep
        });
    }

    /// Closes all of them.
    pub(super) async fn close(&self) {
        let readers: Vec<_> = lock(&self.0).drain().map(|(_, reader)| reader).collect();
        futures::future::join_all(readers.iter().map(|reader| reader.close())).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
