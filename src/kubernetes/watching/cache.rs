//! The cache of all objects of a kind, as far as they have been seen.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use kube::runtime::reflector::{self, ObjectRef};
use tokio::sync::watch;

use crate::kubernetes::guarded::{Cached, Guarded};

/// The memory of the objects of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// An estimate of their memory, in bytes.
    pub bytes: u64,
    /// The number of objects that are refused, for their size or for the budget of their namespace.
    pub refused: usize,
}

/// The refused objects.
#[derive(Default)]
pub(super) struct Refusals {
    pub(super) usage: Usage,
    /// The namespaces that exceed their budget, and whether some of their objects are dropped entirely.
    pub(super) namespaces: HashMap<String, bool>,
}

/// A namespace; `None`: all namespaces in one watch.
pub(super) type Place = Option<String>;

/// The state of the watch of a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SyncState {
    /// True once all its objects have been seen.
    pub(super) seen: bool,
    /// True if the API server refuses to list them.
    pub(super) refused: bool,
}

/// All watched objects of a kind.
#[derive(Clone)]
pub struct Cache<K: Cached> {
    pub(super) objects: reflector::Store<Guarded<K>>,
    pub(super) places: watch::Receiver<BTreeMap<Place, SyncState>>,
    pub(super) refusals: Arc<RwLock<Refusals>>,
}

impl<K: Cached> Cache<K> {
    /// The store that a controller reads.
    pub fn reader(&self) -> reflector::Store<Guarded<K>> {
        self.objects.clone()
    }

    /// The object, as last seen.
    pub fn get(&self, object: &ObjectRef<Guarded<K>>) -> Option<Arc<Guarded<K>>> {
        self.objects.get(object)
    }

    /// Every object, as last seen.
    pub fn state(&self) -> Vec<Arc<Guarded<K>>> {
        self.objects.state()
    }

    /// Reports whether objects of this namespace are refused because they exceed its budget.
    pub fn refuses_in(&self, namespace: &str) -> bool {
        self.refusals().namespaces.contains_key(namespace)
    }

    /// Reports whether this namespace has objects of which not even the name is kept.
    pub fn forgets_in(&self, namespace: &str) -> bool {
        self.refusals().namespaces.get(namespace).is_some_and(|forgets| *forgets)
    }

    /// The memory of the objects, and the number of refused ones.
    pub fn usage(&self) -> Usage {
        self.refusals().usage
    }

    fn refusals(&self) -> RwLockReadGuard<'_, Refusals> {
        self.refusals.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports whether every object of this namespace has been seen.
    pub fn seen_in(&self, namespace: &str) -> bool {
        sight(&self.places.borrow(), namespace).is_some_and(|sight| sight.seen)
    }

    /// Reports whether this namespace is watched and not every object there has been seen.
    pub fn unseen_in(&self, namespace: &str) -> bool {
        sight(&self.places.borrow(), namespace).is_some_and(|sight| !sight.seen)
    }

    /// Waits until every object of this namespace has been seen.
    pub async fn wait_for(&self, namespace: &str) {
        self.wait_until(|places| sight(places, namespace).is_some_and(|sight| sight.seen)).await;
    }

    /// Reports whether every object that the API server lists has been seen.
    pub fn seen(&self) -> bool {
        all_seen(&self.places.borrow())
    }

    /// Waits until every object that the API server lists has been seen.
    pub async fn wait(&self) {
        self.wait_until(all_seen).await;
    }

    /// Waits until the objects of one namespace have been seen: until then nothing can be done.
    pub async fn wait_for_any(&self) {
        self.wait_until(|places| places.values().any(|sight| sight.seen)).await;
    }

    async fn wait_until(&self, holds: impl FnMut(&BTreeMap<Place, SyncState>) -> bool) {
        if self.places.clone().wait_for(holds).await.is_err() {
            // The watch has ended, with the operator.
            std::future::pending::<()>().await;
        }
    }

    /// The namespaces that have not been seen yet and are waited for, and those that may not be read at present.
    pub fn gaps(&self) -> (Vec<String>, Vec<String>) {
        let places = self.places.borrow();
        let named = |wanted: fn(&SyncState) -> bool| {
            let all = places.iter().filter(|(_, sight)| wanted(sight));
            all.map(|(place, _)| place.clone().unwrap_or_else(|| "(all)".to_owned())).collect()
        };
        (named(|sight| !sight.seen && !sight.refused), named(|sight| sight.refused))
    }
}

fn all_seen(places: &BTreeMap<Place, SyncState>) -> bool {
    places.values().any(|sight| sight.seen) && places.values().all(|sight| sight.seen || sight.refused)
}

fn sight(places: &BTreeMap<Place, SyncState>, namespace: &str) -> Option<SyncState> {
    places.get(&Some(namespace.to_owned())).or_else(|| places.get(&None)).copied()
}
