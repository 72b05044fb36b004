//! Webhooks: a message in an HTTP request.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use percent_encoding::percent_decode_str;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use url::{Host, Url};

use super::deadline::Deadline;
use super::template::Rendered;
use super::{Message, SendError, payload, sanitize, tls_roots};
use crate::api::notifications::Format;
use crate::net::{DialError, Dialer};
use crate::secrets::{CaBundle, Echoes};

pub use super::signature::SigningKey;

/// Time limit of one attempt, from connecting to the answer.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Time limit for reading the body of an error response.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of that body to read, in bytes.
const MAX_BODY: usize = 4 * 1024;

/// Parts of a URL with at least this many bytes may be secret.
const MIN_SECRET: usize = 6;

/// How much of the body an error quotes, in characters.
const QUOTED: usize = 200;

/// An endpoint, with the values of its Secrets.
#[derive(Clone, Debug)]
pub struct Target {
    /// The URL.
    pub url: Endpoint,
    /// The key that signs requests.
    pub signing_key: Option<SigningKey>,
    /// Trusted certificate authorities, instead of those of the system.
    pub authorities: Option<CaBundle>,
    /// The format of the body.
    pub format: Format,
}

/// The URL of an endpoint. It may contain a secret, so only its scheme, host and port are ever printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// Parses a URL from a spec or a Secret, which begins with `https://` or `http://`. Ignores surrounding blanks and line
    /// breaks.
    pub fn new(url: &str) -> Result<Self, SendError> {
        let invalid = |what: &str| {
            SendError::InvalidConfiguration(format!(
                "the URL of the webhook cannot be used: {what}. Set one such as https://example.org/hook"
            ))
        };
        let url = Url::parse(url.trim()).map_err(|error| invalid(&error.to_string()))?;
        match url.scheme() {
            "http" | "https" => Ok(Self(url)),
            _ => Err(invalid("it begins with neither https:// nor http://")),
        }
    }

    /// Returns every part that may be secret, because a response may repeat it: one endpoint names what it did not find, another
    /// prints the whole request.
    fn echoes(&self) -> Echoes {
        let of_path = self.0.path_segments().into_iter().flatten();
        let of_query = self.0.query().unwrap_or_default().split(['&', '=']);
        let of_user = [self.0.username(), self.0.password().unwrap_or_default()];
        let of_fragment = self.0.fragment();
        let parts = of_path.chain(of_query).chain(of_user).chain(of_fragment);
        let parts: Vec<&str> = parts.filter(|part| part.len() >= MIN_SECRET).collect();
        let plain: Vec<_> = parts.iter().map(|part| percent_decode_str(part).decode_utf8_lossy()).collect();
        Echoes::new(parts.into_iter().chain(plain.iter().map(AsRef::as_ref)))
    }

    /// Checks the host if it is an address, which is not resolved.
    fn check(&self, dialer: &Dialer) -> Result<(), DialError> {
        let address = match self.0.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        Ok(dialer.policy().check(self.0.host_str().unwrap_or_default(), address)?)
    }

    /// Returns the part of the URL that may be printed.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({}/…)", self.origin())
    }
}

/// Sends a message, within [`LIMIT`].
pub(super) async fn send(
    dialer: &Dialer,
    target: &Target,
    rendered: &Rendered,
    message: &Message,
) -> Result<(), SendError> {
    let deadline = Deadline::new(&target.url.origin(), LIMIT);
    target.url.check(dialer).map_err(|error| SendError::not_dialled(deadline.peer(), LIMIT, error))?;
    let body = payload::serialize(target.format, rendered, message)?;
    let (id, timestamp) = (message.id.to_string(), Utc::now().timestamp());
    let mut request = client(dialer, target)?
        .post(target.url.0.clone())
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", &id)
        .header("webhook-timestamp", timestamp);
    if let Some(key) = &target.signing_key {
        request = request.header("webhook-signature", key.sign(&id, timestamp, &body));
    }
    let response = deadline.within("waiting for its answer", request.body(body).send()).await?;
    let response = response.map_err(|error| send_error(deadline.peer(), error))?;
    let (peer, status) = (deadline.peer(), response.status());
    if status.is_success() {
        return Ok(());
    }
    let status = status.as_u16();
    if (300..400).contains(&status) {
        return Err(SendError::Redirected { peer, status });
    }
    Err(SendError::HttpStatus { peer, status, text: read_beginning(&deadline, response, &target.url).await })
}

/// Resolves names to allowed addresses only; the client connects to one of these.
struct AllowedAddresses(Dialer);

impl Resolve for AllowedAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        let dialer = self.0.clone();
        Box::pin(async move {
            // The client sets the port of the URL.
            let addresses = dialer.resolve(name.as_str(), 0).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Creates a client for one request: it follows no redirects and ignores the proxies of the environment.
fn client(dialer: &Dialer, target: &Target) -> Result<Client, SendError> {
    let builder = Client::builder()
        .dns_resolver(Arc::new(AllowedAddresses(dialer.clone())))
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .user_agent(concat!("jobexec-operator/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls_roots::client_config(target.authorities.as_ref())?);
    builder.build().map_err(|error| {
        SendError::InvalidConfiguration(format!("cannot create an HTTP client: {}", error.without_url()))
    })
}

/// Reads the beginning of an error response, as far as it arrives in time.
async fn read_beginning(deadline: &Deadline, mut response: Response, url: &Endpoint) -> String {
    let mut read = Vec::new();
    let reading = async {
        while read.len() < MAX_BODY
            && let Ok(Some(chunk)) = response.chunk().await
        {
            read.extend_from_slice(&chunk[..chunk.len().min(MAX_BODY - read.len())]);
        }
    };
    // Whatever has arrived by then is reported.
    let _ = deadline.at_most(BODY_TIMEOUT, reading).await;
    let text = String::from_utf8_lossy(&read);
    let echoes = url.echoes();
    if echoes.are_in(&text) {
        return echoes.without(text.into_owned());
    }
    echoes.without(sanitize::line(&text, QUOTED))
}

/// Converts a request error. Only the outermost error contains the URL, so it is left out.
fn send_error(peer: String, error: reqwest::Error) -> SendError {
    let error = error.without_url();
    let mut innermost = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(dial) = cause.downcast_ref::<DialError>() {
            return SendError::not_dialled(peer, LIMIT, dial.clone());
        }
        if let Some(tls) = cause.downcast_ref::<std::io::Error>().and_then(tls_error) {
            return SendError::Tls { peer, error: sanitize::line(&tls, QUOTED) };
        }
        if let Some(http) = cause.downcast_ref::<hyper::Error>()
            && (http.is_parse() || http.is_parse_too_large())
        {
            return SendError::InvalidAnswer { peer, error: sanitize::line(&http.to_string(), QUOTED) };
        }
        innermost = cause.to_string();
        source = cause.source();
    }
    SendError::Unreachable { peer, error: sanitize::line(&innermost, QUOTED) }
}

/// Finds the TLS error, which may be nested within errors of the connection.
fn tls_error(error: &std::io::Error) -> Option<String> {
    let inner = error.get_ref()?;
    match inner.downcast_ref::<rustls::Error>() {
        Some(tls) => Some(tls.to_string()),
        None => inner.downcast_ref::<std::io::Error>().and_then(tls_error),
    }
}
