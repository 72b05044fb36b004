//! One watch for each namespace, and one cache for what all of them have seen. A namespace that is not there yet, is deleted, or
//! may not be read holds up no other.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt as _, stream};
use kube::core::NamespaceResourceScope;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::context::Guarded;
use super::scope::Namespaces;

/// What can be watched here.
pub trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + DeserializeOwned
    + Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Watched for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// A namespace; `None`: all namespaces in one watch.
type Place = Option<String>;

/// How far a namespace has been seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sight {
    /// Whether all its objects have been seen once.
    seen: bool,
    /// Whether the API server refuses to show them.
    refused: bool,
}

/// All objects of a kind that are watched.
#[derive(Clone)]
pub struct Cache<K: Watched> {
    objects: reflector::Store<Guarded<K>>,
    places: watch::Receiver<BTreeMap<Place, Sight>>,
}

impl<K: Watched> Cache<K> {
    /// What a controller reads.
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

    /// Whether every object of this namespace has been seen.
    pub fn seen_in(&self, namespace: &str) -> bool {
        sight(&self.places.borrow(), namespace).is_some_and(|sight| sight.seen)
    }

    /// Whether this namespace is watched, and not every object there has been seen.
    pub fn unseen_in(&self, namespace: &str) -> bool {
        sight(&self.places.borrow(), namespace).is_some_and(|sight| !sight.seen)
    }

    /// Waits until every object of this namespace has been seen.
    pub async fn wait_for(&self, namespace: &str) {
        self.wait_until(|places| sight(places, namespace).is_some_and(|sight| sight.seen)).await;
    }

    /// Whether every object has been seen that the API server shows.
    pub fn seen(&self) -> bool {
        all_seen(&self.places.borrow())
    }

    /// Waits until every object has been seen that the API server shows.
    pub async fn wait(&self) {
        self.wait_until(all_seen).await;
    }

    /// Waits until the objects of one namespace have been seen: without any there is nothing to be done.
    pub async fn wait_for_any(&self) {
        self.wait_until(|places| places.values().any(|sight| sight.seen)).await;
    }

    async fn wait_until(&self, holds: impl FnMut(&BTreeMap<Place, Sight>) -> bool) {
        if self.places.clone().wait_for(holds).await.is_err() {
            // The watch has ended, with the operator.
            std::future::pending::<()>().await;
        }
    }

    /// The namespaces that have not been seen yet and are waited for, and those that may not be read at present.
    pub fn gaps(&self) -> (Vec<String>, Vec<String>) {
        let places = self.places.borrow();
        let named = |wanted: fn(&Sight) -> bool| {
            let all = places.iter().filter(|(_, sight)| wanted(sight));
            all.map(|(place, _)| place.clone().unwrap_or_else(|| "(all)".to_owned())).collect()
        };
        (named(|sight| !sight.seen && !sight.refused), named(|sight| sight.refused))
    }
}

fn all_seen(places: &BTreeMap<Place, Sight>) -> bool {
    places.values().any(|sight| sight.seen) && places.values().all(|sight| sight.seen || sight.refused)
}

fn sight(places: &BTreeMap<Place, Sight>, namespace: &str) -> Option<Sight> {
    places.get(&Some(namespace.to_owned())).or_else(|| places.get(&None)).copied()
}

/// Watches the objects of a kind in each of the namespaces, each `trim`med of what nobody reads. The cache is fed by the events
/// that are returned, in step with them. After a restart of a watch what is gone is told as deleted.
pub fn watch<K: Watched>(
    client: &Client,
    namespaces: &Namespaces,
    config: &watcher::Config,
    trim: fn(&mut Guarded<K>),
) -> (Cache<K>, impl Stream<Item = Result<Event<Guarded<K>>, watcher::Error>> + Send + use<K>) {
    let each = namespaces.each();
    let (mut merger, cache) = Merger::new(&each);
    let watches = each.into_iter().map(|place| {
        let api: Api<Guarded<K>> = match &place {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let events = watcher(api, config.clone()).default_backoff().modify(trim);
        events.map(move |event| (place.clone(), event)).boxed()
    });
    let events = stream::select_all(watches)
        .flat_map(move |(place, event)| stream::iter(merger.take(&place, event)))
        .map(Ok);
    (cache, events)
}

/// Makes one stream of events of those of all namespaces.
struct Merger<K: Watched> {
    writer: reflector::store::Writer<Guarded<K>>,
    objects: reflector::Store<Guarded<K>>,
    places: watch::Sender<BTreeMap<Place, Sight>>,
    /// What is there, of the namespaces that are being listed.
    listed: BTreeMap<Place, HashSet<ObjectRef<Guarded<K>>>>,
}

impl<K: Watched> Merger<K> {
    fn new(each: &[Place]) -> (Self, Cache<K>) {
        let (objects, mut writer) = reflector::store();
        // There is no moment at which all is seen: each namespace has its own.
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        let places = each.iter().cloned().map(|place| (place, Sight::default())).collect();
        let (places, receiver) = watch::channel(places);
        let cache = Cache { objects: objects.clone(), places: receiver };
        (Self { writer, objects, places, listed: BTreeMap::new() }, cache)
    }

    /// What an event of a namespace means for all.
    fn take(
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
                Vec::new()
            }
            Event::InitApply(object) => {
                self.listed.entry(place.clone()).or_default().insert(ObjectRef::from_obj(&object));
                // The cache is not emptied meanwhile: what is gone is found when all is listed.
                let applied = Event::Apply(object);
                self.writer.apply_watcher_event(&applied);
                let Event::Apply(object) = applied else { return Vec::new() };
                vec![Event::InitApply(object)]
            }
            Event::InitDone => {
                let listed = self.listed.remove(place).unwrap_or_default();
                let mut events: Vec<_> = self.gone(place, &listed).into_iter().map(Event::Delete).collect();
                for event in &events {
                    self.writer.apply_watcher_event(event);
                }
                self.update(place, |sight| *sight = Sight { seen: true, refused: false });
                events.push(Event::InitDone);
                events
            }
            event @ (Event::Apply(_) | Event::Delete(_)) => {
                self.writer.apply_watcher_event(&event);
                vec![event]
            }
        }
    }

    /// What was there before the namespace was listed, and is there no more.
    fn gone(&self, place: &Place, listed: &HashSet<ObjectRef<Guarded<K>>>) -> Vec<Guarded<K>> {
        let here = |object: &Guarded<K>| place.is_none() || object.namespace() == *place;
        let known = self.objects.state().into_iter();
        let gone = known.filter(|object| here(object) && !listed.contains(&ObjectRef::from_obj(&**object)));
        gone.map(|object| (*object).clone()).collect()
    }

    /// Says why objects cannot be watched, which would otherwise look as if there were none. The watch goes on with backoff.
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

    fn update(&mut self, place: &Place, change: impl FnOnce(&mut Sight)) {
        self.places.send_modify(|places| change(places.entry(place.clone()).or_default()));
    }
}

/// Whether the API server has answered that it will not show objects, so that waiting for it is of no use.
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

    fn list(merger: &mut Merger<ExecutionPolicy>, place: &Place, names: &[&str]) -> Vec<String> {
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
        let (mut merger, cache) = Merger::new(&[a.clone(), b.clone()]);
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

        let (mut merger, cache) = Merger::new(&[None]);
        list(&mut merger, &None, &["one", "two"]);
        assert_eq!(list(&mut merger, &None, &[]), ["one", "two"]);
        assert!(cache.seen_in("any") && names(&cache).is_empty());
    }

    #[test]
    fn a_namespace_that_may_not_be_read_is_not_waited_for_unless_there_is_no_other() {
        let (a, b) = (Some("a".to_owned()), Some("b".to_owned()));
        let (mut merger, cache) = Merger::<ExecutionPolicy>::new(&[a.clone(), b.clone()]);
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
        // Once seen it stays so: what is known of it holds.
        merger.take(&a, answer(403));
        assert!(cache.seen_in("a") && cache.gaps().1 == ["a"]);
    }
}
