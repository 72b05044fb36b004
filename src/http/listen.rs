//! Sockets: connections with limits, each served by a router.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::Service;
use super::eviction::{Capacity, Connections, Place};
use super::origin::Origin;
use crate::boundary::{self, caught};
use crate::controllers::context::backoff;

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// There; port 0 is any that is free.
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

/// What is served at one address.
pub(super) struct Front {
    /// What it is called in logs.
    pub(super) name: &'static str,
    pub(super) listen: Listen,
    pub(super) capacity: Capacity,
    pub(super) service: Service,
}

impl Front {
    /// Serves until the operator stops, and what is under way then has ended.
    pub(super) async fn serve(self) {
        let stop = self.service.stop.clone();
        let Some(listener) = self.bind(&stop).await else { return };
        let (connections, conversations) = (Connections::new(self.capacity), TaskTracker::new());
        let mut errors = Errors::default();
        loop {
            let admitted = tokio::select! {
                () = stop.cancelled() => break,
                admitted = errors.accept(&listener, &connections) => admitted,
            };
            let Some((stream, origin, place)) = admitted else { continue };
            let conversation = self.service.clone().converse(stream, origin, place);
            conversations.spawn(caught(boundary::Place::Connection, conversation));
        }
        drop(listener);
        conversations.close();
        conversations.wait().await;
    }

    /// Enforcement goes on without it, so an address that cannot be had is waited for.
    async fn bind(&self, stop: &CancellationToken) -> Option<TcpListener> {
        let Listen::At(address) = self.listen else { return None };
        let mut failures = 0;
        loop {
            match TcpListener::bind(address).await.and_then(|bound| Ok((bound.local_addr()?, bound))) {
                Ok((address, listener)) => {
                    tracing::info!(front = self.name, %address, "listening");
                    return Some(listener);
                }
                Err(error) => tracing::warn!(
                    front = self.name, %address, %error,
                    "cannot listen, will try again: free the address, or give another one"
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

/// How long to wait after an error of `accept`.
const PAUSE: Duration = Duration::from_millis(100);

/// What `accept` fails with, said once until it works again.
#[derive(Default)]
struct Errors {
    said: bool,
}

impl Errors {
    /// The next connection, once there is room for it.
    async fn accept(
        &mut self,
        listener: &TcpListener,
        connections: &Arc<Connections>,
    ) -> Option<(TcpStream, Origin, Place)> {
        match listener.accept().await {
            Ok((stream, peer)) => {
                self.said = false;
                let origin = Origin::from(peer.ip());
                let place = connections.admit(origin).await;
                if place.is_none() {
                    tracing::debug!(?origin, "a connection is refused: this address has too many");
                }
                Some((stream, origin, place?))
            }
            Err(error) => {
                if !std::mem::replace(&mut self.said, true) {
                    let advice = "raise the limit on open files (RLIMIT_NOFILE), or lower --max-connections";
                    tracing::warn!(%error, "a connection cannot be accepted, will try again: {advice}");
                }
                // Most likely there is no file descriptor left. One of these connections can give its own.
                connections.evict_one();
                tokio::time::sleep(PAUSE).await;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_nothing_else() {
        assert_eq!("off".parse(), Ok(Listen::Off));
        assert!("0.0.0.0:8443".parse::<Listen>().is_ok() && "[::]:0".parse::<Listen>().is_ok());
        for text in ["", "8443", ":8443", "localhost:8443", "0.0.0.0", "0.0.0.0:99999", "OFF"] {
            assert!(text.parse::<Listen>().is_err(), "{text:?}");
        }
    }
}
