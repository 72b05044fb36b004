//! Why a message could not be delivered, as conditions and metrics tell it: a bounded reason and a message that says what
//! to do. No error text here holds a password, a signing key, or more of a URL than where it leads to.

use std::time::Duration;

use crate::net::DialError;

/// A message that did not get to its destination. `peer` is the host and port of a mail server, or the scheme, host and
/// port of a webhook.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Nothing answers there, or the connection broke.
    #[error(
        "cannot reach {peer}: {error}. Check the host and port, that it is up, and that no NetworkPolicy is in the way"
    )]
    Unreachable {
        /// Where.
        peer: String,
        /// Why.
        error: String,
    },
    /// The operator does not connect to such an address.
    #[error(
        "the operator does not connect to {peer}: {error}. Name another host, or have whoever runs the operator allow this one with egress.allow in the chart (--allow-addresses)"
    )]
    AddressRefused {
        /// Where.
        peer: String,
        /// Why.
        error: String,
    },
    /// The attempt took longer than it may.
    #[error(
        "{peer} did not answer within {limit:?}: it ended while {doing}. Check that it is up and not overloaded"
    )]
    TimedOut {
        /// Where.
        peer: String,
        /// What was waited for.
        doing: &'static str,
        /// How long the whole attempt may take.
        limit: Duration,
    },
    /// The mail server has no STARTTLS.
    #[error(
        "{0} does not offer STARTTLS, so nothing was sent. Set security to TLS if it speaks TLS from the start, or have it offer STARTTLS"
    )]
    TlsNotOffered(String),
    /// TLS could not be agreed on, or the certificate was not trusted.
    #[error(
        "TLS with {peer} failed: {error}. Check the name in its certificate, caSecretRef if an authority of your own signed it, and the port"
    )]
    Tls {
        /// Where.
        peer: String,
        /// Why.
        error: String,
    },
    /// The mail server did not let the operator log in.
    #[error(
        "{peer} refused the login: {error}. Check username and password in the Secret of credentialsSecretRef"
    )]
    LoginRefused {
        /// Where.
        peer: String,
        /// What it said.
        error: String,
    },
    /// The mail server takes no mail for this address.
    #[error(
        "{peer} refused the recipient {to}: {error}. Check the address, and whether the server relays for the operator"
    )]
    RecipientRefused {
        /// Where.
        peer: String,
        /// The address.
        to: String,
        /// What it said.
        error: String,
    },
    /// The mail server refused something else.
    #[error(
        "{peer} refused {what}: {error}. Check that it takes mail from the operator, and from the address in from"
    )]
    Refused {
        /// Where.
        peer: String,
        /// What it refused.
        what: &'static str,
        /// What it said.
        error: String,
    },
    /// What answers there does not speak SMTP or HTTP.
    #[error("{peer} gave no answer that makes sense: {error}. Check the host and port")]
    InvalidAnswer {
        /// Where.
        peer: String,
        /// What is wrong with it.
        error: String,
    },
    /// What should be an address is none, or none that the server can take.
    #[error("{0:?} is no address that mail can be sent to: {1}. Correct it where it is from")]
    InvalidAddress(String, &'static str),
    /// The webhook sends elsewhere, where the operator does not go.
    #[error("{peer} answered {status}, and redirects are not followed. Set the URL that it redirects to")]
    Redirected {
        /// Where.
        peer: String,
        /// The status of the answer.
        status: u16,
    },
    /// The webhook did not take it.
    #[error("{peer} answered {status}{said}. Check the URL, and the endpoint's own log", said = quoted(text))]
    HttpStatus {
        /// Where.
        peer: String,
        /// The status of the answer.
        status: u16,
        /// The beginning of the answer.
        text: String,
    },
    /// What it is configured with cannot be used.
    #[error("{0}")]
    InvalidConfiguration(String),
}

impl SendError {
    /// One word for a condition's reason and a metric's label.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "Unreachable",
            Self::AddressRefused { .. } => "AddressRefused",
            Self::TimedOut { .. } => "TimedOut",
            Self::TlsNotOffered(_) => "TLSNotOffered",
            Self::Tls { .. } => "TLSFailed",
            Self::LoginRefused { .. } => "LoginRefused",
            Self::RecipientRefused { .. } => "RecipientRefused",
            Self::Refused { .. } => "Refused",
            Self::InvalidAnswer { .. } => "InvalidAnswer",
            Self::InvalidAddress(..) => "InvalidAddress",
            Self::Redirected { .. } => "Redirected",
            Self::HttpStatus { .. } => "HTTPStatus",
            Self::InvalidConfiguration(_) => "InvalidConfiguration",
        }
    }

    /// What a connection that was not made stands for, within an attempt that may take `limit`.
    pub(super) fn not_dialled(peer: String, limit: Duration, error: DialError) -> Self {
        match error {
            DialError::Refused(refused) => Self::AddressRefused { peer, error: refused.to_string() },
            DialError::TimedOut => Self::TimedOut { peer, doing: "connecting", limit },
            error => Self::Unreachable { peer, error: error.to_string() },
        }
    }

    /// Whether another attempt is bound to fail too, whatever anybody changes outside of the message.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::InvalidAddress(..))
    }
}

fn quoted(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text:?}") }
}
