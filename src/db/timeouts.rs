//! How long the operator waits for a database, where neither a URL nor a spec says.

use std::time::Duration;

/// How long to wait for a connection from the server, unless the URL says otherwise (`connect_timeout`).
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait while other stores use all connections of the pool.
pub(super) const TURN_TIMEOUT: Duration = Duration::from_secs(10);
