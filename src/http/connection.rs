//! One connection: its TLS handshake, its requests, and when it is closed.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::response::Response;
use futures::FutureExt as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::eviction::ConnectionPermit;
use super::limits::{CONNECTION_AGE, HANDSHAKE_LIMIT, HEAD_BYTES, WRITE_LIMIT};
use super::origin::Origin;
use super::tls::Identity;

/// Serves the connections of one listening address.
#[derive(Clone)]
pub(super) struct ConnectionHandler {
    pub(super) router: Router,
    /// The certificate, if TLS is enabled.
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) timing: Timing,
    pub(super) stop: CancellationToken,
}

/// The time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// The limit of a request's head, measured from the end of the previous response: this is also how long a
    /// connection may be idle.
    pub(super) head: Duration,
    /// The limit of the last request after a connection is asked to end.
    pub(super) drain: Duration,
    /// Whether a connection may have more than one request.
    pub(super) keep_alive: bool,
}

impl ConnectionHandler {
    /// Serves one connection until it ends or is evicted.
    pub(super) async fn serve_connection(self, stream: TcpStream, origin: Origin, permit: ConnectionPermit) {
        self.serve_stream(stream, origin, &permit).await;
        // The socket is closed by now, so the next connection finds a free file descriptor.
        drop(permit);
    }

    async fn serve_stream(self, stream: TcpStream, origin: Origin, permit: &ConnectionPermit) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "failed to set TCP_NODELAY");
        }
        // A client that does not read its response holds the connection and the response for at most this long.
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_LIMIT));
        let mut stream = Box::pin(stream);
        let evicted = permit.evicted();
        let Some(identity) = self.identity.clone() else {
            until(&evicted, origin, self.serve_http(&mut stream, origin, permit)).await;
            return;
        };
        let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, handshake(&identity, stream));
        match until(&evicted, origin, handshake).await {
            Some(Ok(Ok(mut stream))) => {
                until(&evicted, origin, self.serve_http(&mut stream, origin, permit)).await;
                // To a client, an end without close_notify looks like an attack, and not like that of an idle connection. What
                // cannot be sent at once is not waited for.
                let _ = stream.shutdown().now_or_never();
            }
            Some(Ok(Err(error))) => tracing::debug!(%error, "TLS handshake failed"),
            Some(Err(_)) => tracing::debug!("TLS handshake timed out"),
            None => {}
        }
    }

    /// Serves the requests of one connection.
    async fn serve_http<IO>(self, stream: IO, origin: Origin, permit: &ConnectionPermit)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let Self { router, timing, stop, .. } = self;
        let service = service_fn(|request| respond(router.clone(), request, origin, permit));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(timing.head)
            .keep_alive(timing.keep_alive)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = async { tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(CONNECTION_AGE) => {}
            }} => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(timing.drain, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

/// Waits for `work`; `None`: the connection was evicted before.
async fn until<T>(evicted: &CancellationToken, origin: Origin, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = evicted.cancelled() => {
            tracing::debug!(?origin, "closed a connection to admit another one");
            None
        }
        done = work => Some(done),
    }
}

async fn handshake(
    identity: &Identity,
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
) -> io::Result<tokio_rustls::server::TlsStream<Pin<Box<TimeoutStream<TcpStream>>>>> {
    TlsAcceptor::from(identity.config().await?).accept(stream).await
}

/// Handles one request. Its connection is busy until the last byte of the response has been written.
async fn respond(
    router: Router,
    request: hyper::Request<Incoming>,
    origin: Origin,
    permit: &ConnectionPermit,
) -> io::Result<Response> {
    let busy = permit.begin().ok_or_else(|| io::Error::other("the connection is being closed"))?;
    let mut request: Request = request.map(Body::new);
    request.extensions_mut().insert(origin);
    let Ok(response) = router.oneshot(request).await;
    if response.body().is_end_stream() {
        return Ok(response);
    }
    // Unlike a custom body type, this keeps the body's size hint.
    Ok(response.map(|body| {
        Body::new(body.map_err(move |error| {
            let _busy = &busy;
            error
        }))
    }))
}
