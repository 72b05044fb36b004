//! The Leases that are renewed, as this replica sees them: only the time at which it saw a Lease change counts, by the
//! clock of this machine, and never the time in the Lease. Pure: the caller passes the current time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use kube::api::Preconditions;

use super::lease::{Record, SCOPE};

/// The Leases of a group.
#[derive(Default)]
pub(super) struct Peers {
    leases: BTreeMap<String, Peer>,
    /// The scope of the replicas that count.
    scope: String,
}

struct Peer {
    record: Option<Record>,
    /// The time when the record was first seen as it is.
    since: Instant,
    version: Preconditions,
}

impl Peer {
    fn ends(&self) -> Option<Instant> {
        self.record.as_ref().map(|record| self.since + record.duration)
    }
}

impl Peers {
    /// Returns an empty set for replicas with this scope.
    pub(super) fn of(scope: &str) -> Self {
        Self { scope: scope.to_owned(), ..Self::default() }
    }

    /// Records the state of a Lease.
    pub(super) fn see(&mut self, lease: &Lease, now: Instant) {
        // A replica with a different scope does not share these stores.
        let same = lease.labels().get(SCOPE).is_none_or(|scope| *scope == self.scope);
        let record = Record::of(lease).filter(|_| same);
        let version = Preconditions { uid: lease.uid(), resource_version: lease.resource_version() };
        let before = self.leases.get(&lease.name_any());
        let since = before.filter(|before| before.record == record).map_or(now, |before| before.since);
        self.leases.insert(lease.name_any(), Peer { record, since, version });
    }

    /// Records that a Lease is gone.
    pub(super) fn gone(&mut self, name: &str) {
        self.leases.remove(name);
    }

    /// Records the state of all Leases.
    pub(super) fn see_all(&mut self, leases: &[Lease], now: Instant) {
        let names: BTreeSet<_> = leases.iter().map(ResourceExt::name_any).collect();
        self.leases.retain(|name, _| names.contains(name));
        for lease in leases {
            self.see(lease, now);
        }
    }

    /// The names of Leases that were renewed within their duration.
    pub(super) fn live(&self, now: Instant) -> BTreeSet<String> {
        let live = self.leases.iter().filter(|(_, peer)| peer.ends().is_some_and(|ends| now < ends));
        live.map(|(name, _)| name.clone()).collect()
    }

    /// The time when the first Lease of `members` expires, if it is not renewed.
    pub(super) fn next_end(&self, members: &BTreeSet<String>) -> Option<Instant> {
        members.iter().filter_map(|name| self.leases.get(name)?.ends()).min()
    }

    /// Reports whether a Lease of `members` was not renewed for this long: a silent watch looks the same.
    pub(super) fn silent(&self, members: &BTreeSet<String>, for_: Duration, now: Instant) -> bool {
        let silent = |name| self.leases.get(name).is_none_or(|peer| now.duration_since(peer.since) >= for_);
        members.iter().any(silent)
    }

    /// The Leases that were not renewed for this long, each in the version last seen.
    pub(super) fn abandoned(&self, for_: Duration, now: Instant) -> Vec<(String, Preconditions)> {
        let old = |peer: &Peer| {
            now.duration_since(peer.since) >= for_ && peer.ends().is_none_or(|ends| ends <= now)
        };
        let old = self.leases.iter().filter(|(_, peer)| old(peer));
        old.map(|(name, peer)| (name.clone(), peer.version.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::lease::held;
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    fn names(set: &BTreeSet<String>) -> Vec<&str> {
        set.iter().map(String::as_str).collect()
    }

    fn lease(name: &str) -> Lease {
        held(None, (name, "g"), "holder", TEN)
    }

    #[test]
    fn a_lease_lives_from_when_its_change_was_seen() {
        let (start, mut peers) = (Instant::now(), Peers::default());
        let first = lease("a");
        peers.see(&first, start);
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert_eq!(names(&peers.live(at(9))), ["a"]);
        assert!(peers.live(at(10)).is_empty());
        // Seen again unchanged: no sign of life.
        peers.see(&first, at(9));
        assert!(peers.live(at(10)).is_empty());
        peers.see(&held(Some(first), ("a", "g"), "holder", TEN), at(9));
        assert_eq!(names(&peers.live(at(18))), ["a"]);
    }

    #[test]
    fn the_time_that_a_lease_names_does_not_count() {
        let (start, mut peers) = (Instant::now(), Peers::default());
        for (name, year) in [("past", "1970-01-01T00:00:00Z"), ("future", "2999-01-01T00:00:00Z")] {
            let mut lease = lease(name);
            lease.spec.as_mut().unwrap().renew_time =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(year.parse().unwrap()));
            peers.see(&lease, start);
        }
        assert_eq!(names(&peers.live(start + Duration::from_secs(9))), ["future", "past"]);
        assert!(peers.live(start + TEN).is_empty());
    }

    #[test]
    fn labels_and_annotations_are_no_renewal() {
        let (start, mut peers) = (Instant::now(), Peers::default());
        let mut lease = lease("a");
        peers.see(&lease, start);
        lease.annotations_mut().insert("edited".to_owned(), "by hand".to_owned());
        peers.see(&lease, start + Duration::from_secs(5));
        assert!(peers.live(start + TEN).is_empty());
    }

    #[test]
    fn what_is_gone_or_released_is_not_live() {
        let (now, mut peers) = (Instant::now(), Peers::default());
        let mut released = lease("b");
        peers.see_all(&[lease("a"), released.clone(), lease("c")], now);
        assert_eq!(names(&peers.live(now)), ["a", "b", "c"]);
        peers.gone("a");
        released.spec.as_mut().unwrap().holder_identity = None;
        peers.see(&released, now);
        assert_eq!(names(&peers.live(now)), ["c"]);
        peers.see_all(&[], now);
        assert!(peers.live(now).is_empty());
    }

    #[test]
    fn one_that_looks_after_something_else_shares_nothing() {
        let (now, mut peers) = (Instant::now(), Peers::of("s"));
        let mut others = [lease("same"), lease("another")];
        for (lease, scope) in others.iter_mut().zip(["s", "t"]) {
            lease.labels_mut().insert(SCOPE.to_owned(), scope.to_owned());
        }
        peers.see_all(&others, now);
        assert_eq!(names(&peers.live(now)), ["same"]);
        // Once the replica is gone for long, its Lease is deleted nevertheless.
        let late = now + Duration::from_mins(1);
        assert_eq!(peers.abandoned(Duration::from_mins(1), late).len(), 2);
    }

    #[test]
    fn silence_is_noticed_before_the_end_and_what_is_abandoned_long_after() {
        let (start, mut peers) = (Instant::now(), Peers::default());
        peers.see(&lease("a"), start);
        let members = peers.live(start);
        let four = Duration::from_secs(4);
        assert!(!peers.silent(&members, four, start + Duration::from_secs(3)));
        assert!(peers.silent(&members, four, start + four));
        assert_eq!(peers.next_end(&members), Some(start + TEN));
        assert!(peers.abandoned(Duration::from_mins(1), start + Duration::from_secs(59)).is_empty());
        let old = peers.abandoned(Duration::from_mins(1), start + Duration::from_mins(1));
        assert_eq!(old.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a"]);
    }
}
