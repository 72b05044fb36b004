//! The place between looking at a store and telling Kubernetes of it: the latest look wins, so it never grows, and
//! nobody waits at it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::ResourceExt as _;
use tokio::sync::Notify;
use uuid::Uuid;

use super::enforce::Swept;
use super::look::Seen;
use crate::api::ExecutionStore;

/// A look that Kubernetes is to be told of.
pub(super) struct Untold {
    /// The store as it was then.
    pub(super) store: ExecutionStore,
    /// What was seen.
    pub(super) seen: Seen,
    /// Whether a sweep may have to be announced.
    pub(super) announce: bool,
    /// The sweeps that have ended since.
    pub(super) closed: Vec<Uuid>,
    /// What was failed and is recorded nowhere else.
    pub(super) unrecorded: Option<Unrecorded>,
}

/// Executions that were failed where nothing is recorded, for an Event.
pub(super) struct Unrecorded {
    /// The sweep, or the last of them.
    pub(super) sweep: Uuid,
    /// How many.
    pub(super) failed: u64,
    /// The first few.
    pub(super) first: Vec<String>,
}

impl Untold {
    pub(super) fn new(store: ExecutionStore, mut seen: Seen) -> Self {
        let unrecorded = seen.sweep.as_ref().filter(|swept| swept.unrecorded > 0).map(unrecorded);
        let closed = std::mem::take(&mut seen.closed);
        Self { announce: seen.worth_telling() || !closed.is_empty(), closed, unrecorded, store, seen }
    }

    /// Takes over what `older` would have told only once.
    fn instead_of(mut self, mut older: Self) -> Self {
        if self.store.uid() == older.store.uid() {
            self.closed.append(&mut older.closed);
            self.announce |= older.announce;
            self.unrecorded = Unrecorded::sum(older.unrecorded, self.unrecorded);
            self.seen.sweep = self.seen.sweep.or(older.seen.sweep);
            self.seen.resumed = self.seen.resumed.or(older.seen.resumed);
        }
        self
    }
}

fn unrecorded(swept: &Swept) -> Unrecorded {
    Unrecorded {
        sweep: swept.sweep.id,
        failed: swept.unrecorded,
        first: swept.first.iter().map(ToString::to_string).collect(),
    }
}

impl Unrecorded {
    /// Both as one.
    pub(super) fn sum(older: Option<Self>, newer: Option<Self>) -> Option<Self> {
        match (older, newer) {
            (Some(older), Some(newer)) => {
                let mut first = older.first;
                first.extend(newer.first);
                first.truncate(usize::from(super::tell::SAMPLE));
                Some(Self { sweep: newer.sweep, failed: older.failed + newer.failed, first })
            }
            (older, newer) => newer.or(older),
        }
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Slot {
    state: Mutex<State>,
    put: Notify,
}

#[derive(Default)]
struct State {
    pending: Option<Box<Untold>>,
    /// Whether somebody is at it who will take what is pending.
    busy: bool,
    closed: bool,
}

impl Slot {
    /// Puts a look in place of the one that is pending. Returns whether somebody has to be sent to take it.
    pub(super) fn put(&self, untold: Untold) -> bool {
        let mut state = self.state();
        if state.closed {
            return false;
        }
        let untold = match state.pending.take() {
            Some(older) => untold.instead_of(*older),
            None => untold,
        };
        state.pending = Some(Box::new(untold));
        self.put.notify_one();
        !std::mem::replace(&mut state.busy, true)
    }

    /// Takes the look that is pending. Whoever is told that there is none must go.
    pub(super) fn take(&self) -> Option<Untold> {
        let mut state = self.state();
        let pending = state.pending.take();
        state.busy = pending.is_some();
        pending.map(|pending| *pending)
    }

    /// Waits for another look.
    pub(super) async fn changed(&self) {
        self.put.notified().await;
    }

    /// Gives back what could not be told; a newer look is to be told instead.
    pub(super) fn give_back(&self, untold: Untold) {
        let mut state = self.state();
        if !state.closed {
            state.put_back(untold);
        }
    }

    /// Gives back what need not be told now, and lets the next look send somebody for it. Returns whether to go: a newer look
    /// may have come meanwhile, which counts on whoever is at it.
    pub(super) fn rest(&self, untold: Untold) -> bool {
        let mut state = self.state();
        let newer = state.pending.is_some();
        if !state.closed {
            state.busy = newer;
            state.put_back(untold);
        }
        !newer
    }

    /// The store is gone: there is nobody to tell.
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
    /// What is pending already is newer.
    fn put_back(&mut self, untold: Untold) {
        let untold = match self.pending.take() {
            Some(newer) => newer.instead_of(untold),
            None => untold,
        };
        self.pending = Some(Box::new(untold));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::secret::SecretError;
    use crate::controllers::session::NotReady;

    fn look(announce: bool) -> Untold {
        let store: ExecutionStore = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "jobs", "uid": "one"}, "spec": {"connection": {"secretRef": {"name": "db"}}},
        }))
        .unwrap();
        let seen = Seen::new(Err(NotReady::Secret(SecretError::NotFound("db".to_owned()))), None, None);
        Untold { announce, ..Untold::new(store, seen) }
    }

    #[test]
    fn one_is_sent_and_tells_until_nothing_is_pending() {
        let slot = Slot::default();
        assert!(slot.put(look(false)));
        assert!(!slot.put(look(false)), "somebody is at it");
        assert!(slot.take().is_some());
        assert!(!slot.put(look(false)));
        assert!(slot.take().is_some() && slot.take().is_none());
        assert!(slot.put(look(false)), "whoever was at it has gone");
    }

    #[test]
    fn who_rests_is_followed_by_another_and_nothing_is_forgotten() {
        let slot = Slot::default();
        slot.put(look(true));
        let untold = slot.take().unwrap();
        assert!(slot.rest(untold), "nothing newer is pending");
        assert!(slot.put(look(false)), "the next look sends somebody");
        let untold = slot.take().unwrap();
        assert!(untold.announce, "what was given back is part of it");
        assert!(!slot.put(look(false)));
        assert!(!slot.rest(untold), "a newer look counts on whoever is at it");
        assert!(slot.take().is_some_and(|untold| untold.announce));
    }
}
