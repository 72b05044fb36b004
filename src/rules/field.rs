//! The fields of specs that become settings of a rule, by their names.

/// The maximum run time.
pub const TIMEOUT: &str = "timeout";
/// A maximum run time from history, in place of [`TIMEOUT`].
pub const DYNAMIC_TIMEOUT: &str = "dynamicTimeout";
/// The time to add to the timeout.
pub const EXTEND_BY: &str = "extendBy";
/// The time to wait after the timeout.
pub const GRACE_PERIOD: &str = "gracePeriod";
/// The maximum time without a heartbeat.
pub const HEARTBEAT_TIMEOUT: &str = "heartbeatTimeout";
/// The action on a stale execution.
pub const ON_STALE: &str = "onStale";
/// For which reasons, how often and when a stale execution runs again.
pub const RETRY: &str = "retry";
/// The run time after which the operator warns.
pub const WARN_AFTER: &str = "warnAfter";
