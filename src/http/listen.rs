//! Sockets: connections with limits, each served by a router.

use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::limits::{CONNECTION_AGE, HANDSHAKE_LIMIT, HEAD_BYTES, HEAD_LIMIT, Limits};
use super::tls::Identity;
use crate::boundary::{Place, caught};
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
    /// With TLS, or without.
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) limits: Limits,
    pub(super) router: Router,
}

impl Front {
    /// Serves until `stop` is cancelled, and what is under way then has ended.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let Some(listener) = self.bind(&stop).await else { return };
        let (slots, conversations) = (Arc::new(Semaphore::new(self.limits.connections)), TaskTracker::new());
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&listener, &slots) => accepted,
            };
            let Some((stream, slot)) = accepted else { continue };
            let (identity, router) = (self.identity.clone(), self.router.clone());
            let answering = Answering { router, last: self.limits.request, stop: stop.clone() };
            conversations.spawn(caught(Place::Connection, converse(stream, slot, identity, answering)));
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

/// The next connection, once there is room for one.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            // Out of file descriptors, most likely: they are not freed faster by asking faster.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn converse(
    stream: TcpStream,
    slot: OwnedSemaphorePermit,
    identity: Option<Arc<Identity>>,
    answering: Answering,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "answers may come late");
    }
    match identity {
        None => answering.answer(stream).await,
        Some(identity) => {
            let shake = async {
                let config = identity.config().await?;
                TlsAcceptor::from(config).accept(stream).await
            };
            match tokio::time::timeout(HANDSHAKE_LIMIT, shake).await {
                Ok(Ok(stream)) => answering.answer(stream).await,
                Ok(Err(error)) => tracing::debug!(%error, "TLS could not be agreed on"),
                Err(_) => tracing::debug!("the TLS handshake took too long"),
            }
        }
    }
    drop(slot);
}

/// How the requests of a connection are answered.
struct Answering {
    router: Router,
    /// How long the last request may take once the connection is to end.
    last: Duration,
    stop: CancellationToken,
}

impl Answering {
    /// Answers the requests of one connection.
    async fn answer<IO>(self, stream: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.router));
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = async { tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(CONNECTION_AGE) => {}
            }} => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(self.last, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
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
