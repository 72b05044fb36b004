//! One connection: its TLS handshake, its requests, and when it is closed.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
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
        let evicted = permit.evicted();
        tokio::select! {
            biased;
            () = evicted.cancelled() => tracing::debug!(?origin, "closed a connection to admit another one"),
            () = self.serve_stream(stream, origin, &permit) => {}
        }
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
        let stream = Box::pin(stream);
        match self.identity.clone() {
            None => self.serve_http(stream, origin, permit).await,
            Some(identity) => match tokio::time::timeout(HANDSHAKE_LIMIT, handshake(&identity, stream)).await
            {
                Ok(Ok(stream)) => self.serve_http(stream, origin, permit).await,
                Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                Err(_) => tracing::debug!("TLS handshake timed out"),
            },
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
