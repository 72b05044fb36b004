//! One request after the other to the API, over a connection that is kept while it is used.

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
use super::reach::{Fault, Way};
use crate::http::wire::PROBLEM_JSON;

/// How long it may take until a request can be sent.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// How long an answer may take: longer than the operator gives itself, unless it was told otherwise, so that it can say so.
const ANSWER_LIMIT: Duration = Duration::from_mins(2);

/// How many bytes an answer may have: ten times what the largest page has.
const ANSWER_BYTES: usize = 32 * 1_024 * 1_024;

/// Who names himself so to the API.
const AGENT: &str = concat!("jobexec/", env!("CARGO_PKG_VERSION"));

/// A client of one API.
pub(super) struct Client {
    pub(super) way: Way,
    pub(super) tls: TlsConnector,
    /// The name that the certificate must have, where it is checked.
    pub(super) name: ServerName<'static>,
    /// The host and the port, as the header `Host` has them.
    pub(super) authority: String,
    /// What stands before the API's own paths.
    pub(super) base: String,
    pub(super) token: HeaderValue,
    pub(super) open: Option<Open>,
}

/// A connection that has nothing to do.
pub(super) struct Open {
    sender: SendRequest<Full<Bytes>>,
    fault: Fault,
}

impl Client {
    /// Reads something.
    pub(super) async fn get<T: DeserializeOwned>(
        &mut self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, RemoteError> {
        let query = Serializer::new(String::new()).extend_pairs(query).finish();
        let mark = if query.is_empty() { "" } else { "?" };
        let request = self.request(Method::GET, &format!("{path}{mark}{query}"), Bytes::new())?;
        if let Some(open) = self.open.take() {
            match self.send(open, request.clone()).await {
                // The API closes what was idle; to read twice does no harm.
                Err(RemoteError::HungUp(_)) => {}
                answer => return answer,
            }
        }
        let open = self.connect().await?;
        self.send(open, request).await
    }

    /// Has something done, over a connection of its own: one that was idle may end at any moment, and then nobody could
    /// say whether it was done. What goes wrong once it is sent leaves that open too.
    pub(super) async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, RemoteError> {
        let body = serde_json::to_vec(body).map_err(|error| RemoteError::Setup(error.to_string()))?;
        let request = self.request(Method::POST, path, body.into())?;
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

    async fn connect(&self) -> Result<Open, RemoteError> {
        let connected = timeout(CONNECT_LIMIT, self.shake_hands()).await;
        connected.unwrap_or(Err(RemoteError::NotConnected(CONNECT_LIMIT)))
    }

    async fn shake_hands(&self) -> Result<Open, RemoteError> {
        let connection = self.way.connect().await?;
        let mut fault = connection.fault;
        let stream = tokio::select! {
            biased;
            error = fault.told() => return Err(error),
            stream = self.tls.connect(self.name.clone(), connection.stream) => stream,
        };
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                let error = match error.kind() {
                    std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput => {
                        RemoteError::Tls(error)
                    }
                    _ => RemoteError::NoTls(error.to_string()),
                };
                return Err(fault.or(error).await);
            }
        };
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (sender, driver) = shaken.map_err(|error| RemoteError::NoTls(error.to_string()))?;
        tokio::spawn(async move {
            // What ends it is told to whoever waits for an answer.
            let _ = driver.await;
        });
        Ok(Open { sender, fault })
    }

    async fn send<T: DeserializeOwned>(
        &mut self,
        mut open: Open,
        request: Request<Full<Bytes>>,
    ) -> Result<T, RemoteError> {
        let exchanged = timeout(ANSWER_LIMIT, exchange(&mut open.sender, request));
        let answer = tokio::select! {
            biased;
            error = open.fault.told() => return Err(error),
            answer = exchanged => answer,
        };
        match answer {
            Ok(Ok(answer)) => {
                self.open = Some(open);
                answer.read()
            }
            Ok(Err(error)) => Err(open.fault.or(error).await),
            Err(_) => Err(RemoteError::NoAnswer(ANSWER_LIMIT)),
        }
    }
}

struct Answer {
    status: u16,
    media_type: String,
    body: Bytes,
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Answer, RemoteError> {
    let hung_up = |error: hyper::Error| RemoteError::HungUp(error.to_string());
    sender.ready().await.map_err(hung_up)?;
    let response = sender.send_request(request).await.map_err(hung_up)?;
    let status = response.status().as_u16();
    let header = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = |value: &str| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let media_type = header.map(essence).unwrap_or_default();
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            RemoteError::Unreadable(format!("it has more than {ANSWER_BYTES} bytes"))
        } else {
            RemoteError::HungUp(error.to_string())
        }
    })?;
    Ok(Answer { status, media_type, body: body.to_bytes() })
}

impl Answer {
    /// Health is told with a status of an error too: the media type says what it is.
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
        Answer { status, media_type: media_type.to_owned(), body: body.to_owned().into() }.read()
    }

    #[test]
    fn an_answer_is_what_its_media_type_says() {
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
