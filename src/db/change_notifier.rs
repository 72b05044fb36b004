//! Notifications that a table has changed. They are only hints, because they are lost across reconnects and poolers. One connection
//! listens for all tables of a database.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgListener, PgPool, PgPoolOptions};
use tokio::sync::Notify;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::DbError;
use super::extras::CHANNEL;
use super::mapping::quote;
use super::relay::Route;
use crate::boundary::{Place, caught, caught_now};

/// The minimum interval between notifications of a table, however often it changes.
const PACE: Duration = Duration::from_secs(1);

/// The time of silence after which a connection is checked.
const QUIET: Duration = Duration::from_secs(20);

/// The maximum time for a server to answer, and for a connection to close.
const ANSWER: Duration = Duration::from_secs(5);

/// The minimum interval between two attempts to listen.
const RETRY: Duration = Duration::from_secs(10);

/// The listeners on the connection of one login. The connection is open while there are any.
pub(super) struct ChangeNotifier {
    route: Route,
    ear: Mutex<Weak<ListenConnection>>,
    /// The tasks that listen, and those that close their connections.
    tasks: TaskTracker,
}

/// The connection, which is open until it is dropped.
#[derive(Debug)]
struct ListenConnection {
    tables: Arc<Tables>,
    _task: AbortOnDropHandle<()>,
}

/// The subscribers of each table.
#[derive(Debug, Default)]
struct Tables(Mutex<HashMap<String, Vec<Weak<Notify>>>>);

/// A subscription to changes, which ends when it is dropped.
#[derive(Debug)]
pub struct Listener {
    _ear: Arc<ListenConnection>,
    _task: AbortOnDropHandle<()>,
}

impl ChangeNotifier {
    pub(super) fn new(route: Route) -> Self {
        Self { route, ear: Mutex::default(), tasks: TaskTracker::new() }
    }

    /// Waits until the connection is closed, but not for long. It is closed when the last listener is dropped.
    pub(super) async fn closed(&self) {
        self.tasks.close();
        // Somebody still listens, or the server does not answer.
        let _ = tokio::time::timeout(ANSWER, self.tasks.wait()).await;
    }

    /// Calls `changed` when the table `relation` has changed, until the listener is dropped.
    pub(super) fn listen(&self, relation: String, changed: impl Fn() + Send + Sync + 'static) -> Listener {
        let mut known = self.ear.lock().unwrap_or_else(PoisonError::into_inner);
        let ear = known.upgrade().unwrap_or_else(|| {
            let tables = Arc::new(Tables::default());
            let task = self.tasks.spawn(listen(self.route.clone(), tables.clone(), self.tasks.clone()));
            let ear = Arc::new(ListenConnection { tables, _task: AbortOnDropHandle::new(task) });
            *known = Arc::downgrade(&ear);
            ear
        });
        drop(known);
        let told = Arc::new(Notify::new());
        // Changes from before are not reported any more, so report one now.
        told.notify_one();
        ear.tables.add(relation, &told);
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                told.notified().await;
                // A panic in the callback must not end this task, because it would miss everything after that.
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

async fn listen(route: Route, tables: Arc<Tables>, tasks: TaskTracker) {
    loop {
        let begun = Instant::now();
        // On the heap, because a boundary keeps more than the work itself.
        match Box::pin(caught(Place::Listen, follow(&route, &tables, &tasks))).await {
            Ok(Err(error)) => {
                let error = DbError::from(error);
                tracing::info!(%error, "cannot listen for changes; they are found at the next poll");
            }
            Err(error) => {
                tracing::warn!(%error, "cannot listen for changes; they are found at the next poll");
            }
        }
        // A connection that lasted is replaced at once.
        tokio::time::sleep(RETRY.saturating_sub(begun.elapsed())).await;
    }
}

/// The pool of one listener, with a route of its own. It is closed when it is dropped, even by a panic: sqlx sends `UNLISTEN` on
/// the connection, waits for the answer without a limit, and would then keep the connection for the next caller.
struct Alone {
    pool: PgPool,
    route: Route,
    tasks: TaskTracker,
}

impl Alone {
    fn new(route: &Route, tasks: &TaskTracker) -> io::Result<Self> {
        let route = route.again()?;
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(route.options().clone());
        Ok(Self { pool, route, tasks: tasks.clone() })
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Marks the pool as closed at once; the task waits for the connection to close.
        drop(self.pool.close());
        let (pool, route) = (self.pool.clone(), self.route.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.tasks.spawn_on(
                async move {
                    if tokio::time::timeout(ANSWER, pool.close()).await.is_ok() {
                        route.closed().await;
                    } else {
                        tracing::debug!("a connection that listened did not end in time, and was cut");
                    }
                },
                &runtime,
            );
        }
    }
}

async fn follow(route: &Route, tables: &Tables, tasks: &TaskTracker) -> Result<Infallible, sqlx::Error> {
    let alone = Alone::new(route, tasks)?;
    let mut listener = PgListener::connect_with(&alone.pool).await?;
    // It would reconnect immediately, as long as a server accepts logins and then hangs up.
    listener.eager_reconnect(false);
    answered(listener.listen(CHANNEL)).await?;
    tables.tell_all();
    loop {
        match tokio::time::timeout(QUIET, listener.try_recv()).await {
            Ok(told) => match told? {
                Some(told) => tables.tell(told.payload()),
                // Notifications are lost until the next connection listens, so that connection counts as a change of every table.
                None => return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()),
            },
            // A connection that a device on the network path has dropped is silent too.
            Err(_) => ask(&mut listener).await?,
        }
    }
}

/// Sends `LISTEN` again, which has no effect if the connection works.
async fn ask(listener: &mut PgListener) -> Result<(), sqlx::Error> {
    let again =
        sqlx::query(AssertSqlSafe(format!("LISTEN {}", quote(CHANNEL)))).persistent(false).execute(listener);
    answered(again).await?;
    Ok(())
}

async fn answered<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(ANSWER, work).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
