//! Forgets what was done long ago: a few short statements a minute while there is something to forget, then none for an
//! hour.

use std::time::{Duration, Instant};

use chrono::TimeDelta;

use crate::controllers::session::Session;
use crate::db::Ledger;
use crate::db::retention::{self, Pruned};

/// How long to rest once nothing is left that is old.
const REST: Duration = Duration::from_hours(1);

/// How many statements at a time, at most.
const STATEMENTS: usize = 10;

/// How far it has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pruner {
    /// Up to which record it has looked.
    after: i64,
    /// When it came to the end.
    ended: Option<Instant>,
}

impl Pruner {
    /// Goes on, unless it rests. That something could not be forgotten is no reason to stop anything else.
    pub(super) async fn go_on(self, store: &str, session: &Session, keep: TimeDelta) -> Self {
        let Ledger::Tables { store_id } = session.ledger else { return self };
        if self.ended.is_some_and(|at| at.elapsed() < REST) {
            return self;
        }
        let ended = Self { after: 0, ended: Some(Instant::now()) };
        let (database, mapping) = (&session.database, &session.mapping);
        let mut after = self.after;
        for _ in 0..STATEMENTS {
            let pruned = database.within(retention::prune(database, mapping, store_id, keep, after)).await;
            match pruned {
                Ok(Pruned::UpTo(record)) => after = record,
                Ok(Pruned::All) => return ended,
                Ok(Pruned::Forbidden) => {
                    tracing::info!(
                        store,
                        "old records stay, since this login may not delete from jobexec.events; \
                         have an administrator run `jobexec schema --apply --role` with its name"
                    );
                    return ended;
                }
                Err(error) => {
                    session.tally.failed(error.reason());
                    tracing::info!(store, %error, "old records could not be deleted; it is tried again in a minute");
                    break;
                }
            }
        }
        Self { after, ended: None }
    }
}
