//! Why a replica gives up.

use std::time::Duration;

use crate::boundary::Panicked;

/// Why a replica cannot work beside others, or must not go on. It ends then, and Kubernetes starts it again.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// It has no right to Leases.
    #[error(
        "may not {verb} Leases in the namespace {namespace}: apply manifests/install/leases.yaml there, which lets the ServiceAccount get, list, watch, create, update and delete leases, or leave out --lease-namespace and run one replica only"
    )]
    Forbidden {
        /// What it tried.
        verb: &'static str,
        /// Where.
        namespace: String,
    },
    /// There is no such namespace.
    #[error(
        "there is no namespace {0} for Leases: create it, or correct --lease-namespace (LEASE_NAMESPACE)"
    )]
    NamespaceMissing(String),
    /// Another process has the same name.
    #[error(
        "the Lease {name} is now held by {holder}: give each replica a name of its own with --identity (POD_NAME), and let nobody else write this Lease"
    )]
    Taken {
        /// The Lease.
        name: String,
        /// Who holds it.
        holder: String,
    },
    /// It could not be renewed.
    #[error(
        "the Lease {name} could not be renewed for {span:?}, others take over, and this replica ends: {why}. See that the API server can be reached and that nothing refuses updates of leases"
    )]
    NotRenewed {
        /// The Lease.
        name: String,
        /// For how long.
        span: Duration,
        /// What was wrong the last time.
        why: String,
    },
    /// The task that renews the Lease, or that watches the objects, met a defect: nothing else would do its work.
    #[error("this replica cannot go on and ends, to be started again: {0}")]
    Ended(Panicked),
}
