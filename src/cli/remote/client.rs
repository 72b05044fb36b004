//! A client of the API: one request at a time, over a connection that is kept open while it is in use.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::form_urlencoded::Serializer;

use super::RemoteError;
use super::transport::{Endpoint, PortForwardError};
use crate::http::types::PROBLEM_JSON;

/// Time limit until a request can be sent.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// Time limit of a response: longer than the operator's own default, so that it can report a timeout itself.
const RESPONSE_LIMIT: Duration = Duration::from_mins(2);

/// Size limit of a response, in bytes: ten times that of the largest page.
const MAX_RESPONSE_BYTES: usize = 32 * 1_024 * 1_024;

/// The user agent of requests.
const AGENT: &str = concat!("jobexec/", env!("CARGO_PKG_VERSION"));

/// A client of one API.
pub(super) struct Client {
    pub(super) endpoint: Endpoint,
    pub(super) tls: TlsConnector,
    /// The name that the certificate must have, if it is checked.
    pub(super) name: ServerName<'static>,
    /// The host and port for the header `Host`.
    pub(super) authority: String,
    /// The path that precedes the API's own paths.
    pub(super) base: String,
    pub(super) token: HeaderValue,
    pub(super) open: Option<OpenConnection>,
}

/// An open connection.
pub(super) struct OpenConnection {
    sender: SendRequest<Full<Bytes>>,
    forward_error: PortForwardError,
}

impl Client {
    /// Sends a GET request.
    pub(super) async fn get<T: DeserializeOwned>(
        &mut self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, RemoteError> {
        let request = self.request(Method::GET, &with_query(path, query), Bytes::new())?;
        if let Some(open) = self.open.take() {
            match self.send(open, request.clone()).await {
                // The API closes idle connections; repeating a read does no harm.
                Err(RemoteError::ConnectionClosed(_)) => {}
                response => return response,
            }
        }
        let open = self.connect().await?;
        self.send(open, request).await
    }

    /// Sends a POST request with a body.
    pub(super) async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, RemoteError> {
        let body = serde_json::to_vec(body).map_err(|error| RemoteError::Setup(error.to_string()))?;
        self.send_post(path, body.into()).await
    }

    /// Sends a POST request with a query and no body.
    pub(super) async fn post_query<T: DeserializeOwned>(
        &mut self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, RemoteError> {
        self.send_post(&with_query(path, query), Bytes::new()).await
    }

    /// Sends a POST request, over a new connection: an idle one may close at any moment, and then it would be unknown whether the
    /// request was carried out. Any failure after sending leaves this unknown too.
    async fn send_post<T: DeserializeOwned>(&mut self, path: &str, body: Bytes) -> Result<T, RemoteError> {
        let request = self.request(Method::POST, path, body)?;
        let open = self.connect().await?;
        self.send(open, request).await.map_err(|error| match error {
            RemoteError::Problem(_) => error,
            error => RemoteError::Unknown(Box::new(error)),
        })
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, RemoteError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(HOST, &self.authority)
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "application/json, application/problem+json")
            .header(AUTHORIZATION, &self.token);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(body)).map_err(|error| RemoteError::Setup(error.to_string()))
    }

    async fn connect(&self) -> Result<OpenConnection, RemoteError> {
        let connected = timeout(CONNECT_LIMIT, self.handshake()).await;
        connected.unwrap_or(Err(RemoteError::ConnectTimeout(CONNECT_LIMIT)))
    }

    async fn handshake(&self) -> Result<OpenConnection, RemoteError> {
        let connection = self.endpoint.connect().await?;
        let mut forward_error = connection.forward_error;
        let stream = tokio::select! {
            biased;
            error = forward_error.wait() => return Err(error),
            stream = self.tls.connect(self.name.clone(), connection.stream) => stream,
        };
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                let error = match error.kind() {
                    std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput => {
                        RemoteError::Tls(error)
                    }
                    _ => RemoteError::ClosedDuringHandshake(error.to_string()),
                };
                return Err(forward_error.or_given(error).await);
            }
        };
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (sender, driver) =
            shaken.map_err(|error| RemoteError::ClosedDuringHandshake(error.to_string()))?;
        tokio::spawn(async move {
            // The response of the request reports the error.
            let _ = driver.await;
        });
        Ok(OpenConnection { sender, forward_error })
    }

    async fn send<T: DeserializeOwned>(
        &mut self,
        mut open: OpenConnection,
        request: Request<Full<Bytes>>,
    ) -> Result<T, RemoteError> {
        let exchanged = timeout(RESPONSE_LIMIT, exchange(&mut open.sender, request));
        let response = tokio::select! {
            biased;
            error = open.forward_error.wait() => return Err(error),
            response = exchanged => response,
        };
        match response {
            Ok(Ok(response)) => {
                self.open = Some(open);
                response.read()
            }
            Ok(Err(error)) => Err(open.forward_error.or_given(error).await),
            Err(_) => Err(RemoteError::ResponseTimeout(RESPONSE_LIMIT)),
        }
    }
}

/// Returns the path with the query, if there is one.
fn with_query(path: &str, query: &[(&str, String)]) -> String {
    let query = Serializer::new(String::new()).extend_pairs(query).finish();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{path}{mark}{query}")
}

struct Response {
    status: u16,
    media_type: String,
    body: Bytes,
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Response, RemoteError> {
    let closed = |error: hyper::Error| RemoteError::ConnectionClosed(error.to_string());
    sender.ready().await.map_err(closed)?;
    let response = sender.send_request(request).await.map_err(closed)?;
    let status = response.status().as_u16();
    let header = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = |value: &str| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let media_type = header.map(essence).unwrap_or_default();
    let body = Limited::new(response.into_body(), MAX_RESPONSE_BYTES).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            RemoteError::Unreadable(format!("more than {MAX_RESPONSE_BYTES} bytes"))
        } else {
            RemoteError::ConnectionClosed(error.to_string())
        }
    })?;
    Ok(Response { status, media_type, body: body.to_bytes() })
}

impl Response {
    /// Parses the response. Health has an error status too, so the media type decides.
    fn read<T: DeserializeOwned>(&self) -> Result<T, RemoteError> {
        let unreadable = |error: serde_json::Error| RemoteError::Unreadable(error.to_string());
        match self.media_type.as_str() {
            PROBLEM_JSON => {
                Err(RemoteError::Problem(serde_json::from_slice(&self.body).map_err(unreadable)?))
            }
            "application/json" => serde_json::from_slice(&self.body).map_err(unreadable),
            _ => Err(RemoteError::NotTheApi(self.status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(status: u16, media_type: &str, body: &str) -> Result<Value, RemoteError> {
        Response { status, media_type: media_type.to_owned(), body: body.to_owned().into() }.read()
    }

    #[test]
    fn response_is_parsed_by_media_type() {
        assert_eq!(
            read(503, "application/json", r#"{"status": "unhealthy"}"#).unwrap()["status"],
            "unhealthy"
        );
        let problem = json!({"type": "t", "title": "t", "status": 404, "detail": "no such store", "reason": "StoreNotFound"});
        let told = read(404, PROBLEM_JSON, &problem.to_string()).unwrap_err().to_string();
        assert!(told.starts_with("no such store: see `kubectl get executionstores -A`"), "{told}");
        assert!(matches!(read(502, "text/html", "<html>"), Err(RemoteError::NotTheApi(502))));
        assert!(matches!(read(200, "application/json", "{"), Err(RemoteError::Unreadable(_))));
    }
}
