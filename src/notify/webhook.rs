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

use super::budget::Budget;
use super::template::Rendered;
use super::{Message, SendError, body, plain, trust};
use crate::api::notifications::Format;
use crate::net::{DialError, Dialer};
use crate::secrets::{CaBundle, Echoes};

pub use super::signature::SigningKey;

/// How long one attempt may take, from the connection to the answer.
pub const LIMIT: Duration = Duration::from_secs(10);

/// How long an answer that says no may take to say why.
const WHY: Duration = Duration::from_secs(2);

/// How much is read of it, in bytes.
const READ: usize = 4 * 1024;

/// From how many bytes on a part of a URL may be a secret.
const SECRET: usize = 6;

/// How much of it is told, in characters.
const TOLD: usize = 200;

/// An endpoint, with what the Secrets hold.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its URL.
    pub url: Endpoint,
    /// What requests are signed with.
    pub signing_key: Option<SigningKey>,
    /// Who vouches for it, in place of the system's authorities.
    pub authorities: Option<CaBundle>,
    /// What it is sent.
    pub format: Format,
}

/// The URL of an endpoint. It may be a secret, so that only its scheme, host and port are ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// A URL of a spec or a Secret, which begins with `https://` or `http://`. Blanks and line breaks around it do not
    /// count.
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

    /// Every part of it that may be a secret, since an answer may repeat it: one names what was not found, another shows the
    /// whole request.
    fn echoes(&self) -> Echoes {
        let of_path = self.0.path_segments().into_iter().flatten();
        let of_query = self.0.query().unwrap_or_default().split(['&', '=']);
        let of_user = [self.0.username(), self.0.password().unwrap_or_default()];
        let of_fragment = self.0.fragment();
        let parts = of_path.chain(of_query).chain(of_user).chain(of_fragment);
        let parts: Vec<&str> = parts.filter(|part| part.len() >= SECRET).collect();
        let plain: Vec<_> = parts.iter().map(|part| percent_decode_str(part).decode_utf8_lossy()).collect();
        Echoes::new(parts.into_iter().chain(plain.iter().map(AsRef::as_ref)))
    }

    /// Checks the address in it, where it names none but an address: that is not resolved.
    fn check(&self, dialer: &Dialer) -> Result<(), DialError> {
        let address = match self.0.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        Ok(dialer.policy().check(self.0.host_str().unwrap_or_default(), address)?)
    }

    /// All of it that may be shown.
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
    let budget = Budget::new(&target.url.origin(), LIMIT);
    target.url.check(dialer).map_err(|error| SendError::not_dialled(budget.peer(), LIMIT, error))?;
    let body = body::of(target.format, rendered, message)?;
    let (id, timestamp) = (message.id.to_string(), Utc::now().timestamp());
    let mut request = client(dialer, target)?
        .post(target.url.0.clone())
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", &id)
        .header("webhook-timestamp", timestamp);
    if let Some(key) = &target.signing_key {
        request = request.header("webhook-signature", key.sign(&id, timestamp, &body));
    }
    let answer = budget.within("waiting for its answer", request.body(body).send()).await?;
    let answer = answer.map_err(|error| failed(budget.peer(), error))?;
    let (peer, status) = (budget.peer(), answer.status());
    if status.is_success() {
        return Ok(());
    }
    let status = status.as_u16();
    if (300..400).contains(&status) {
        return Err(SendError::Redirected { peer, status });
    }
    Err(SendError::HttpStatus { peer, status, text: beginning(&budget, answer, &target.url).await })
}

/// Resolves names to addresses that may be connected to; what is connected to is one of these.
struct Checked(Dialer);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let dialer = self.0.clone();
        Box::pin(async move {
            // The port is that of the URL.
            let addresses = dialer.resolve(name.as_str(), 0).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// A client for one request: no redirect is followed, and no proxy of the environment is asked.
fn client(dialer: &Dialer, target: &Target) -> Result<Client, SendError> {
    let builder = Client::builder()
        .dns_resolver(Arc::new(Checked(dialer.clone())))
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .user_agent(concat!("jobexec-operator/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(trust::client_config(target.authorities.as_ref())?);
    builder.build().map_err(|error| {
        SendError::InvalidConfiguration(format!("no HTTP client can be made: {}", error.without_url()))
    })
}

/// The beginning of an answer that says no, as far as it comes soon.
async fn beginning(budget: &Budget, mut answer: Response, url: &Endpoint) -> String {
    let mut read = Vec::new();
    let reading = async {
        while read.len() < READ
            && let Ok(Some(chunk)) = answer.chunk().await
        {
            read.extend_from_slice(&chunk[..chunk.len().min(READ - read.len())]);
        }
    };
    // What came until then is all there is to tell.
    let _ = budget.at_most(WHY, reading).await;
    let text = String::from_utf8_lossy(&read);
    let echoes = url.echoes();
    if echoes.are_in(&text) {
        return echoes.without(text.into_owned());
    }
    echoes.without(plain::line(&text, TOLD))
}

/// Why there was no answer. The URL is in the outermost error only, which is not told.
fn failed(peer: String, error: reqwest::Error) -> SendError {
    let error = error.without_url();
    let mut innermost = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(dial) = cause.downcast_ref::<DialError>() {
            return SendError::not_dialled(peer, LIMIT, dial.clone());
        }
        if let Some(tls) = cause.downcast_ref::<std::io::Error>().and_then(tls_error) {
            return SendError::Tls { peer, error: plain::line(&tls, TOLD) };
        }
        if let Some(http) = cause.downcast_ref::<hyper::Error>()
            && (http.is_parse() || http.is_parse_too_large())
        {
            return SendError::InvalidAnswer { peer, error: plain::line(&http.to_string(), TOLD) };
        }
        innermost = cause.to_string();
        source = cause.source();
    }
    SendError::Unreachable { peer, error: plain::line(&innermost, TOLD) }
}

/// What is wrong with TLS, which may be within an error within an error of the connection.
fn tls_error(error: &std::io::Error) -> Option<String> {
    let inner = error.get_ref()?;
    match inner.downcast_ref::<rustls::Error>() {
        Some(tls) => Some(tls.to_string()),
        None => inner.downcast_ref::<std::io::Error>().and_then(tls_error),
    }
}
