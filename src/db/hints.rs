//! Notifications that a table has changed: only ever a hint, since they are lost across reconnects and poolers. One
//! connection listens for all tables of a database.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgListener, PgPool, PgPoolOptions};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::DbError;
use super::extras::CHANNEL;
use super::mapping::quote;
use super::relay::Route;
use crate::boundary::{Place, caught, caught_now};

/// However often a table changes, that is told no oftener than this.
const PACE: Duration = Duration::from_secs(1);

/// A connection that has been silent for so long is asked whether it is still one.
const QUIET: Duration = Duration::from_secs(20);

/// How long it has for its answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The pause before another try to listen.
const RETRY: Duration = Duration::from_secs(10);

/// Who listens on the connection of one login. It is open while anybody does.
pub(super) struct Hints {
    route: Route,
    ear: Mutex<Weak<Ear>>,
}

/// The connection, open until it is dropped.
#[derive(Debug)]
struct Ear {
    tables: Arc<Tables>,
    _task: AbortOnDropHandle<()>,
}

/// Whom to tell of a change, by the table.
#[derive(Debug, Default)]
struct Tables(Mutex<HashMap<String, Vec<Weak<Notify>>>>);

/// Somebody who is told of changes until this is dropped.
#[derive(Debug)]
pub struct Listener {
    _ear: Arc<Ear>,
    _task: AbortOnDropHandle<()>,
}

impl Hints {
    pub(super) fn new(route: Route) -> Self {
        Self { route, ear: Mutex::default() }
    }

    /// Calls `changed` when the table `relation` has changed, until the listener is dropped.
    pub(super) fn listen(&self, relation: String, changed: impl Fn() + Send + Sync + 'static) -> Listener {
        let mut known = self.ear.lock().unwrap_or_else(PoisonError::into_inner);
        let ear = known.upgrade().unwrap_or_else(|| {
            let tables = Arc::new(Tables::default());
            let task = tokio::spawn(listen(self.route.clone(), tables.clone()));
            let ear = Arc::new(Ear { tables, _task: AbortOnDropHandle::new(task) });
            *known = Arc::downgrade(&ear);
            ear
        });
        drop(known);
        let told = Arc::new(Notify::new());
        // What changed before is not told any more.
        told.notify_one();
        ear.tables.add(relation, &told);
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                told.notified().await;
                // Who is told must not end this: it would hear of nothing more.
                let _ = caught_now(Place::Listen, &changed);
                tokio::time::sleep(PACE).await;
            }
        }));
        Listener { _ear: ear, _task: task }
    }
}

impl Tables {
    fn add(&self, relation: String, told: &Arc<Notify>) {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.retain(|_, all| {
            all.retain(|told| told.strong_count() > 0);
            !all.is_empty()
        });
        tables.entry(relation).or_default().push(Arc::downgrade(told));
    }

    fn tell(&self, relation: &str) {
        let tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = tables.get(relation).into_iter().flatten();
        all.filter_map(Weak::upgrade).for_each(|told| told.notify_one());
    }

    fn tell_all(&self) {
        let tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.values().flatten().filter_map(Weak::upgrade).for_each(|told| told.notify_one());
    }
}

async fn listen(route: Route, tables: Arc<Tables>) {
    loop {
        match caught(Place::Listen, follow(&route, &tables)).await {
            Ok(Err(error)) => {
                let error = DbError::from(error);
                tracing::info!(%error, "cannot listen for changes; they are found at the next poll");
            }
            Err(error) => {
                tracing::warn!(%error, "cannot listen for changes; they are found at the next poll");
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The pool of one listener. At the end, a panic included, it is closed: sqlx says `UNLISTEN` on the connection and would then keep it
/// for the next one who asks.
struct Alone(PgPool);

impl Drop for Alone {
    fn drop(&mut self) {
        // Marks it as closed; what is returned only waits for that.
        drop(self.0.close());
    }
}

async fn follow(route: &Route, tables: &Tables) -> Result<Infallible, sqlx::Error> {
    let pool = Alone(PgPoolOptions::new().max_connections(1).connect_lazy_with(route.options().clone()));
    let mut listener = PgListener::connect_with(&pool.0).await?;
    listener.listen(CHANNEL).await?;
    tables.tell_all();
    loop {
        match tokio::time::timeout(QUIET, listener.try_recv()).await {
            Ok(told) => match told? {
                Some(told) => tables.tell(told.payload()),
                // What was told while the connection was lost is lost too, so that counts as a change of every table.
                None => tables.tell_all(),
            },
            // A connection that something on the way has forgotten is silent too.
            Err(_) => ask(&mut listener).await?,
        }
    }
}

/// Listens once more, which changes nothing where somebody hears it.
async fn ask(listener: &mut PgListener) -> Result<(), sqlx::Error> {
    let again =
        sqlx::query(AssertSqlSafe(format!("LISTEN {}", quote(CHANNEL)))).persistent(false).execute(listener);
    tokio::time::timeout(ANSWER, again).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(())
}
