//! One connection: its TLS handshake, its requests, and the moments at which it is closed.

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

use super::eviction::Place;
use super::limits::{CONNECTION_AGE, HANDSHAKE_LIMIT, HEAD_BYTES, WRITE_LIMIT};
use super::origin::Origin;
use super::tls::Identity;

/// How the connections of one listening address are served.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) router: Router,
    /// With TLS, or without.
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) timing: Timing,
    pub(super) stop: CancellationToken,
}

/// How long the parts of a connection may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// The head of a request, from the end of the last answer: also how long a connection may be idle.
    pub(super) head: Duration,
    /// The last request once the connection is to end.
    pub(super) last: Duration,
    /// Whether further requests may follow the first.
    pub(super) keep_alive: bool,
}

impl Service {
    /// Serves one connection until it ends or is evicted.
    pub(super) async fn converse(self, stream: TcpStream, origin: Origin, place: Place) {
        let evicted = place.evicted();
        tokio::select! {
            biased;
            () = evicted.cancelled() => tracing::debug!(?origin, "a connection is closed to admit another one"),
            () = self.talk(stream, origin, &place) => {}
        }
        // The socket is closed by now, so that whoever takes this place finds a file descriptor.
        drop(place);
    }

    async fn talk(self, stream: TcpStream, origin: Origin, place: &Place) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "answers may come late");
        }
        // A client that does not read its answer holds its connection, and the answer, no longer than this.
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_LIMIT));
        let stream = Box::pin(stream);
        match self.identity.clone() {
            None => self.answer(stream, origin, place).await,
            Some(identity) => match tokio::time::timeout(HANDSHAKE_LIMIT, handshake(&identity, stream)).await
            {
                Ok(Ok(stream)) => self.answer(stream, origin, place).await,
                Ok(Err(error)) => tracing::debug!(%error, "TLS could not be agreed on"),
                Err(_) => tracing::debug!("the TLS handshake took too long"),
            },
        }
    }

    /// Answers the requests of one connection.
    async fn answer<IO>(self, stream: IO, origin: Origin, place: &Place)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let Self { router, timing, stop, .. } = self;
        let service = service_fn(|request| respond(router.clone(), request, origin, place));
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
                tokio::time::timeout(timing.last, connection).await.unwrap_or(Ok(()))
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

/// Answers one request. Its connection is busy until the last byte of the answer has been handed over.
async fn respond(
    router: Router,
    request: hyper::Request<Incoming>,
    origin: Origin,
    place: &Place,
) -> io::Result<Response> {
    let busy = place.begin().ok_or_else(|| io::Error::other("the connection is being closed"))?;
    let mut request: Request = request.map(Body::new);
    request.extensions_mut().insert(origin);
    let Ok(response) = router.oneshot(request).await;
    if response.body().is_end_stream() {
        return Ok(response);
    }
    // Unlike a wrapper of its own this keeps the length that the body states.
    Ok(response.map(|body| {
        Body::new(body.map_err(move |error| {
            let _busy = &busy;
            error
        }))
    }))
}
