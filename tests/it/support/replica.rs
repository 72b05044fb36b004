//! Several replicas of the operator, each a process of its own with a Lease of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::https::SERVE;
use super::{Operator, PATIENCE, World, rbac};

/// A replica of the operator.
pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) operator: Operator,
}

impl World {
    /// Creates a new world whose operators may use Leases.
    pub(crate) async fn with_leases(test: &str) -> Self {
        let world = Self::new(test).await;
        rbac::apply(&world.client, &world.namespace, rbac::LEASES).await;
        world
    }

    /// Starts a replica of this name that serves everything.
    pub(crate) fn replica(&self, name: &str, env: &[(&str, &str)]) -> Replica {
        self.replica_by(&self.kubeconfig(), name, env)
    }

    /// Does the same with this kubeconfig.
    pub(crate) fn replica_by(&self, kubeconfig: &Path, name: &str, env: &[(&str, &str)]) -> Replica {
        let log = self.file(&format!("log-{name}-{}", uuid::Uuid::new_v4().simple()), "");
        let own = [("LEASE_NAMESPACE", self.namespace.as_str()), ("POD_NAME", name), ("METRICS", "open")];
        let env = [&SERVE[..], &own[..], env].concat();
        let operator = Operator::start(&self.namespace, kubeconfig, log.into(), &env);
        Replica { name: name.to_owned(), operator }
    }
}

impl Replica {
    /// The value of a metric without labels.
    pub(crate) async fn figure(&self, name: &str) -> usize {
        let page = self.operator.metrics().await;
        let value =
            page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        value.unwrap_or_else(|| panic!("{}: no {name}:\n{page}", self.name)).parse().unwrap()
    }

    /// The stores for which it has series.
    pub(crate) async fn stores(&self) -> BTreeSet<String> {
        let page = self.operator.metrics().await;
        let lines =
            page.lines().filter_map(|line| line.strip_prefix("jobexec_store_sweep_interval_seconds{"));
        lines
            .map(|line| line.split("store=\"").nth(1).unwrap().split('"').next().unwrap().to_owned())
            .collect()
    }

    /// Asks it to stop; it must end without an error.
    pub(crate) async fn stop(self) {
        let log = self.operator.log_file();
        let status = tokio::task::spawn_blocking(move || self.operator.stop()).await.unwrap();
        assert!(status.success(), "{status}\n{}", std::fs::read_to_string(log).unwrap());
    }
}

/// Waits until the replicas see exactly each other, and all hold their Leases.
pub(crate) async fn settled(replicas: &[&Replica]) {
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

/// The stores of each replica; each store must have exactly one owner.
pub(crate) async fn owners(replicas: &[&Replica], stores: usize) -> BTreeMap<String, BTreeSet<String>> {
    let mut owners = BTreeMap::new();
    for replica in replicas {
        owners.insert(replica.name.clone(), replica.stores().await);
    }
    let all: BTreeSet<_> = owners.values().flatten().collect();
    let sum: usize = owners.values().map(BTreeSet::len).sum();
    assert_eq!((all.len(), sum), (stores, stores), "{owners:#?}");
    owners
}

/// Waits until this many stores are shared between the replicas, and returns how many each has.
pub(crate) async fn shared(replicas: &[&Replica], stores: usize) -> Vec<usize> {
    settled(replicas).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for replica in replicas {
        while replica.figure("jobexec_stores_owned").await != replica.stores().await.len() {
            assert!(tokio::time::Instant::now() < deadline, "{} has other stores than it says", replica.name);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    owners(replicas, stores).await.values().map(BTreeSet::len).collect()
}
