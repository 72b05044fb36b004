//! Notifications that a table has changed: only ever a hint, since they are lost across reconnects and poolers. One
//! connection listens for all tables of a database.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::error::line;
use super::extras::CHANNEL;
use super::mapping::quote;

/// However often a table changes, that is told no oftener than this.
const PACE: Duration = Duration::from_secs(1);

/// A connection that has been silent for so long is asked whether it is still one.
const QUIET: Duration = Duration::from_secs(20);

/// How long it has for its answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The pause before another try to listen.
const RETRY: Duration = Duration::from_secs(10);

/// Who listens on the connection of one login. It is open while anybody does.
#[derive(Debug)]
pub(super) struct Hints {
    options: PgConnectOptions,
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
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self { options, ear: Mutex::default() }
    }

    /// Calls `changed` when the table `relation` has changed, until the listener is dropped.
    pub(super) fn listen(&self, relation: String, changed: impl Fn() + Send + Sync + 'static) -> Listener {
        let mut known = self.ear.lock().unwrap_or_else(PoisonError::into_inner);
        let ear = known.upgrade().unwrap_or_else(|| {
            let tables = Arc::new(Tables::default());
            let task = tokio::spawn(listen(self.options.clone(), tables.clone()));
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
                changed();
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

async fn listen(options: PgConnectOptions, tables: Arc<Tables>) {
    loop {
        let Err(error) = follow(options.clone(), &tables).await;
        tracing::info!(
            error = line(&error.to_string()),
            "cannot listen for changes; they are found at the next poll"
        );
        tokio::time::sleep(RETRY).await;
    }
}

async fn follow(options: PgConnectOptions, tables: &Tables) -> Result<Infallible, sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&pool).await?;
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
