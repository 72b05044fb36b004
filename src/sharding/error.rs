//! The reasons why a replica gives up.

use std::time::Duration;

use crate::boundary::Panicked;

/// The reason why a replica cannot share stores with others, or must not go on. It ends then, and Kubernetes starts it
/// again.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// It has no permission for Leases.
    #[error(
        "may not {verb} Leases in the namespace {namespace}: apply manifests/install/leases.yaml there, which lets the ServiceAccount get, list, watch, create, update and delete leases, or leave out --lease-namespace and run one replica only"
    )]
    Forbidden {
        /// The verb of the refused request.
        verb: &'static str,
        /// The namespace of the Leases.
        namespace: String,
    },
    /// The namespace does not exist.
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
        /// The holder of the Lease.
        holder: String,
    },
    /// The Lease could not be renewed.
    #[error(
        "the Lease {name} could not be renewed for {span:?}, others take over, and this replica ends: {why}. See that the API server can be reached and that nothing refuses updates of leases"
    )]
    NotRenewed {
        /// The Lease.
        name: String,
        /// The time for which it could not be renewed.
        span: Duration,
        /// The last error.
        why: String,
    },
    /// The task that renews the Lease or watches the objects panicked: no other task would do its work.
    #[error("this replica cannot go on and ends, to be started again: {0}")]
    Ended(Panicked),
}
