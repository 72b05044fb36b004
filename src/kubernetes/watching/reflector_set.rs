//! Merges the events of all namespaces into one stream, within the budget of each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{self, Event};
use kube::{Resource as _, ResourceExt as _};
use tokio::sync::watch;

use super::cache::{Cache, Place, Refusals, SyncState};
use crate::kubernetes::budget::{Budget, Changes};
use crate::kubernetes::cached::REFUSED_COST;
use crate::kubernetes::guarded::{Cached, Cause, Guarded};

/// Merges the events of all namespaces, and writes the cache.
pub(super) struct ReflectorSet<K: Cached> {
    writer: reflector::store::Writer<Guarded<K>>,
    objects: reflector::Store<Guarded<K>>,
    places: watch::Sender<BTreeMap<Place, SyncState>>,
    /// The objects found so far in the namespaces that are being listed, as hashes.
    listed: BTreeMap<Place, HashSet<u64>>,
    /// Hashes names, so that no list of them is kept: with a random key, so that nobody can make two names collide.
    hashes: RandomState,
    /// The budget of a namespace, in bytes.
    limit: u64,
    /// The state of each namespace's budget.
    budgets: HashMap<String, Budget>,
    /// The objects that are refused for reasons other than the budget.
    unusable: HashSet<ObjectRef<Guarded<K>>>,
    refusals: Arc<RwLock<Refusals>>,
    /// The memory that the cache takes, in bytes.
    bytes: u64,
    /// The number of objects that do not fit.
    refused: usize,
    /// The objects to read, since they fit now.
    wanted: Vec<ObjectRef<Guarded<K>>>,
    to_list: bool,
}

impl<K: Cached> ReflectorSet<K> {
    pub(super) fn new(each: &[Place], limit: u64) -> (Self, Cache<K>) {
        let (objects, mut writer) = reflector::store();
        // Each namespace syncs at its own time, so there is no single moment for the cache.
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        let places = each.iter().cloned().map(|place| (place, SyncState::default())).collect();
        let (places, receiver) = watch::channel(places);
        let refusals = Arc::<RwLock<Refusals>>::default();
        let cache = Cache { objects: objects.clone(), places: receiver, refusals: refusals.clone() };
        let merger = Self {
            writer,
            objects,
            places,
            listed: BTreeMap::new(),
            hashes: RandomState::new(),
            limit,
            budgets: HashMap::new(),
            unusable: HashSet::new(),
            refusals,
            bytes: 0,
            refused: 0,
            wanted: Vec::new(),
            to_list: false,
        };
        (merger, cache)
    }

    /// Takes the objects to read, since they fit now.
    pub(super) fn take_wanted(&mut self) -> Vec<ObjectRef<Guarded<K>>> {
        std::mem::take(&mut self.wanted)
    }

    /// Reports whether the content of an object must still be read: it fits and exists.
    pub(super) fn wants(&self, namespace: &str, name: &str) -> bool {
        self.budgets.get(namespace).is_some_and(|budget| budget.wants(name))
    }

    /// Reports whether objects that are not remembered may fit now, once.
    pub(super) fn is_to_list(&mut self) -> bool {
        std::mem::take(&mut self.to_list)
    }

    /// Turns an event of a namespace into events for the controller.
    pub(super) fn take(
        &mut self,
        place: &Place,
        event: Result<Event<Guarded<K>>, watcher::Error>,
    ) -> Vec<Event<Guarded<K>>> {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                self.failed(place, &error);
                return Vec::new();
            }
        };
        match event {
            Event::Init => {
                self.listed.insert(place.clone(), HashSet::new());
                self.budgets_of(place).for_each(Budget::list_begins);
                Vec::new()
            }
            Event::InitApply(object) => {
                let hash = self.hash(&object);
                self.listed.entry(place.clone()).or_default().insert(hash);
                // The cache is not emptied meanwhile: deleted objects are found when the list is complete.
                self.put(object, Event::InitApply)
            }
            Event::InitDone => {
                let listed = self.listed.remove(place).unwrap_or_default();
                let gone = self.gone(place, &listed);
                let mut events: Vec<_> = gone.into_iter().flat_map(|object| self.delete(object)).collect();
                self.budgets_of(place).for_each(Budget::list_ends);
                self.tell_refusals();
                self.update(place, |sight| *sight = SyncState { seen: true, refused: false });
                events.push(Event::InitDone);
                events
            }
            Event::Apply(object) => self.put(object, Event::Apply),
            Event::Delete(object) => self.delete(object),
        }
    }

    /// Takes in a refused object that was read again. It may be gone meanwhile, or be a different object.
    pub(super) fn read(&mut self, object: Guarded<K>) -> Vec<Event<Guarded<K>>> {
        let known = self.objects.get(&ObjectRef::from_obj(&object));
        if known.is_some_and(|known| known.uid() == object.uid()) {
            self.put(object, Event::Apply)
        } else {
            Vec::new()
        }
    }

    /// Puts an object into the cache, as far as the budget of its namespace allows, and drops objects that no longer fit.
    fn put(
        &mut self,
        object: Guarded<K>,
        event: impl FnOnce(Guarded<K>) -> Event<Guarded<K>>,
    ) -> Vec<Event<Guarded<K>>> {
        let key = ObjectRef::from_obj(&object);
        let cost = object.cost();
        let object = if cost > K::OBJECT_LIMIT {
            object.refused(Cause::TooLarge { cost, limit: K::OBJECT_LIMIT })
        } else {
            object
        };
        if object.0.is_err() {
            self.unusable.insert(key.clone());
        } else {
            self.unusable.remove(&key);
        }
        let cost = if object.0.is_err() { REFUSED_COST } else { cost };
        let created = object.creation_timestamp().map_or(0, |time| time.0.as_second());
        let changes = self.change(&key, |budget| budget.put(&key.name, created, cost));
        let mut events = self.make_room(&key, &changes);
        if changes.forget.contains(&key.name) {
            return events;
        }
        let object =
            if changes.refuse.contains(&key.name) { object.refused(self.over_budget()) } else { object };
        // The cache and the controller get the same object.
        let applied = Event::Apply(object);
        self.writer.apply_watcher_event(&applied);
        if let Event::Apply(object) = applied {
            events.push(event(object));
        }
        events
    }

    fn delete(&mut self, object: Guarded<K>) -> Vec<Event<Guarded<K>>> {
        let key = ObjectRef::from_obj(&object);
        self.unusable.remove(&key);
        let changes = self.change(&key, |budget| budget.remove(&key.name));
        let mut events = self.make_room(&key, &changes);
        let event = Event::Delete(object);
        self.writer.apply_watcher_event(&event);
        events.push(event);
        events
    }

    /// Changes the budget of an object's namespace, and the totals.
    fn change(
        &mut self,
        key: &ObjectRef<Guarded<K>>,
        change: impl FnOnce(&mut Budget) -> Changes,
    ) -> Changes {
        let namespace = key.namespace.clone().unwrap_or_default();
        let budget = self.budgets.entry(namespace.clone()).or_insert_with(|| Budget::new(self.limit));
        let (bytes, refused) = (budget.spent(), budget.refused());
        let changes = change(budget);
        self.bytes = self.bytes.saturating_sub(bytes).saturating_add(budget.spent());
        self.refused = self.refused.saturating_sub(refused).saturating_add(budget.refused());
        self.to_list |= budget.is_to_list();
        if budget.refused() > 0 && refused == 0 {
            let kind = K::plural(&());
            tracing::warn!(
                namespace,
                "the {kind} of this namespace exceed its budget: the youngest are refused. {}",
                self.over_budget().remedy()
            );
        }
        self.tell_refusals_in(&namespace);
        changes
    }

    fn tell_refusals_in(&mut self, namespace: &str) {
        let Some(budget) = self.budgets.get(namespace) else { return };
        let mut refusals = self.refusals.write().unwrap_or_else(PoisonError::into_inner);
        refusals.usage.bytes = self.bytes;
        refusals.usage.refused = self.refused.saturating_add(self.unusable.len());
        if budget.refused() > 0 || budget.has_forgotten() {
            refusals.namespaces.insert(namespace.to_owned(), budget.has_forgotten());
        } else {
            refusals.namespaces.remove(namespace);
        }
        drop(refusals);
        if budget.is_empty() {
            self.budgets.remove(namespace);
        }
    }

    fn tell_refusals(&mut self) {
        let namespaces: Vec<_> = self.budgets.keys().cloned().collect();
        for namespace in namespaces {
            self.tell_refusals_in(&namespace);
        }
    }

    /// Drops the content of objects that no longer fit, and keeps a list of those that fit now. The caller handles the
    /// changed object itself.
    fn make_room(&mut self, own: &ObjectRef<Guarded<K>>, changes: &Changes) -> Vec<Event<Guarded<K>>> {
        let namespace = own.namespace.as_deref().unwrap_or_default();
        let named = |name: &String| ObjectRef::new(name).within(namespace);
        let mut events = Vec::new();
        for name in changes.refuse.iter().filter(|name| **name != own.name) {
            if let Some(object) = self.objects.get(&named(name)) {
                let event = Event::Apply(object.refused(self.over_budget()));
                self.writer.apply_watcher_event(&event);
                events.push(event);
            }
        }
        for name in &changes.forget {
            self.unusable.remove(&named(name));
            if let Some(object) = self.objects.get(&named(name)) {
                let event = Event::Delete((*object).clone());
                self.writer.apply_watcher_event(&event);
                events.push(event);
            }
        }
        self.wanted.extend(changes.read.iter().map(named));
        events
    }

    const fn over_budget(&self) -> Cause {
        Cause::OverBudget { limit: self.limit, variable: K::VARIABLE }
    }

    fn budgets_of(&mut self, place: &Place) -> impl Iterator<Item = &mut Budget> {
        let here = self.budgets.iter_mut();
        here.filter(move |(namespace, _)| place.as_ref().is_none_or(|place| place == *namespace))
            .map(|(_, budget)| budget)
    }

    fn hash(&self, object: &Guarded<K>) -> u64 {
        self.hashes.hash_one((&object.meta().namespace, &object.meta().name))
    }

    /// The objects that were cached before the list of the namespace, and are not in it.
    fn gone(&self, place: &Place, listed: &HashSet<u64>) -> Vec<Guarded<K>> {
        let here = |object: &Guarded<K>| place.is_none() || object.namespace() == *place;
        let known = self.objects.state().into_iter();
        let gone = known.filter(|object| here(object) && !listed.contains(&self.hash(object)));
        gone.map(|object| (*object).clone()).collect()
    }

    /// Logs why objects cannot be watched, which would otherwise look as if there were none. The watch continues with
    /// backoff.
    fn failed(&mut self, place: &Place, error: &watcher::Error) {
        let kind = K::plural(&());
        tracing::warn!(
            namespace = place.as_deref().unwrap_or("(all)"),
            %error,
            "cannot watch {kind}: see that the namespace is there, that the CRDs are installed (`jobexec crds`) and that the \
             ServiceAccount may list and watch {kind}"
        );
        if refuses(error) {
            self.update(place, |sight| sight.refused = true);
        }
    }

    fn update(&mut self, place: &Place, change: impl FnOnce(&mut SyncState)) {
        self.places.send_modify(|places| change(places.entry(place.clone()).or_default()));
    }
}

/// Reports whether the API server refuses to list objects, so that waiting is useless.
fn refuses(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => {
            matches!(status.code, 401 | 403 | 404)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;
    use crate::api::ExecutionPolicy;

    fn policy(namespace: &str, name: &str) -> Guarded<ExecutionPolicy> {
        let object = json!({
            "apiVersion": "jobexec.dev/v1alpha1", "kind": "ExecutionPolicy",
            "metadata": {"namespace": namespace, "name": name}, "spec": {"storeRef": {"name": "jobs"}},
        });
        serde_json::from_value(object).unwrap()
    }

    fn names(cache: &Cache<ExecutionPolicy>) -> Vec<String> {
        let mut names: Vec<_> = cache.state().iter().map(|object| object.name_any()).collect();
        names.sort();
        names
    }

    fn list(merger: &mut ReflectorSet<ExecutionPolicy>, place: &Place, names: &[&str]) -> Vec<String> {
        let namespace = place.as_deref().unwrap_or("any");
        let all = names.iter().map(|name| Event::InitApply(policy(namespace, name)));
        let events = [Event::Init].into_iter().chain(all).chain([Event::InitDone]);
        let told: Vec<_> = events.flat_map(|event| merger.take(place, Ok(event))).collect();
        let gone = told.iter().filter_map(|event| match event {
            Event::Delete(object) => Some(object.name_any()),
            _ => None,
        });
        let mut gone: Vec<_> = gone.collect();
        gone.sort();
        gone
    }

    #[test]
    fn a_namespace_that_is_listed_anew_says_nothing_of_the_others() {
        let (a, b) = (Some("a".to_owned()), Some("b".to_owned()));
        let (mut merger, cache) = ReflectorSet::new(&[a.clone(), b.clone()], u64::MAX);
        list(&mut merger, &a, &["one", "two"]);
        assert!(cache.seen_in("a") && cache.unseen_in("b") && !cache.seen());
        list(&mut merger, &b, &["three"]);
        assert!(cache.seen() && names(&cache) == ["one", "three", "two"]);

        assert!(merger.take(&a, Ok(Event::Init)).is_empty());
        assert_eq!(names(&cache), ["one", "three", "two"], "nothing is gone before all is listed");
        assert_eq!(list(&mut merger, &a, &["two"]), ["one"]);
        assert_eq!(names(&cache), ["three", "two"]);
        assert_eq!(merger.take(&b, Ok(Event::Delete(policy("b", "three")))).len(), 1);
        assert_eq!(names(&cache), ["two"]);

        let (mut merger, cache) = ReflectorSet::new(&[None], u64::MAX);
        list(&mut merger, &None, &["one", "two"]);
        assert_eq!(list(&mut merger, &None, &[]), ["one", "two"]);
        assert!(cache.seen_in("any") && names(&cache).is_empty());
    }

    #[test]
    fn a_namespace_that_may_not_be_read_is_not_waited_for_unless_there_is_no_other() {
        let (a, b) = (Some("a".to_owned()), Some("b".to_owned()));
        let (mut merger, cache) = ReflectorSet::<ExecutionPolicy>::new(&[a.clone(), b.clone()], u64::MAX);
        let answer = |code| {
            let status = Status { code, ..Status::default() };
            Err(watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status))))
        };
        merger.take(&a, answer(503));
        assert_eq!(cache.gaps(), (vec!["a".to_owned(), "b".to_owned()], vec![]));
        merger.take(&a, answer(403));
        assert_eq!(cache.gaps(), (vec!["b".to_owned()], vec!["a".to_owned()]));
        assert!(!cache.seen());
        list(&mut merger, &b, &[]);
        assert!(cache.seen() && cache.unseen_in("a"));
        list(&mut merger, &a, &[]);
        assert_eq!(cache.gaps(), (vec![], vec![]));
        // A namespace stays seen: the cached objects remain valid.
        merger.take(&a, answer(403));
        assert!(cache.seen_in("a") && cache.gaps().1 == ["a"]);
    }
}
