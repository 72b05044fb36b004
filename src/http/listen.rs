//! Listening sockets, with limits on their connections.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::ConnectionHandler;
use super::eviction::{Capacity, ConnectionPermit, Connections};
use super::origin::Origin;
use crate::boundary::{self, caught};
use crate::kubernetes::backoff;

/// The address of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// The listener is disabled.
    Off,
    /// The address to bind. Port 0 means any free port.
    At(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|_| {
            "write an address and a port, for example 0.0.0.0:8443 or [::]:8443, or off".to_owned()
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// One listening address and the handler of its connections.
pub(super) struct HttpListener {
    /// The name in logs.
    pub(super) name: &'static str,
    pub(super) listen: Listen,
    pub(super) capacity: Capacity,
    pub(super) handler: ConnectionHandler,
}

impl HttpListener {
    /// Serves until the operator stops and the pending requests have ended.
    pub(super) async fn serve(self) {
        let stop = self.handler.stop.clone();
        let Some(listener) = self.bind(&stop).await else { return };
        let (connections, tasks) = (Connections::new(self.capacity), TaskTracker::new());
        let mut errors = AcceptErrors::default();
        loop {
            let admitted = tokio::select! {
                () = stop.cancelled() => break,
                admitted = errors.accept(&listener, &connections) => admitted,
            };
            let Some((stream, origin, permit)) = admitted else { continue };
            let task = self.handler.clone().serve_connection(stream, origin, permit);
            tasks.spawn(caught(boundary::Place::Connection, task));
        }
        drop(listener);
        tasks.close();
        tasks.wait().await;
    }

    /// Binds the address, and retries until it succeeds: enforcement works without the API.
    async fn bind(&self, stop: &CancellationToken) -> Option<TcpListener> {
        let Listen::At(address) = self.listen else { return None };
        let mut failures = 0;
        loop {
            match TcpListener::bind(address).await.and_then(|bound| Ok((bound.local_addr()?, bound))) {
                Ok((address, listener)) => {
                    tracing::info!(listener = self.name, %address, "listening");
                    return Some(listener);
                }
                Err(error) => tracing::warn!(
                    listener = self.name, %address, %error,
                    "cannot listen, will retry: free the address, or set another one"
                ),
            }
            failures += 1;
            tokio::select! {
                () = tokio::time::sleep(backoff(failures)) => {}
                () = stop.cancelled() => return None,
            }
        }
    }
}

/// The delay after an error of `accept`.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Logs errors of `accept` once, until it succeeds again.
#[derive(Default)]
struct AcceptErrors {
    logged: bool,
}

impl AcceptErrors {
    /// Returns the next connection, once one is admitted.
    async fn accept(
        &mut self,
        listener: &TcpListener,
        connections: &Arc<Connections>,
    ) -> Option<(TcpStream, Origin, ConnectionPermit)> {
        match listener.accept().await {
            Ok((stream, peer)) => {
                self.logged = false;
                let origin = Origin::from(peer.ip());
                let permit = connections.admit(origin).await;
                if permit.is_none() {
                    tracing::debug!(?origin, "rejected a connection: this address has too many");
                }
                Some((stream, origin, permit?))
            }
            Err(error) => {
                if !std::mem::replace(&mut self.logged, true) {
                    let advice = "raise the limit on open files (RLIMIT_NOFILE), or lower --max-connections";
                    tracing::warn!(%error, "cannot accept connections, will retry: {advice}");
                }
                // Most likely the process has no free file descriptor. Closing one of these connections frees one.
                connections.evict_one();
                tokio::time::sleep(RETRY_DELAY).await;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_with_a_port_are_valid() {
        assert_eq!("off".parse(), Ok(Listen::Off));
        assert!("0.0.0.0:8443".parse::<Listen>().is_ok() && "[::]:0".parse::<Listen>().is_ok());
        for text in ["", "8443", ":8443", "localhost:8443", "0.0.0.0", "0.0.0.0:99999", "OFF"] {
            assert!(text.parse::<Listen>().is_err(), "{text:?}");
        }
    }
}
