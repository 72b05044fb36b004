//! The transport between sqlx and a server. sqlx has no hook for a transport and trusts what a server sends: it panics if a message
//! is too short, allocates as many bytes as a header announces, and logs notices. So sqlx connects to a Unix socket of this
//! process, and the relay behind it dials, protects the connection, and passes on only what is well formed and within the limits
//! (docs/decisions/0001-database-transport.md).
//!
//! ```text
//! sqlx ⇄ door (Unix socket) ⇄ pump ⇄ upstream (address check, TCP, TLS) ⇄ server
//!                              └ filter (pure): message lengths, login, row, parameters
//! ```

mod door;
mod fault;
mod filter;
mod login;
mod memory;
mod parameters;
mod pump;
mod shape;
mod tls;
mod upstream;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

pub(super) use fault::Fault;

use self::memory::Memory;
use self::upstream::Endpoint;
use super::url::Login;
use crate::net::Dialer;

/// Connects to servers. All clones share one memory limit.
#[derive(Clone, Debug)]
pub struct Transport {
    dialer: Dialer,
    memory: Arc<Memory>,
}

impl Transport {
    /// Creates a transport to the addresses that `dialer` allows.
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer, memory: Arc::default() }
    }

    /// Opens a route to the server of this login. The route and its connections end when its last clone is dropped.
    pub(super) fn route(&self, login: &Login) -> io::Result<Route> {
        let given = &login.options;
        let endpoint = Endpoint {
            host: given.get_host().to_owned(),
            port: given.get_port(),
            mode: given.get_ssl_mode(),
            authority: login.ca.clone(),
            connect_timeout: login.connect_timeout,
            dialer: self.dialer.clone(),
        };
        Route::open(given, Arc::new(endpoint), self.memory.clone())
    }
}

/// A route to one server for one login.
#[derive(Clone)]
pub(super) struct Route {
    /// The options for sqlx, which lead to the relay. They must not be used after the route is dropped.
    options: PgConnectOptions,
    endpoint: Arc<Endpoint>,
    memory: Arc<Memory>,
    relay: Arc<Relay>,
}

/// The tasks of a route. All of them end when this is dropped.
struct Relay {
    connections: TaskTracker,
    _cut: DropGuard,
    _door: AbortOnDropHandle<()>,
}

impl fmt::Debug for Route {
    /// Omits the options, whose own `Debug` shows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Route(…)")
    }
}

impl Route {
    fn open(options: &PgConnectOptions, endpoint: Arc<Endpoint>, memory: Arc<Memory>) -> io::Result<Self> {
        let door = door::Door::open(endpoint.port)?;
        let options = options.clone().socket(door.folder()).ssl_mode(PgSslMode::Disable);
        let (connections, cut) = (TaskTracker::new(), CancellationToken::new());
        let door = door.serve(endpoint.clone(), memory.clone(), connections.clone(), cut.clone());
        let relay =
            Relay { connections, _cut: cut.drop_guard(), _door: AbortOnDropHandle::new(tokio::spawn(door)) };
        Ok(Self { options, endpoint, memory, relay: Arc::new(relay) })
    }

    /// Opens another route to the same server. Its connections end when its own last clone is dropped.
    pub(super) fn again(&self) -> io::Result<Self> {
        Self::open(&self.options, self.endpoint.clone(), self.memory.clone())
    }

    /// Waits until all connections that sqlx has closed are closed at the server too, but not for long. A process that ends before
    /// that leaves sessions that the server counts as abandoned.
    pub(super) async fn closed(&self) {
        self.relay.connections.close();
        // A connection that is still in use is not waited for.
        let _ = tokio::time::timeout(pump::FAREWELL, self.relay.connections.wait()).await;
    }

    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Returns how long a connection may take, login included. The relay then ends it; a caller that waits for the connection adds
    /// a [`GRACE`] in order to receive the reason.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.endpoint.connect_timeout
    }
}

/// The time that a caller adds to [`Route::connect_timeout`].
pub(super) const GRACE: Duration = Duration::from_secs(1);
