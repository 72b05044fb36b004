//! Deletes old records: a few short statements a minute while old records are left, then none for an hour.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use futures::FutureExt as _;
use tokio_util::task::AbortOnDropHandle;

use crate::boundary::{Panicked, Place as At, caught};
use crate::db::retention::{self, Pruned};
use crate::db::{Ledger, messages};
use crate::session::session::Session;

/// The pause once no old record is left.
const REST: Duration = Duration::from_hours(1);

/// The most statements in one run.
const STATEMENTS: usize = 10;

/// Deletes old records beside everything else, and waits for a permit to read before each statement.
#[derive(Default)]
pub(super) struct RetentionTask {
    place: Place,
    under_way: Option<AbortOnDropHandle<Result<Place, Panicked>>>,
}

/// The position in the records.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// The id of the last record that was examined.
    after: i64,
    /// The time when the end was last reached.
    ended: Option<Instant>,
}

impl RetentionTask {
    /// Continues with records that are older than `keep`, unless the task pauses or still runs.
    pub(super) fn go_on(&mut self, store: String, session: &Arc<Session>, keep: TimeDelta) {
        if let Some(task) = &mut self.under_way {
            let Some(came_to) = task.now_or_never() else { return };
            // After a panic it starts from the beginning, but only after a pause: the same record may cause another
            // panic.
            let rested = Place { after: 0, ended: Some(Instant::now()) };
            self.place = came_to.ok().and_then(Result::ok).unwrap_or(rested);
        }
        let Ledger::Tables { store_id, outbox } = session.ledger else { return };
        self.under_way = None;
        if self.place.ended.is_none_or(|at| at.elapsed() >= REST) {
            let (place, session) = (self.place, session.clone());
            let forgetting = async move {
                if outbox && place.after == 0 {
                    forget_messages(&store, &session, store_id, keep).await;
                }
                place.go_on(store, session, store_id, keep).await
            };
            self.under_way = Some(AbortOnDropHandle::new(tokio::spawn(caught(At::Background, forgetting))));
        }
    }
}

impl Place {
    /// Deletes a few portions of old records, and returns the new position. A failure stops nothing else.
    async fn go_on(self, store: String, session: Arc<Session>, store_id: i64, keep: TimeDelta) -> Self {
        let ended = || Self { after: 0, ended: Some(Instant::now()) };
        let (database, mapping) = (&session.database, &session.mapping);
        let mut after = self.after;
        for _ in 0..STATEMENTS {
            let _reading = session.database.reading().await;
            let pruned = database.within(retention::prune(database, mapping, store_id, keep, after)).await;
            match pruned {
                Ok(Pruned::UpTo(record)) => after = record,
                Ok(Pruned::All) => return ended(),
                Ok(Pruned::Forbidden) => {
                    tracing::info!(
                        store,
                        "old records stay, since this login may not delete from jobexec.events; \
                         have an administrator run `jobexec schema --apply --role` with its name"
                    );
                    return ended();
                }
                Err(error) => {
                    session.counters.failed(error.reason());
                    tracing::info!(store, %error, "old records could not be deleted; it is tried again in a minute");
                    break;
                }
            }
        }
        Self { after, ended: None }
    }
}

/// Deletes messages that have ended. A failure stops nothing else.
async fn forget_messages(store: &str, session: &Session, store_id: i64, keep: TimeDelta) {
    let database = &session.database;
    if let Err(error) = database.within(messages::expire(database, store_id)).await {
        session.counters.failed(error.reason());
        tracing::info!(store, %error, "messages that wait for nobody could not be given up; it is tried again later");
        return;
    }
    for _ in 0..STATEMENTS {
        let _reading = session.database.reading().await;
        match database.within(messages::forget(database, store_id, keep)).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                session.counters.failed(error.reason());
                tracing::info!(store, %error, "old messages could not be deleted; it is tried again later");
                return;
            }
        }
    }
}
