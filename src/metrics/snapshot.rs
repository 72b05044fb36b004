//! The current state of stores and policies.

use std::sync::Arc;

use super::store_counters::StoreCounters;
use crate::api::{ExecutionPolicyStatus, ExecutionStoreStatus};

/// The current state of everything that the operator manages.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// This replica's share of the stores.
    pub replica: ReplicaNow,
    /// The stores.
    pub stores: Vec<StoreSnapshot>,
    /// What this replica did to stores that other replicas manage.
    pub foreign_stores: Vec<Done>,
    /// The policies.
    pub policies: Vec<PolicyNow>,
    /// The caches of objects.
    pub caches: Vec<CacheNow>,
}

/// The cache of one kind.
#[derive(Clone, Copy, Debug)]
pub struct CacheNow {
    /// The kind: plural, lower case.
    pub kind: &'static str,
    /// Estimated memory for its objects, in bytes.
    pub bytes: u64,
    /// How many objects are refused.
    pub refused: usize,
}

/// This replica's share of the stores.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplicaNow {
    /// Whether it holds its Lease, or needs none.
    pub lease_held: bool,
    /// How many replicas are alive.
    pub members: usize,
    /// How many stores it manages.
    pub stores_owned: usize,
}

/// What this replica did, at the request of clients, to a store that another replica manages.
#[derive(Debug)]
pub struct Done {
    /// The store's namespace.
    pub namespace: String,
    /// The name of the store.
    pub name: String,
    /// Its counters.
    pub counters: Arc<StoreCounters>,
}

/// The state of one store.
#[derive(Debug)]
pub struct StoreSnapshot {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The result of its last reconciliation.
    pub status: Option<Arc<ExecutionStoreStatus>>,
    /// The longest time between two sweeps, in seconds; `None` if its spec cannot be read.
    pub sweep_interval: Option<f64>,
    /// Its connection pool, if it has one.
    pub pool: Option<Pool>,
    /// Its counters.
    pub counters: Arc<StoreCounters>,
}

/// A connection pool, which stores with the same login share.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// Open connections.
    pub open: u32,
    /// Open connections that are idle.
    pub idle: u32,
    /// The largest number of connections.
    pub limit: u32,
    /// How many stores share the pool.
    pub stores: usize,
}

/// The state of one policy.
#[derive(Debug)]
pub struct PolicyNow {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The store that it applies to.
    pub store: String,
    /// Its published status.
    pub status: Option<ExecutionPolicyStatus>,
    /// The smallest and the largest of its timeouts from history, each divided by the configured one.
    pub ratios: Option<(f64, f64)>,
}
