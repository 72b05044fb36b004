//! E-mail by SMTP.

use std::fmt;
use std::time::Duration;

use super::session::Session;
use super::template::Rendered;
use super::{Message, SendError, mail};
use crate::api::notifications::{Security, Smtp};
use crate::net::Dialer;

/// How long one attempt may take, from the connection to the server's word that it has the e-mail.
pub const LIMIT: Duration = Duration::from_secs(15);

/// A mail server, with what the Secrets hold.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub security: Security,
    /// Who vouches for it, in PEM form, in place of the system's authorities.
    pub ca_pem: Option<String>,
    /// The name and the password to log in with.
    pub credentials: Option<(String, Password)>,
    /// From whom e-mails are.
    pub from: String,
}

/// A password, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl Server {
    /// The server of a spec.
    pub fn new(smtp: &Smtp, ca_pem: Option<String>, credentials: Option<(String, Password)>) -> Self {
        let usual = match smtp.security {
            Security::StartTls => 587,
            Security::Tls => 465,
            Security::None => 25,
        };
        Self {
            host: smtp.host.clone(),
            port: smtp.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(usual),
            security: smtp.security,
            ca_pem,
            credentials,
            from: smtp.from.0.clone(),
        }
    }
}

/// Sends an e-mail to one recipient, within [`LIMIT`].
pub(super) async fn send(
    dialer: &Dialer,
    server: &Server,
    to: &str,
    rendered: &Rendered,
    message: &Message,
) -> Result<(), SendError> {
    let mail = mail::compose(&server.from, to, rendered, message)?;
    if server.security == Security::None && server.credentials.is_some() {
        return Err(SendError::InvalidConfiguration(
            "a login without TLS would show everybody the password: set security to StartTLS or TLS, or leave out credentialsSecretRef".to_owned(),
        ));
    }
    let mut session = Session::open(dialer, server, LIMIT).await?;
    let sent = match session.login(server).await {
        Ok(()) => session.deliver(&mail).await,
        refused => refused,
    };
    // Whatever becomes of the farewell, this is what became of the e-mail.
    session.close().await;
    sent
}
