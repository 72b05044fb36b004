//! How stores and policies are at one moment.

use std::sync::Arc;

use super::Tally;
use crate::api::{ExecutionPolicyStatus, ExecutionStoreStatus};

/// How all is that the operator looks after.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// How this replica stands among the others.
    pub replica: ReplicaNow,
    /// The stores.
    pub stores: Vec<StoreNow>,
    /// What this replica did to stores that others look after.
    pub done_to_others: Vec<Done>,
    /// The policies.
    pub policies: Vec<PolicyNow>,
    /// The caches of objects.
    pub caches: Vec<CacheNow>,
}

/// How the cache of one kind is.
#[derive(Clone, Copy, Debug)]
pub struct CacheNow {
    /// The kind, in the plural and in lower case.
    pub kind: &'static str,
    /// An estimate of the memory that its objects take, in bytes.
    pub bytes: u64,
    /// How many objects are refused.
    pub refused: usize,
}

/// How this replica stands among the others.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplicaNow {
    /// Whether it holds its Lease, or needs none.
    pub lease_held: bool,
    /// How many replicas are alive.
    pub members: usize,
    /// How many stores it looks after.
    pub stores_owned: usize,
}

/// What this replica did to a store that another one looks after, for who asked it to.
#[derive(Debug)]
pub struct Done {
    /// The store's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What was done.
    pub tally: Arc<Tally>,
}

/// How one store is.
#[derive(Debug)]
pub struct StoreNow {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What the last look at it came to.
    pub status: Option<Arc<ExecutionStoreStatus>>,
    /// How often it is swept at least, in seconds; `None`: its spec cannot be read.
    pub sweep_interval: Option<f64>,
    /// Its connections, if there are any.
    pub pool: Option<Pool>,
    /// What was done to it.
    pub tally: Arc<Tally>,
}

/// The connections that a store uses, and others that log in alike.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// How many are open.
    pub open: u32,
    /// How many of those nobody uses.
    pub idle: u32,
    /// How many there may be.
    pub limit: u32,
    /// How many stores share them.
    pub stores: usize,
}

/// How one policy is.
#[derive(Debug)]
pub struct PolicyNow {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The store that it is for.
    pub store: String,
    /// What Kubernetes was told of it.
    pub status: Option<ExecutionPolicyStatus>,
    /// The smallest and the largest of its timeouts from history, each divided by the one that was configured.
    pub ratios: Option<(f64, f64)>,
}
