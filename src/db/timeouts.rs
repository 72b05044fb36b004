//! Timeouts for a database that neither a URL nor a spec sets.

use std::time::Duration;

/// The time to wait for a connection from the server, unless the URL sets another (`connect_timeout`).
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// The time to wait while other stores use all connections of the pool.
pub(super) const TURN_TIMEOUT: Duration = Duration::from_secs(10);
