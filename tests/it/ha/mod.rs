//! Several replicas of the operator, each a process of its own with a Lease of its own.

mod failover;
mod lease;
mod reads;
mod share;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;

use crate::support::https::SERVE;
use crate::support::{Operator, PATIENCE, World, rbac};

/// Leases that end soon, where a test waits for that; on a busy machine shorter ones are lost by replicas that live.
const SHORT: (&str, &str) = ("LEASE_DURATION", "6s");

/// A replica of the operator.
struct Replica {
    name: String,
    operator: Operator,
}

impl World {
    /// A fresh world whose operators may have Leases.
    async fn with_leases(test: &str) -> Self {
        let world = Self::new(test).await;
        rbac::apply(&world.client, &world.namespace, rbac::LEASES).await;
        world
    }

    /// Starts a replica of this name that serves everything.
    fn replica(&self, name: &str, env: &[(&str, &str)]) -> Replica {
        self.replica_by(&self.kubeconfig(), name, env)
    }

    /// The same, by this kubeconfig.
    fn replica_by(&self, kubeconfig: &Path, name: &str, env: &[(&str, &str)]) -> Replica {
        let log = self.file(&format!("log-{name}-{}", uuid::Uuid::new_v4().simple()), "");
        let own = [("LEASE_NAMESPACE", self.namespace.as_str()), ("POD_NAME", name), ("METRICS", "open")];
        let env = [&SERVE[..], &own[..], env].concat();
        let operator = Operator::start(&self.namespace, kubeconfig, log.into(), &env);
        Replica { name: name.to_owned(), operator }
    }

    /// The Lease of a replica, if it is there.
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
    /// A metric without labels.
    async fn figure(&self, name: &str) -> usize {
        let page = self.operator.metrics().await;
        let value =
            page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        value.unwrap_or_else(|| panic!("{}: no {name}:\n{page}", self.name)).parse().unwrap()
    }

    /// The stores that it has series of.
    async fn stores(&self) -> BTreeSet<String> {
        let page = self.operator.metrics().await;
        let lines =
            page.lines().filter_map(|line| line.strip_prefix("jobexec_store_sweep_interval_seconds{"));
        lines
            .map(|line| line.split("store=\"").nth(1).unwrap().split('"').next().unwrap().to_owned())
            .collect()
    }

    /// Waits until it looks after a store.
    async fn has(&self, store: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.stores().await.contains(store) {
            assert!(tokio::time::Instant::now() < deadline, "{} has not {store}", self.name);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks it to stop; it ends well.
    async fn stop(self) {
        let log = self.operator.log_file();
        let status = tokio::task::spawn_blocking(move || self.operator.stop()).await.unwrap();
        assert!(status.success(), "{status}\n{}", std::fs::read_to_string(log).unwrap());
    }

    /// What it said on its way out.
    fn last_words(&self) -> String {
        let log = self.operator.own_log();
        log.lines().filter(|line| line.starts_with("jobexec: ")).collect()
    }
}

/// Waits until the replicas see each other, and none else, and all hold their Leases.
async fn settled(replicas: &[&Replica]) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for replica in replicas {
        loop {
            let (held, members) =
                (replica.figure("jobexec_lease_held").await, replica.figure("jobexec_members").await);
            if (held, members) == (1, replicas.len()) {
                break;
            }
            let late = tokio::time::Instant::now() >= deadline;
            assert!(!late, "{} sees {members}, held {held}\n{}", replica.name, replica.operator.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Which replica has which stores; each store is had by one, and all are had.
async fn owners(replicas: &[&Replica], stores: usize) -> BTreeMap<String, BTreeSet<String>> {
    let mut owners = BTreeMap::new();
    for replica in replicas {
        owners.insert(replica.name.clone(), replica.stores().await);
    }
    let all: BTreeSet<_> = owners.values().flatten().collect();
    let sum: usize = owners.values().map(BTreeSet::len).sum();
    assert_eq!((all.len(), sum), (stores, stores), "{owners:#?}");
    owners
}

/// The replica that has the store, and the other one.
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
