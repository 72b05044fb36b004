//! A conversation with a mail server, step by step, so that an error can tell at which one it was.

use std::sync::Arc;
use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, AsyncTokioStream, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::budget::Budget;
use super::email::{Login, Server};
use super::mail::Mail;
use super::metered::Metered;
use super::{SendError, plain, trust};
use crate::api::notifications::Security;
use crate::net::Dialer;
use crate::secrets::{Echoes, ExposeSecret, OMITTED};

/// How long to wait for the answer to the farewell.
const FAREWELL: Duration = Duration::from_secs(1);

/// How much of an answer is told, in characters.
const TOLD: usize = 200;

/// What a server says to whatever it is asked when it takes nothing more for now, as after too many errors.
const NOT_AVAILABLE: u16 = 421;

/// A conversation over a connection that is as well protected as it is to be.
pub(super) struct Session {
    budget: Budget,
    connection: AsyncSmtpConnection,
    /// What the server may repeat of the login.
    echoes: Echoes,
}

impl Session {
    /// Connects, and protects the connection as the spec says. `limit` holds for all that follows.
    pub(super) async fn open(dialer: &Dialer, server: &Server, limit: Duration) -> Result<Self, SendError> {
        let budget = Budget::new(&format!("{}:{}", server.host, server.port), limit);
        let unreachable =
            |error: std::io::Error| SendError::Unreachable { peer: budget.peer(), error: error.to_string() };
        let connecting = dialer.connect(&server.host, server.port, budget.deadline());
        let tcp = budget.within("connecting", connecting).await?;
        let tcp = tcp.map_err(|error| SendError::not_dialled(budget.peer(), limit, error))?;
        let peer = tcp.peer_addr().map_err(unreachable)?;
        let hello = match tcp.local_addr().map_err(unreachable)?.ip() {
            std::net::IpAddr::V4(own) => ClientId::Ipv4(own),
            std::net::IpAddr::V6(own) => ClientId::Ipv6(own),
        };
        let stream: Box<dyn AsyncTokioStream> = match server.security {
            Security::Tls => Box::new(Metered::new(tls(&budget, server, tcp).await?, peer)),
            Security::StartTls | Security::None => Box::new(Metered::new(tcp, peer)),
        };
        let greeting = AsyncSmtpConnection::connect_with_transport(stream, &hello);
        let doing = match server.security {
            Security::Tls => "waiting for its greeting",
            _ => "waiting for its greeting, which does not come where security must be TLS, as on port 465",
        };
        let connection = budget.within(doing, greeting).await?;
        let connection = connection
            .map_err(|error| refused(budget.peer(), "the connection", &error, &Echoes::default()))?;
        let mut session = Self { budget, connection, echoes: echoes(server) };
        if server.security == Security::StartTls {
            session.start_tls(server, &hello).await?;
        }
        Ok(session)
    }

    async fn start_tls(&mut self, server: &Server, hello: &ClientId) -> Result<(), SendError> {
        let peer = self.budget.peer();
        let echoes = self.echoes.clone();
        let failed = |error: Error| SendError::Tls { peer: peer.clone(), error: told(&error, &echoes) };
        if !self.connection.can_starttls() {
            self.close().await;
            return Err(SendError::TlsNotOffered(peer));
        }
        let mut parameters = TlsParameters::builder(server.host.clone());
        if let Some(bundle) = &server.authorities {
            parameters = parameters.certificate_store(CertificateStore::None);
            for authority in bundle.certificates() {
                let authority = Certificate::from_der(authority.to_vec()).map_err(failed)?;
                parameters = parameters.add_root_certificate(authority);
            }
        }
        let parameters = parameters.build().map_err(failed)?;
        let upgrade = self.connection.starttls(parameters, hello);
        self.budget.within("going over to TLS", upgrade).await?.map_err(failed)
    }

    /// Logs in, where there is something to log in with.
    pub(super) async fn login(&mut self, server: &Server) -> Result<(), SendError> {
        let Some(Login { user, password }) = &server.login else { return Ok(()) };
        let refused = |error| SendError::LoginRefused { peer: self.budget.peer(), error };
        if self.connection.server_info().get_auth_mechanism(DEFAULT_MECHANISMS).is_none() {
            return Err(refused("it offers neither AUTH PLAIN nor AUTH LOGIN".to_owned()));
        }
        let credentials =
            Credentials::new(user.expose_secret().to_owned(), password.expose_secret().to_owned());
        let login = self.connection.auth(DEFAULT_MECHANISMS, &credentials);
        match self.budget.within("logging in", login).await? {
            Ok(_) => Ok(()),
            Err(error) if error.status().is_some() => Err(refused(told(&error, &self.echoes))),
            Err(error) => Err(broken(self.budget.peer(), "the login", &error, &told(&error, &self.echoes))),
        }
    }

    /// Hands over an e-mail. Once this says `Ok`, the server has it.
    pub(super) async fn deliver(&mut self, mail: &Mail) -> Result<(), SendError> {
        let options = self.options(mail)?;
        let (peer, echoes) = (self.budget.peer(), self.echoes.clone());
        let from = self.connection.command(MailFrom::new(Some(mail.from.clone()), options));
        let answer = self.budget.within("naming the sender", from).await?;
        answer.map_err(|error| refused(peer.clone(), "the sender", &error, &echoes))?;
        let to = self.connection.command(Rcpt::new(mail.to.clone(), Vec::new()));
        let answer = self.budget.within("naming the recipient", to).await?;
        answer.map_err(|error| refused_recipient(peer.clone(), mail, &error, &echoes))?;
        let answer = self.budget.within("asking to send", self.connection.command(Data)).await?;
        answer.map_err(|error| refused(peer.clone(), "the e-mail", &error, &echoes))?;
        let content = self.connection.message(&mail.bytes);
        let answer = self.budget.within("sending; it may have the e-mail all the same", content).await?;
        answer.map_err(|error| refused(peer, "the e-mail", &error, &echoes))?;
        Ok(())
    }

    /// What the server must be told beforehand, where something is not in ASCII.
    fn options(&self, mail: &Mail) -> Result<Vec<MailParameter>, SendError> {
        let offers = |extension| self.connection.server_info().supports_feature(extension);
        let mut options = Vec::new();
        for address in [&mail.from, &mail.to] {
            let address: &str = address.as_ref();
            if address.is_ascii() {
                continue;
            }
            if !offers(Extension::SmtpUtfEight) {
                let why = "it is not in ASCII, which the mail server does not take (SMTPUTF8)";
                return Err(SendError::InvalidAddress(plain::clip(address, 80), why));
            }
            options = vec![MailParameter::SmtpUtfEight];
        }
        if !mail.bytes.is_ascii() && offers(Extension::EightBitMime) {
            options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        Ok(options)
    }

    /// Says good-bye, as far as the server listens.
    pub(super) async fn close(&mut self) {
        let _ = self.budget.at_most(FAREWELL, self.connection.quit()).await;
    }
}

async fn tls(
    budget: &Budget,
    server: &Server,
    tcp: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, SendError> {
    let config = trust::client_config(server.authorities.as_ref())?;
    let name = ServerName::try_from(server.host.clone()).map_err(|error| {
        SendError::InvalidConfiguration(format!("host is no name that a certificate can have: {error}"))
    })?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    let failed = |error: std::io::Error| SendError::Tls { peer: budget.peer(), error: error.to_string() };
    budget.within("agreeing on TLS", handshake).await?.map_err(failed)
}

/// What a server may repeat of the login.
fn echoes(server: &Server) -> Echoes {
    let login = server.login.as_ref();
    Echoes::new(
        login.into_iter().flat_map(|login| [&login.user, &login.password]).map(ExposeSecret::expose_secret),
    )
}

/// What the server said, or what broke, unless it repeats the login. All of it is looked at, as what is told may end within
/// the password.
fn told(error: &Error, echoes: &Echoes) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    let text = match (error.status(), source) {
        (Some(code), Some(text)) => format!("{code} {text}"),
        (Some(code), None) => code.to_string(),
        (None, Some(text)) => text,
        (None, None) => error.to_string(),
    };
    let line = plain::line(&text, TOLD);
    if !echoes.are_in(&error.to_string()) && !echoes.are_in(&line) {
        return line;
    }
    match error.status() {
        Some(code) => format!("{code} {OMITTED}"),
        None => OMITTED.to_owned(),
    }
}

fn refused(peer: String, what: &'static str, error: &Error, echoes: &Echoes) -> SendError {
    match error.status() {
        Some(_) => SendError::Refused { peer, what, error: told(error, echoes) },
        None => broken(peer, what, error, &told(error, echoes)),
    }
}

fn refused_recipient(peer: String, mail: &Mail, error: &Error, echoes: &Echoes) -> SendError {
    match error.status().map(u16::from) {
        None | Some(NOT_AVAILABLE) => refused(peer, "the recipient", error, echoes),
        Some(_) => SendError::RecipientRefused { peer, to: mail.to.to_string(), error: told(error, echoes) },
    }
}

/// It answered nonsense, or no more.
fn broken(peer: String, what: &str, error: &Error, text: &str) -> SendError {
    let error_text = format!("{text} (instead of an answer to {what})");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && io.kind() != std::io::ErrorKind::InvalidData
        {
            return SendError::Unreachable { peer, error: error_text };
        }
        source = cause.source();
    }
    SendError::InvalidAnswer { peer, error: error_text }
}
