//! Figures for somebody who asks: not older than a few seconds, however seldom the store is polled, and however often
//! they are asked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::time::timeout;

use super::app::App;
use super::stores::{Door, Other, Store};
use crate::api::ExecutionStoreStatus;

/// How old figures may become while somebody asks for them.
const AGE: Duration = Duration::from_millis(4500);

/// How long an answer waits for newer ones. Where counting takes longer, as in a table with millions of running rows, or
/// the database does not answer, the last ones are told.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long answers wait for those of a store that another replica looks after, which may have to be opened first, once
/// somebody takes them.
const OPENING: Duration = Duration::from_secs(2);

/// With more stores asked for at once, all are told as of their last poll.
const MANY: usize = 10;

impl App {
    /// These stores, with figures that are not old.
    pub(super) async fn fresh(&self, stores: Vec<Store>) -> Vec<Store> {
        if stores.len() > MANY {
            return stores;
        }
        join_all(stores.into_iter().map(|store| self.freshened(store))).await
    }

    /// This store likewise.
    pub(super) async fn freshened(&self, store: Store) -> Store {
        let handle = match &store.door {
            Door::Own(handle) => handle.as_ref().filter(|handle| handle.session().is_some()),
            Door::Other(other) => {
                let status = status_of(other).await;
                return Store { status: status.or(store.status), ..store };
            }
        };
        let Some(handle) = handle else { return store };
        // Held while they are taken, so that all who ask meanwhile get them.
        let mut asked = handle.asked.lock().await;
        if asked.is_none_or(|at| at.elapsed() >= AGE) {
            let taken = |status: &Option<Arc<ExecutionStoreStatus>>| {
                status.as_ref().and_then(|status| status.metrics.as_ref()?.timestamp.clone())
            };
            // Before the wait, which ends early where the client goes.
            *asked = Some(Instant::now());
            let mut latest = handle.latest();
            let before = taken(&latest.borrow_and_update());
            handle.want_figures();
            self.context.nudge_store(&store.name.namespace, &store.name.name);
            // What does not come in time is not waited for.
            drop(timeout(PATIENCE, latest.wait_for(|status| taken(status) != before)).await);
        }
        drop(asked);
        self.store(&store.name).unwrap_or(store)
    }
}

/// The status of a store that another replica looks after with figures that were taken here, if they come in time.
async fn status_of(other: &Other) -> Option<Arc<ExecutionStoreStatus>> {
    let object = other.object.0.as_ref().ok()?;
    other.reader.status(&other.context, object, AGE, OPENING).await.map(Arc::new)
}
