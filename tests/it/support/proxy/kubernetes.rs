//! A proxy in front of the API server: it reads the requests to recognize writes and watches, and can answer itself.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::{StreamExt as _, TryStreamExt};
use http::request::Parts;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::gate::Gate;
use super::writes::{Fate, Writes};
use crate::support::PATIENCE;

type Reply = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// A response that the proxy gives instead of the server.
#[derive(Clone, Debug)]
pub(crate) struct Canned {
    status: u16,
    retry_after: Option<u32>,
    body: Value,
}

impl Canned {
    /// A refusal in the format of the API server.
    pub(crate) fn refusal(code: u16, reason: &str, message: &str) -> Self {
        let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                          "reason": reason, "message": message});
        Self { status: code, retry_after: None, body }
    }

    /// A refusal because of too many requests.
    pub(crate) fn throttled(seconds: u32) -> Self {
        let refusal = Self::refusal(429, "TooManyRequests", "slow down");
        Self { retry_after: Some(seconds), ..refusal }
    }

    /// The only event of a watch whose version is no longer known.
    pub(crate) fn expired() -> Self {
        let refusal = Self::refusal(410, "Expired", "too old resource version");
        Self { status: 200, retry_after: None, body: json!({"type": "ERROR", "object": refusal.body}) }
    }
}

type Applies = Box<dyn Fn(&Parts) -> bool + Send>;

/// The proxy.
pub(crate) struct Kubernetes {
    pub(crate) gate: Arc<Gate>,
    upstream: Client,
    writes: Arc<Writes>,
    canned: Mutex<Option<(Applies, Canned)>>,
    /// True if the events of watches are dropped.
    stale: watch::Sender<bool>,
    /// Every request, and whether the proxy answered it.
    seen: watch::Sender<Vec<(String, bool)>>,
    /// The number of requests that the operator gave up because no response came.
    given_up: AtomicUsize,
}

/// Counts a request as given up, unless it is answered.
struct Unanswered(Option<Arc<Kubernetes>>);

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(proxy) = self.0.take() {
            proxy.given_up.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Kubernetes {
    pub(super) fn new(upstream: Client, gate: Arc<Gate>, writes: Arc<Writes>) -> Self {
        let (stale, seen) = (watch::Sender::new(false), watch::Sender::default());
        Self { gate, upstream, writes, canned: Mutex::default(), stale, seen, given_up: AtomicUsize::new(0) }
    }

    /// Makes the proxy answer such requests itself from now on.
    pub(crate) fn answer(&self, applies: impl Fn(&Parts) -> bool + Send + 'static, canned: Canned) {
        *self.canned.lock().unwrap() = Some((Box::new(applies), canned));
    }

    /// Lets the server answer everything again.
    pub(crate) fn answer_no_more(&self) {
        *self.canned.lock().unwrap() = None;
    }

    /// Drops the events of all watches.
    pub(crate) fn go_stale(&self) {
        self.stale.send_replace(true);
    }

    /// Ends that: the watches break, and resume where they were.
    pub(crate) fn recover(&self) {
        self.stale.send_replace(false);
        self.gate.cut();
    }

    /// The number of requests so far that contain the text, for example `PATCH` and a space and part of a path.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.seen.borrow().iter().filter(|(request, _)| request.contains(text)).count()
    }

    /// Waits until the proxy itself has answered this many requests.
    pub(crate) async fn answered(&self, times: usize) {
        self.until(|seen| seen.iter().filter(|(_, canned)| *canned).count() >= times).await;
    }

    /// Waits until this many requests contain the text.
    pub(crate) async fn asked(&self, times: usize, text: &str) {
        self.until(|seen| seen.iter().filter(|(request, _)| request.contains(text)).count() >= times).await;
    }

    /// The number of requests that the operator has given up so far because no response came.
    pub(crate) fn given_up(&self) -> usize {
        self.given_up.load(Ordering::SeqCst)
    }

    async fn until(&self, wanted: impl FnMut(&Vec<(String, bool)>) -> bool) {
        let mut seen = self.seen.subscribe();
        let waited = tokio::time::timeout(PATIENCE, seen.wait_for(wanted)).await.is_ok();
        assert!(waited, "not as wanted: {:#?}", self.seen.borrow());
    }

    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let proxy = self.clone();
        let connection = move |client: TcpStream| {
            let proxy = proxy.clone();
            async move {
                let service = service_fn(move |request| proxy.clone().handle(request));
                // Connections that break are the purpose of the proxy.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(client), service).await;
            }
        };
        self.gate.serve(listener, connection).await;
    }

    /// Handles a request. An error cuts the connection.
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Reply>, io::Error> {
        let mut unanswered = Unanswered(Some(self.clone()));
        let answer = self.answered_by_somebody(request).await;
        unanswered.0 = None;
        answer
    }

    async fn answered_by_somebody(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Reply>, io::Error> {
        let (mut head, body) = request.into_parts();
        let canned = {
            let canned = self.canned.lock().unwrap();
            canned.as_ref().filter(|(applies, _)| applies(&head)).map(|(_, canned)| canned.clone())
        };
        let what = format!("{} {}", head.method, head.uri);
        self.seen.send_modify(|seen| seen.push((what.clone(), canned.is_some())));
        self.gate.pass().await;
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        if let Some(canned) = canned {
            return Ok(canned.into());
        }
        let fate = match head.method {
            Method::GET => Fate::Pass,
            _ => self.writes.write(format!("api: {what} {}", String::from_utf8_lossy(&body))),
        };
        if fate == Fate::Hold {
            std::future::pending::<()>().await;
        }
        // The client sets the name of the server.
        head.headers.remove(http::header::HOST);
        let watch = head.uri.query().is_some_and(|query| query.contains("watch="));
        let request = Request::from_parts(head, Body::from(body.to_vec()));
        let response = self.upstream.send(request).await.map_err(io::Error::other)?;
        match fate {
            Fate::HoldReply => {
                self.writes.executed(fate);
                std::future::pending().await
            }
            Fate::CutReply => {
                self.writes.executed(fate);
                Err(io::Error::other("cut"))
            }
            _ => {
                self.gate.pass().await;
                Ok(response.map(|body| self.forward(body, watch)))
            }
        }
    }

    fn forward(self: Arc<Self>, body: Body, watch: bool) -> Reply {
        let frames =
            TryStreamExt::map_err(BodyStream::new(body), io::Error::other).filter_map(move |frame| {
                let proxy = self.clone();
                async move {
                    proxy.gate.pass().await;
                    (!(watch && *proxy.stale.borrow())).then_some(frame)
                }
            });
        StreamBody::new(frames).boxed_unsync()
    }
}

impl From<Canned> for Response<Reply> {
    fn from(canned: Canned) -> Self {
        let mut response =
            Response::builder().status(canned.status).header("Content-Type", "application/json");
        if let Some(seconds) = canned.retry_after {
            response = response.header("Retry-After", seconds);
        }
        let body = Full::new(Bytes::from(canned.body.to_string() + "\n"));
        response.body(body.map_err(|never: Infallible| match never {}).boxed_unsync()).unwrap()
    }
}
