//! E-mail by SMTP.

use std::time::Duration;

use super::server::Server;
use super::session::Session;
use super::template::Rendered;
use super::{Message, SendError, mail};
use crate::api::notifications::Security;
use crate::net::Dialer;

/// Time limit of one attempt, from connecting until the server accepts the e-mail.
pub const LIMIT: Duration = Duration::from_secs(15);

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
            "a login without TLS would expose the password: set security to StartTLS or TLS, or omit credentialsSecretRef".to_owned(),
        ));
    }
    let mut session = Session::open(dialer, server, LIMIT).await?;
    let sent = match session.login(server).await {
        Ok(()) => session.deliver(&mail).await,
        refused => refused,
    };
    // Quitting does not affect the outcome.
    session.close().await;
    sent
}
