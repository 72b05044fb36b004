//! Why a message could not be delivered, for conditions and metrics: a bounded reason, and a message that says what to do.
//! No error text contains a password, a signing key, or more of a URL than its origin.

use std::time::Duration;

use crate::net::DialError;

/// A failed delivery. `peer` is the host and port of a mail server, or the scheme, host and port of a webhook.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The peer does not answer, or the connection broke.
    #[error(
        "cannot reach {peer}: {error}. Check the host and port, that it is up, and that no NetworkPolicy blocks it"
    )]
    Unreachable {
        /// The peer.
        peer: String,
        /// The cause.
        error: String,
    },
    /// The operator is not allowed to connect to the address.
    #[error(
        "the operator does not connect to {peer}: {error}. Name another host, or ask the administrator of the operator to allow this one with egress.allow in the chart (--allow-addresses)"
    )]
    AddressRefused {
        /// The peer.
        peer: String,
        /// The cause.
        error: String,
    },
    /// The attempt took too long.
    #[error("{peer} did not answer within {limit:?} (while {doing}). Check that it is up and not overloaded")]
    TimedOut {
        /// The peer.
        peer: String,
        /// The step that took too long.
        doing: &'static str,
        /// The time limit of the whole attempt.
        limit: Duration,
    },
    /// The mail server does not support STARTTLS.
    #[error(
        "{0} does not offer STARTTLS, so nothing was sent. Set security to TLS if it uses TLS from the start, or enable STARTTLS on the server"
    )]
    TlsNotOffered(String),
    /// The TLS handshake failed, or the certificate is not trusted.
    #[error(
        "TLS with {peer} failed: {error}. Check the name in its certificate, caSecretRef if a private authority signed it, and the port"
    )]
    Tls {
        /// The peer.
        peer: String,
        /// The cause.
        error: String,
    },
    /// The mail server refused the login.
    #[error(
        "{peer} refused the login: {error}. Check username and password in the Secret of credentialsSecretRef"
    )]
    LoginRefused {
        /// The peer.
        peer: String,
        /// The answer of the server.
        error: String,
    },
    /// The mail server refused the recipient.
    #[error(
        "{peer} refused the recipient {to}: {error}. Check the address, and whether the server relays for the operator"
    )]
    RecipientRefused {
        /// The peer.
        peer: String,
        /// The address.
        to: String,
        /// The answer of the server.
        error: String,
    },
    /// The mail server refused another command.
    #[error(
        "{peer} refused {what}: {error}. Check that it accepts mail from the operator, and from the address in from"
    )]
    Refused {
        /// The peer.
        peer: String,
        /// The part that it refused.
        what: &'static str,
        /// The answer of the server.
        error: String,
    },
    /// The peer does not speak SMTP or HTTP.
    #[error("invalid answer from {peer}: {error}. Check the host and port")]
    InvalidAnswer {
        /// The peer.
        peer: String,
        /// What is wrong with the answer.
        error: String,
    },
    /// The address is malformed, or not supported by the server.
    #[error("{0:?} is not a valid mail address: {1}. Correct it at its source")]
    InvalidAddress(String, &'static str),
    /// The webhook redirects; the operator does not follow.
    #[error("{peer} answered {status}, and redirects are not followed. Set the URL that it redirects to")]
    Redirected {
        /// The peer.
        peer: String,
        /// The HTTP status.
        status: u16,
    },
    /// The webhook did not accept the message.
    #[error("{peer} answered {status}{said}. Check the URL, and the log of the endpoint", said = quoted(text))]
    HttpStatus {
        /// The peer.
        peer: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of the answer.
        text: String,
    },
    /// The configuration of the channel cannot be used.
    #[error("{0}")]
    InvalidConfiguration(String),
}

impl SendError {
    /// Returns one word for a condition's reason and a metric's label.
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

    /// Converts a failed connection, within an attempt with this time limit.
    pub(super) fn not_dialled(peer: String, limit: Duration, error: DialError) -> Self {
        match error {
            DialError::Refused(refused) => Self::AddressRefused { peer, error: refused.to_string() },
            DialError::TimedOut => Self::TimedOut { peer, doing: "connecting", limit },
            error => Self::Unreachable { peer, error: error.to_string() },
        }
    }

    /// Whether another attempt would fail too, because the message itself is the cause.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::InvalidAddress(..))
    }
}

fn quoted(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text:?}") }
}
