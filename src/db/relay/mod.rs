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
use std::io;
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

    /// A way to the server of this login, open until its last clone is dropped. Its connections end with it.
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

/// A way to one server for one login.
#[derive(Clone)]
pub(super) struct Route {
    /// For sqlx: they lead to the relay. They must not be used once the route is dropped.
    options: PgConnectOptions,
    endpoint: Arc<Endpoint>,
    memory: Arc<Memory>,
    _relay: Arc<AbortOnDropHandle<()>>,
}

impl fmt::Debug for Route {
    /// Without the options, whose own `Debug` shows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Route(…)")
    }
}

impl Route {
    fn open(options: &PgConnectOptions, endpoint: Arc<Endpoint>, memory: Arc<Memory>) -> io::Result<Self> {
        let door = door::Door::open(endpoint.port)?;
        let options = options.clone().socket(door.folder()).ssl_mode(PgSslMode::Disable);
        let relay = tokio::spawn(door.serve(endpoint.clone(), memory.clone()));
        Ok(Self { options, endpoint, memory, _relay: Arc::new(AbortOnDropHandle::new(relay)) })
    }

    /// Another way to the same server. Its connections end when its own last clone is dropped.
    pub(super) fn again(&self) -> io::Result<Self> {
        Self::open(&self.options, self.endpoint.clone(), self.memory.clone())
    }

    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// How long a connection may take, login included. The relay ends it then; whoever waits for it adds a [`GRACE`], to hear why.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.endpoint.connect_timeout
    }
}

/// See [`Route::connect_timeout`].
pub(super) const GRACE: Duration = Duration::from_secs(1);
