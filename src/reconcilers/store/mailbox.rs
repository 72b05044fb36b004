//! The place between reconciling a store and writing its status: the latest update wins, so it never grows and nothing
//! waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt as _;
use tokio::sync::Notify;
use uuid::Uuid;

use super::reconciled::Reconciled;
use super::swept::{SAMPLE, Swept};
use crate::api::{ExecutionStore, ExecutionStoreStatus};
use crate::session::session::Session;

/// A status to write, and sweeps to announce.
pub(super) struct StatusUpdate {
    /// The store as it was reconciled.
    pub(super) store: ExecutionStore,
    pub(super) status: ExecutionStoreStatus,
    /// The session that records which sweeps are not announced yet.
    pub(super) session: Option<Arc<Session>>,
    /// True if there may be such sweeps.
    pub(super) announce: bool,
    /// The sweeps that have ended since the last update.
    pub(super) closed: Vec<Uuid>,
    /// Executions that were failed and are recorded nowhere else.
    pub(super) unrecorded: Option<Unrecorded>,
}

/// Executions that were failed without a record, for an Event.
pub(super) struct Unrecorded {
    /// The id of the sweep, or of the last of them.
    pub(super) sweep: Uuid,
    /// The number of executions.
    pub(super) failed: u64,
    /// The first few executions.
    pub(super) first: Vec<String>,
}

impl StatusUpdate {
    pub(super) fn new(
        store: ExecutionStore,
        status: ExecutionStoreStatus,
        reconciled: &mut Reconciled,
    ) -> Self {
        let closed = std::mem::take(&mut reconciled.closed);
        let swept = reconciled.complete().and_then(|complete| complete.sweep.as_ref());
        Self {
            announce: reconciled.is_news() || !closed.is_empty(),
            unrecorded: swept.filter(|swept| swept.unrecorded > 0).map(Unrecorded::of),
            session: reconciled.session().cloned(),
            closed,
            status,
            store,
        }
    }

    /// Takes over the announcements of `older`. Its status is not needed: this one was computed from it.
    fn coalesce(mut self, mut older: Self) -> Self {
        if self.store.uid() == older.store.uid() {
            self.closed.append(&mut older.closed);
            self.announce |= older.announce;
            self.unrecorded = Unrecorded::sum(older.unrecorded, self.unrecorded);
        }
        self
    }
}

impl Unrecorded {
    fn of(swept: &Swept) -> Self {
        Self {
            sweep: swept.sweep.id,
            failed: swept.unrecorded,
            first: swept.first.iter().map(ToString::to_string).collect(),
        }
    }

    /// The sum of both.
    pub(super) fn sum(older: Option<Self>, newer: Option<Self>) -> Option<Self> {
        match (older, newer) {
            (Some(older), Some(newer)) => {
                let mut first = older.first;
                first.extend(newer.first);
                first.truncate(usize::from(SAMPLE));
                Some(Self { sweep: newer.sweep, failed: older.failed + newer.failed, first })
            }
            (older, newer) => newer.or(older),
        }
    }
}

/// Holds at most one update.
#[derive(Default)]
pub(super) struct Mailbox {
    state: Mutex<State>,
    pushed: Notify,
}

#[derive(Default)]
struct State {
    pending: Option<Box<StatusUpdate>>,
    /// True while a publisher runs that will take the pending update.
    busy: bool,
    closed: bool,
}

impl Mailbox {
    /// Replaces the pending update. Returns whether a publisher must be started.
    pub(super) fn push(&self, update: StatusUpdate) -> bool {
        let mut state = self.state();
        if state.closed {
            return false;
        }
        let update = match state.pending.take() {
            Some(older) => update.coalesce(*older),
            None => update,
        };
        state.pending = Some(Box::new(update));
        self.pushed.notify_one();
        !std::mem::replace(&mut state.busy, true)
    }

    /// Takes the pending update. A publisher that gets `None` must end.
    pub(super) fn pop(&self) -> Option<StatusUpdate> {
        let mut state = self.state();
        let pending = state.pending.take();
        state.busy = pending.is_some();
        pending.map(|pending| *pending)
    }

    /// Waits for another update.
    pub(super) async fn changed(&self) {
        self.pushed.notified().await;
    }

    /// Puts back an update that could not be published; a newer one wins.
    pub(super) fn requeue(&self, update: StatusUpdate) {
        let mut state = self.state();
        if !state.closed {
            state.put_back(update);
        }
    }

    /// Puts back an update that need not be published now, and makes the next push start a publisher. Returns whether this
    /// publisher must end: it must not if a newer update has come meanwhile, which relies on it.
    pub(super) fn park(&self, update: StatusUpdate) -> bool {
        let mut state = self.state();
        let newer = state.pending.is_some();
        if !state.closed {
            state.busy = newer;
            state.put_back(update);
        }
        !newer
    }

    /// Closes the mailbox of a deleted store, which has no status to write.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.pending = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps the update, or merges it into a pending one, which is newer.
    fn put_back(&mut self, update: StatusUpdate) {
        let update = match self.pending.take() {
            Some(newer) => newer.coalesce(update),
            None => update,
        };
        self.pending = Some(Box::new(update));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(announce: bool) -> StatusUpdate {
        let store: ExecutionStore = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "jobs", "uid": "one"}, "spec": {"connection": {"secretRef": {"name": "db"}}},
        }))
        .unwrap();
        let status = ExecutionStoreStatus::default();
        StatusUpdate { store, status, session: None, announce, closed: Vec::new(), unrecorded: None }
    }

    #[test]
    fn one_publisher_is_started_and_publishes_until_nothing_is_pending() {
        let mailbox = Mailbox::default();
        assert!(mailbox.push(update(false)));
        assert!(!mailbox.push(update(false)), "a publisher runs");
        assert!(mailbox.pop().is_some());
        assert!(!mailbox.push(update(false)));
        assert!(mailbox.pop().is_some() && mailbox.pop().is_none());
        assert!(mailbox.push(update(false)), "the publisher has ended");
    }

    #[test]
    fn a_parked_update_is_published_by_the_next_publisher_and_nothing_is_forgotten() {
        let mailbox = Mailbox::default();
        mailbox.push(update(true));
        let parked = mailbox.pop().unwrap();
        assert!(mailbox.park(parked), "nothing newer is pending");
        assert!(mailbox.push(update(false)), "the next update starts a publisher");
        let next = mailbox.pop().unwrap();
        assert!(next.announce, "the parked update is part of it");
        assert!(!mailbox.push(update(false)));
        assert!(!mailbox.park(next), "a newer update counts on this publisher");
        assert!(mailbox.pop().is_some_and(|update| update.announce));
    }
}
