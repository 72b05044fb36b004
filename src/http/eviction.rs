//! The connections of one listening address: limits their number, and selects the one to close for a new one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::origin::Origin;

/// The maximum numbers of connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capacity {
    /// From all origins together.
    pub(super) total: usize,
    /// From one origin, if lower than `total`.
    pub(super) per_origin: usize,
    /// Whether a busy connection is closed if none is idle. Otherwise a new connection waits, or is rejected if its
    /// own origin has too many.
    pub(super) evict_busy: bool,
}

/// The open connections of one listening address.
pub(super) struct Connections {
    capacity: Capacity,
    table: Mutex<Table>,
    changed: Notify,
}

impl Connections {
    pub(super) fn new(capacity: Capacity) -> Arc<Self> {
        Arc::new(Self { capacity, table: Mutex::default(), changed: Notify::new() })
    }

    /// Admits a connection once a place is free. Returns `None` if its origin has too many connections, all of them
    /// busy.
    pub(super) async fn admit(self: &Arc<Self>, origin: Origin) -> Option<ConnectionPermit> {
        loop {
            {
                let mut table = self.table();
                match table.decide(origin, self.capacity) {
                    Decision::Admit => {
                        let (id, evicted) = table.insert(origin);
                        return Some(ConnectionPermit { connections: self.clone(), id, evicted });
                    }
                    Decision::Evict(id) => table.evict(id),
                    Decision::Wait => {}
                    Decision::Refuse => return None,
                }
            }
            // `notify_one` stores a permit, so a connection that ends before this line is not missed.
            self.changed.notified().await;
        }
    }

    /// Closes one idle connection, or a busy one if the capacity allows that: the process has no free file descriptor.
    pub(super) fn evict_one(&self) {
        let mut table = self.table();
        if let Some(id) = table.victim(|_| true, self.capacity.evict_busy) {
            table.evict(id);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection, until it is dropped with the socket.
pub(super) struct ConnectionPermit {
    connections: Arc<Connections>,
    id: u64,
    evicted: CancellationToken,
}

impl ConnectionPermit {
    /// Returns the token that is cancelled when the connection must close at once.
    pub(super) fn evicted(&self) -> CancellationToken {
        self.evicted.clone()
    }

    /// Marks the connection as busy until the guard is dropped. Returns `None` if the connection is being closed: the
    /// request must not start.
    pub(super) fn begin(&self) -> Option<BusyGuard> {
        let begun = self.connections.table().set_busy(self.id, true);
        begun.then(|| BusyGuard { connections: self.connections.clone(), id: self.id })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.connections.table().remove(self.id);
        self.connections.changed.notify_one();
    }
}

/// See [`ConnectionPermit::begin`].
pub(super) struct BusyGuard {
    connections: Arc<Connections>,
    id: u64,
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.connections.table().set_busy(self.id, false);
        self.connections.changed.notify_one();
    }
}

/// The decision about a new connection.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Admit,
    /// Close this connection, then decide again.
    Evict(u64),
    /// Wait until a connection ends or becomes idle.
    Wait,
    Refuse,
}

struct Entry {
    origin: Origin,
    /// The sequence number of its acceptance, or of its last change between idle and busy.
    since: u64,
    busy: bool,
    /// Cancelled when the connection is being closed.
    evicted: CancellationToken,
}

#[derive(Default)]
struct Table {
    open: BTreeMap<u64, Entry>,
    per_origin: HashMap<Origin, usize>,
    /// The last sequence number.
    last: u64,
}

impl Table {
    fn decide(&self, origin: Origin, capacity: Capacity) -> Decision {
        let one_of_many = capacity.per_origin < capacity.total;
        if one_of_many && self.count(origin) >= capacity.per_origin {
            self.make_room(|entry| entry.origin == origin, capacity, Decision::Refuse)
        } else if self.open.len() >= capacity.total {
            self.make_room(|_| true, capacity, Decision::Wait)
        } else {
            Decision::Admit
        }
    }

    fn make_room(&self, among: impl Fn(&Entry) -> bool, capacity: Capacity, otherwise: Decision) -> Decision {
        if self.open.values().any(|entry| entry.evicted.is_cancelled() && among(entry)) {
            return Decision::Wait;
        }
        self.victim(among, capacity.evict_busy).map_or(otherwise, Decision::Evict)
    }

    /// Returns the connection to close: an idle one before a busy one, then one of the origin with the most
    /// connections, then the oldest.
    fn victim(&self, among: impl Fn(&Entry) -> bool, evict_busy: bool) -> Option<u64> {
        let open = self.open.iter().filter(|(_, entry)| !entry.evicted.is_cancelled() && among(entry));
        let candidates = open.filter(|(_, entry)| evict_busy || !entry.busy);
        let order = |entry: &Entry| (entry.busy, std::cmp::Reverse(self.count(entry.origin)), entry.since);
        candidates.min_by_key(|(_, entry)| order(entry)).map(|(id, _)| *id)
    }

    fn count(&self, origin: Origin) -> usize {
        self.per_origin.get(&origin).copied().unwrap_or_default()
    }

    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn insert(&mut self, origin: Origin) -> (u64, CancellationToken) {
        let (id, evicted) = (self.next_number(), CancellationToken::new());
        self.open.insert(id, Entry { origin, since: id, busy: false, evicted: evicted.clone() });
        *self.per_origin.entry(origin).or_default() += 1;
        (id, evicted)
    }

    fn evict(&mut self, id: u64) {
        if let Some(entry) = self.open.get(&id) {
            entry.evicted.cancel();
        }
    }

    /// Returns whether the connection exists and is not being closed.
    fn set_busy(&mut self, id: u64, busy: bool) -> bool {
        let now = self.next_number();
        let Some(entry) = self.open.get_mut(&id).filter(|entry| !entry.evicted.is_cancelled()) else {
            return false;
        };
        (entry.busy, entry.since) = (busy, now);
        true
    }

    fn remove(&mut self, id: u64) {
        let Some(entry) = self.open.remove(&id) else { return };
        if let Some(count) = self.per_origin.get_mut(&entry.origin) {
            *count -= 1;
            if *count == 0 {
                self.per_origin.remove(&entry.origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn origin(last: u8) -> Origin {
        IpAddr::from([192, 0, 2, last]).into()
    }

    fn capacity(total: usize, per_origin: usize) -> Capacity {
        Capacity { total, per_origin, evict_busy: false }
    }

    #[test]
    fn the_oldest_idle_connection_of_the_origin_with_the_most_makes_room() {
        let mut table = Table::default();
        let quiet = table.insert(origin(1)).0;
        let crowd: Vec<u64> = (0..3).map(|_| table.insert(origin(2)).0).collect();
        let limits = capacity(4, 4);
        assert_eq!(table.decide(origin(3), limits), Decision::Evict(crowd[0]));
        // A connection that was used since is no longer the oldest.
        assert!(table.set_busy(crowd[0], true) && table.set_busy(crowd[0], false));
        assert_eq!(table.decide(origin(3), limits), Decision::Evict(crowd[1]));
        // Only one connection is closed at a time.
        table.evict(crowd[1]);
        assert!(!table.set_busy(crowd[1], true), "no request begins on it");
        assert_eq!(table.decide(origin(3), limits), Decision::Wait);
        table.remove(crowd[1]);
        assert_eq!(table.decide(origin(3), limits), Decision::Admit);
        table.remove(quiet);
    }

    #[test]
    fn an_origin_makes_room_for_itself_or_is_refused() {
        let mut table = Table::default();
        let own = table.insert(origin(2)).0;
        let limits = capacity(8, 1);
        assert_eq!(table.decide(origin(2), limits), Decision::Evict(own));
        table.set_busy(own, true);
        assert_eq!(table.decide(origin(2), limits), Decision::Refuse);
        assert_eq!(table.decide(origin(3), limits), Decision::Admit);
    }

    #[test]
    fn if_all_are_busy_a_new_one_waits_unless_busy_ones_may_be_closed() {
        let mut table = Table::default();
        let first = table.insert(origin(1)).0;
        table.set_busy(first, true);
        assert_eq!(table.decide(origin(2), capacity(1, 1)), Decision::Wait);
        let always = Capacity { evict_busy: true, ..capacity(1, 1) };
        assert_eq!(table.decide(origin(2), always), Decision::Evict(first));
    }

    #[tokio::test]
    async fn a_connection_is_admitted_once_the_evicted_one_has_closed() {
        let connections = Connections::new(capacity(2, 1));
        let other = connections.admit(origin(3)).await.unwrap();
        let _other = other.begin().unwrap();
        let first = connections.admit(origin(1)).await.unwrap();
        let evicted = first.evicted();
        let closing = tokio::spawn(async move {
            evicted.cancelled().await;
            drop(first);
        });
        let second = connections.admit(origin(2)).await.unwrap();
        closing.await.unwrap();
        let busy = second.begin().unwrap();
        assert!(connections.admit(origin(2)).await.is_none(), "its only connection is busy");
        drop(busy);
        let evicted = second.evicted();
        let third = tokio::spawn(async move { connections.admit(origin(2)).await.is_some() });
        evicted.cancelled().await;
        drop(second);
        assert!(third.await.unwrap());
    }
}
