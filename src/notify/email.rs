//! E-mail by SMTP.

use std::time::Duration;

use super::session::Session;
use super::template::Rendered;
use super::{Message, SendError, mail};
use crate::api::notifications::{Security, Smtp};
use crate::net::Dialer;
use crate::secrets::{CaBundle, SecretString};

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
    /// Who vouches for it, in place of the system's authorities.
    pub authorities: Option<CaBundle>,
    /// What to log in with.
    pub login: Option<Login>,
    /// From whom e-mails are.
    pub from: String,
}

/// A name and a password, both out of a Secret.
#[derive(Clone, Debug)]
pub struct Login {
    /// The name.
    pub user: SecretString,
    /// The password.
    pub password: SecretString,
}

impl Server {
    /// The server of a spec.
    pub fn new(smtp: &Smtp, authorities: Option<CaBundle>, login: Option<Login>) -> Self {
        let usual = match smtp.security {
            Security::StartTls => 587,
            Security::Tls => 465,
            Security::None => 25,
        };
        Self {
            host: smtp.host.clone(),
            port: smtp.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(usual),
            security: smtp.security,
            authorities,
            login,
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
    if server.security == Security::None && server.login.is_some() {
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
