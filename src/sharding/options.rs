//! How a replica takes part in sharding.

use std::time::Duration;

use super::lease;

/// The name of a replica, and where it meets the others.
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
    /// How long a Lease holds that is not renewed, from 3 s to 60 s; whole seconds.
    pub duration: Duration,
}

impl Options {
    pub(super) fn lease_name(&self) -> String {
        lease::name(&self.group, &self.identity)
    }

    pub(super) fn selector(&self) -> String {
        format!("{}={}", lease::LABEL, self.group)
    }

    /// How often the Lease is renewed.
    pub(super) fn retry_period(&self) -> Duration {
        self.duration / 5
    }

    /// How long a replica goes on that cannot renew its Lease: well shorter than others wait.
    pub(super) fn renew_deadline(&self) -> Duration {
        self.duration * 3 / 5
    }

    /// How long one call may take.
    pub(super) fn call_limit(&self) -> Duration {
        self.renew_deadline() / 2
    }
}
