//! One watch for each namespace, and one cache for the objects of all of them. A namespace that does not exist yet, is
//! deleted, or may not be read does not delay the others. The cache has a budget for each namespace: see
//! [`budget`](crate::kubernetes::budget).

mod cache;
mod queue;
mod reflector_set;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered, SelectAll};
use futures::{Stream, StreamExt as _, stream};
use kube::api::ListParams;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;

use crate::kubernetes::error::bounded;
use crate::kubernetes::guarded::{Cached, Guarded};
use crate::kubernetes::scope::Namespaces;
use cache::Place;
pub use cache::{Cache, Usage};
use queue::{Key, Queue};
use reflector_set::ReflectorSet;

/// The pause in reading objects of a namespace after one could not be read.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// The same pause after a refusal by the API server, and the pause before a namespace is listed again because objects
/// that are not remembered may fit now.
const LIST_AGAIN: Duration = Duration::from_mins(1);

/// Watches the objects of a kind in each of the namespaces, each of which may take `budget` bytes of memory. The returned
/// events feed the cache, in step with them. After a restart of a watch, objects that are gone are reported as deleted.
pub fn watch<K: Cached>(
    client: &Client,
    namespaces: &Namespaces,
    config: &watcher::Config,
    budget: u64,
) -> (Cache<K>, impl Stream<Item = Result<Event<Guarded<K>>, watcher::Error>> + Send + use<K>) {
    let each = namespaces.each();
    let (merger, cache) = ReflectorSet::new(&each, budget);
    let mut watching = Watching {
        client: client.clone(),
        config: config.clone(),
        merger,
        watches: SelectAll::new(),
        restarts: BTreeMap::new(),
        tasks: FuturesUnordered::new(),
        to_read: Queue::default(),
        reads: false,
        lists: BTreeSet::new(),
        ready: VecDeque::new(),
    };
    for place in each {
        watching.open(place);
    }
    let events = stream::unfold(watching, |mut watching| async move {
        let event = watching.next().await;
        Some((Ok(event), watching))
    });
    (cache, events)
}

/// An event or error from the watch of a namespace.
type Seen<K> = (Place, Result<Event<Guarded<K>>, watcher::Error>);

/// The result of a task that a budget required.
enum Done<K: Cached> {
    /// A previously refused object was read; `None`: it no longer exists.
    Read(Key, Option<Box<Guarded<K>>>),
    /// An object could not be read. Reading others of its namespace pauses for this long.
    Unread(Key, Duration),
    /// Objects of this namespace may be read again.
    Again(String),
    /// The namespace must be listed again now.
    List(Place),
}

/// The watches of a kind, and the other tasks that feed its cache.
struct Watching<K: Cached> {
    client: Client,
    config: watcher::Config,
    merger: ReflectorSet<K>,
    watches: SelectAll<BoxStream<'static, Seen<K>>>,
    /// Ends the watch of a namespace.
    restarts: BTreeMap<Place, CancellationToken>,
    tasks: FuturesUnordered<BoxFuture<'static, Done<K>>>,
    /// The objects to read, one after the other: each may be large.
    to_read: Queue,
    /// True while an object is being read.
    reads: bool,
    /// The namespaces that are about to be listed again.
    lists: BTreeSet<Place>,
    ready: VecDeque<Event<Guarded<K>>>,
}

impl<K: Cached> Watching<K> {
    async fn next(&mut self) -> Event<Guarded<K>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            tokio::select! {
                Some((place, event)) = self.watches.next() => {
                    let events = self.merger.take(&place, event);
                    self.forget(&events);
                    self.ready.extend(events);
                    self.follow(&place);
                }
                Some(done) = self.tasks.next() => self.done(done),
                // Neither ends before the operator does.
                else => std::future::pending().await,
            }
        }
    }

    fn open(&mut self, place: Place) {
        let restart = CancellationToken::new();
        let events = watcher(self.api(&place), self.config.clone())
            .default_backoff()
            .take_until(restart.clone().cancelled_owned());
        let tagged = place.clone();
        self.watches.push(events.map(move |event| (tagged.clone(), event)).boxed());
        self.restarts.insert(place, restart);
    }

    fn api(&self, place: &Place) -> Api<Guarded<K>> {
        match place {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    /// Starts the tasks that the budgets require.
    fn follow(&mut self, place: &Place) {
        for object in self.merger.take_wanted() {
            self.to_read.push((object.namespace.unwrap_or_default(), object.name));
        }
        self.read_next();
        if self.merger.is_to_list() && self.lists.insert(place.clone()) {
            let place = place.clone();
            self.tasks.push(Box::pin(async move {
                tokio::time::sleep(LIST_AGAIN).await;
                Done::List(place)
            }));
        }
    }

    /// Drops deleted objects from the queue.
    fn forget(&mut self, events: &[Event<Guarded<K>>]) {
        for event in events {
            if let Event::Delete(object) = event {
                self.to_read.remove(&(object.namespace().unwrap_or_default(), object.name_any()));
            }
        }
    }

    fn read_next(&mut self) {
        while !self.reads {
            let Some(key) = self.to_read.pop() else { return };
            // It may no longer fit.
            if self.merger.wants(&key.0, &key.1) {
                self.reads = true;
                self.tasks.push(Box::pin(read(self.client.clone(), key)));
            }
        }
    }

    fn done(&mut self, done: Done<K>) {
        match done {
            Done::Read((namespace, name), found) => {
                self.reads = false;
                let events = found.map(|found| self.merger.read(*found)).unwrap_or_default();
                tracing::debug!(namespace, name, "an object fits the budget of its namespace now");
                self.forget(&events);
                self.ready.extend(events);
                let place = Some(namespace);
                self.follow(if self.restarts.contains_key(&place) { &place } else { &None });
            }
            Done::Unread(key, pause) => {
                self.reads = false;
                let namespace = key.0.clone();
                self.to_read.push(key);
                self.to_read.pause(&namespace);
                self.tasks.push(Box::pin(async move {
                    tokio::time::sleep(pause).await;
                    Done::Again(namespace)
                }));
                self.read_next();
            }
            Done::Again(namespace) => {
                self.to_read.resume(&namespace);
                self.read_next();
            }
            Done::List(place) => {
                self.lists.remove(&place);
                if let Some(restart) = self.restarts.remove(&place) {
                    restart.cancel();
                }
                self.open(place);
            }
        }
    }
}

/// Reads an object that fits its budget now.
async fn read<K: Cached>(client: Client, key: Key) -> Done<K> {
    let (namespace, name) = &key;
    let api: Api<Guarded<K>> = Api::namespaced(client, namespace);
    // The operator may list these kinds, but may not get all of them.
    let named = ListParams::default().fields(&format!("metadata.name={name}"));
    match bounded(api.list(&named)).await {
        Ok(found) => Done::Read(key, found.items.into_iter().next().map(Box::new)),
        Err(error) => {
            tracing::warn!(namespace, name, %error, "an object that fits the budget now could not be read, it is tried again");
            let pause = if error.refused() { LIST_AGAIN } else { READ_AGAIN };
            Done::Unread(key, pause)
        }
    }
}
