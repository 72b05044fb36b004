//! The configuration of sharding.

use std::time::Duration;

use super::lease;

/// The name of a replica, and the place of the Leases.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace of the Leases.
    pub namespace: String,
    /// The installation: only Leases of this group count.
    pub group: String,
    /// The scope of this replica ([`super::scope`]): it shares stores only with replicas of the same scope.
    pub scope: String,
    /// The name of this replica, which no other one has at the same time.
    pub identity: String,
    /// The time for which a Lease is valid without a renewal, from 3 s to 60 s; whole seconds.
    pub duration: Duration,
}

impl Options {
    pub(super) fn lease_name(&self) -> String {
        lease::name(&self.group, &self.identity)
    }

    pub(super) fn selector(&self) -> String {
        format!("{}={}", lease::LABEL, self.group)
    }

    /// The interval between renewals of the Lease.
    pub(super) fn retry_period(&self) -> Duration {
        self.duration / 5
    }

    /// The time for which a replica goes on that cannot renew its Lease: well shorter than others wait.
    pub(super) fn renew_deadline(&self) -> Duration {
        self.duration * 3 / 5
    }

    /// The time limit of one call.
    pub(super) fn call_limit(&self) -> Duration {
        self.renew_deadline() / 2
    }
}
