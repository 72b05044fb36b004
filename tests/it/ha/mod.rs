//! Several replicas of the operator, each a process of its own with a Lease of its own.

mod failover;
mod lease;
mod reads;
mod share;

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;

use crate::support::replica::Replica;
use crate::support::{PATIENCE, World};

/// Leases with a short duration, for tests that wait for the end; on a busy machine, live replicas lose shorter ones.
const SHORT: (&str, &str) = ("LEASE_DURATION", "6s");

impl World {
    /// The Lease of a replica, if it exists.
    async fn lease(&self, name: &str) -> Option<Lease> {
        self.api::<Lease>().get_opt(&format!("jobexec-operator-{name}")).await.unwrap()
    }

    /// Waits until the Lease of a replica is as wanted.
    async fn lease_until(&self, name: &str, wanted: impl Fn(Option<&Lease>) -> bool) -> Option<Lease> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let lease = self.lease(name).await;
            if wanted(lease.as_ref()) {
                return lease;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "the Lease of {name} is not as wanted: {lease:#?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Replica {
    /// Waits until it manages a store.
    async fn has(&self, store: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.stores().await.contains(store) {
            assert!(tokio::time::Instant::now() < deadline, "{} has not {store}", self.name);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its last log lines before it ended.
    fn last_words(&self) -> String {
        let log = self.operator.own_log();
        log.lines().filter(|line| line.starts_with("jobexec: ")).collect()
    }
}

/// The replica that manages the store, and the other one.
async fn first_has(store: &str, one: Replica, other: Replica) -> (Replica, Replica) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match (one.stores().await.contains(store), other.stores().await.contains(store)) {
            (true, false) => return (one, other),
            (false, true) => return (other, one),
            _ => {}
        }
        assert!(tokio::time::Instant::now() < deadline, "nobody has {store}\n{}", one.operator.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
