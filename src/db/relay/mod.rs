//! The transport between sqlx and a server. sqlx has no hook for one and trusts what a server sends: it panics at a message that
//! is too short, allocates what a header announces, and logs notices. So sqlx connects to a Unix socket of this process, and the
//! relay behind it dials, protects the connection, and lets through only what is well formed and within limits
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
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio_util::task::AbortOnDropHandle;

pub(super) use fault::Fault;

use self::memory::Memory;
use self::upstream::Endpoint;
use super::url::Login;
use crate::net::Dialer;

/// How connections to servers are made. Its clones share a limit of memory.
#[derive(Clone, Debug)]
pub struct Transport {
    dialer: Dialer,
    memory: Arc<Memory>,
}

impl Transport {
    /// To addresses that `dialer` connects to.
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer, memory: Arc::default() }
    }

    /// A way to the server of this login, open until its last clone is dropped. Connections that were made by then go on.
    pub(super) fn route(&self, login: &Login) -> std::io::Result<Route> {
        let given = &login.options;
        let endpoint = Endpoint {
            host: given.get_host().to_owned(),
            port: given.get_port(),
            mode: given.get_ssl_mode(),
            authority: login.ca.clone(),
            connect_timeout: login.connect_timeout,
            dialer: self.dialer.clone(),
        };
        let door = door::Door::open(given.get_port())?;
        let options = given.clone().socket(door.folder()).ssl_mode(PgSslMode::Disable);
        let accepting = tokio::spawn(door.serve(Arc::new(endpoint), self.memory.clone()));
        let relay = Arc::new(AbortOnDropHandle::new(accepting));
        Ok(Route { options, connect_timeout: login.connect_timeout, _relay: relay })
    }
}

/// A way to one server for one login.
#[derive(Clone)]
pub(super) struct Route {
    /// For sqlx: they lead to the relay. They must not be used once the route is dropped.
    options: PgConnectOptions,
    connect_timeout: Duration,
    _relay: Arc<AbortOnDropHandle<()>>,
}

impl fmt::Debug for Route {
    /// Without the options, whose own `Debug` shows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Route(…)")
    }
}

impl Route {
    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// How long a connection may take, login included. The relay ends it then; whoever waits for it adds a [`GRACE`], to hear why.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }
}

/// See [`Route::connect_timeout`].
pub(super) const GRACE: Duration = Duration::from_secs(1);
