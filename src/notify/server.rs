//! A mail server, and the login at it.

use crate::api::notifications::{Security, Smtp};
use crate::secrets::{CaBundle, SecretString};

/// A mail server, with the values of its Secrets.
#[derive(Clone, Debug)]
pub struct Server {
    /// The name or address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How the connection is encrypted.
    pub security: Security,
    /// Trusted certificate authorities, instead of those of the system.
    pub authorities: Option<CaBundle>,
    /// The credentials, if the server requires a login.
    pub login: Option<Login>,
    /// The sender address.
    pub from: String,
}

/// A user name and a password, both from a Secret.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user name.
    pub user: SecretString,
    /// The password.
    pub password: SecretString,
}

impl Server {
    /// Creates the server of a spec; without a port, the default port of its security applies.
    pub fn new(smtp: &Smtp, authorities: Option<CaBundle>, login: Option<Login>) -> Self {
        let default_port = match smtp.security {
            Security::StartTls => 587,
            Security::Tls => 465,
            Security::None => 25,
        };
        Self {
            host: smtp.host.clone(),
            port: smtp.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(default_port),
            security: smtp.security,
            authorities,
            login,
            from: smtp.from.0.clone(),
        }
    }
}
