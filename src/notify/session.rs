//! An SMTP session, step by step, so that an error names its step.

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

use super::deadline::Deadline;
use super::limited_stream::LimitedStream;
use super::mail::Mail;
use super::server::{Login, Server};
use super::{SendError, sanitize, tls_roots};
use crate::api::notifications::Security;
use crate::net::Dialer;
use crate::secrets::{Echoes, ExposeSecret, OMITTED};

/// How long to wait for the answer to QUIT.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// How much of an answer an error quotes, in characters.
const QUOTED: usize = 200;

/// The reply code of a server that accepts nothing more for now, as after too many errors.
const NOT_AVAILABLE: u16 = 421;

/// An SMTP session over a connection with the configured security.
pub(super) struct Session {
    deadline: Deadline,
    connection: AsyncSmtpConnection,
    /// The credentials, which the server may repeat in an answer.
    echoes: Echoes,
}

impl Session {
    /// Connects, with TLS if the spec says so. `limit` applies to the whole session.
    pub(super) async fn open(dialer: &Dialer, server: &Server, limit: Duration) -> Result<Self, SendError> {
        let deadline = Deadline::new(&format!("{}:{}", server.host, server.port), limit);
        let unreachable = |error: std::io::Error| SendError::Unreachable {
            peer: deadline.peer(),
            error: error.to_string(),
        };
        let connecting = dialer.connect(&server.host, server.port, deadline.instant());
        let tcp = deadline.within("connecting", connecting).await?;
        let tcp = tcp.map_err(|error| SendError::not_dialled(deadline.peer(), limit, error))?;
        let peer = tcp.peer_addr().map_err(unreachable)?;
        let hello = match tcp.local_addr().map_err(unreachable)?.ip() {
            std::net::IpAddr::V4(own) => ClientId::Ipv4(own),
            std::net::IpAddr::V6(own) => ClientId::Ipv6(own),
        };
        let stream: Box<dyn AsyncTokioStream> = match server.security {
            Security::Tls => Box::new(LimitedStream::new(tls(&deadline, server, tcp).await?, peer)),
            Security::StartTls | Security::None => Box::new(LimitedStream::new(tcp, peer)),
        };
        let greeting = AsyncSmtpConnection::connect_with_transport(stream, &hello);
        let doing = match server.security {
            Security::Tls => "waiting for its greeting",
            _ => {
                "waiting for its greeting, which never comes if the port requires security TLS, such as port 465"
            }
        };
        let connection = deadline.within(doing, greeting).await?;
        let connection = connection
            .map_err(|error| refused(deadline.peer(), "the connection", &error, &Echoes::default()))?;
        let mut session = Self { deadline, connection, echoes: echoes(server) };
        if server.security == Security::StartTls {
            session.start_tls(server, &hello).await?;
        }
        Ok(session)
    }

    async fn start_tls(&mut self, server: &Server, hello: &ClientId) -> Result<(), SendError> {
        let peer = self.deadline.peer();
        let echoes = self.echoes.clone();
        let failed = |error: Error| SendError::Tls { peer: peer.clone(), error: describe(&error, &echoes) };
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
        self.deadline.within("upgrading to TLS", upgrade).await?.map_err(failed)
    }

    /// Logs in, if there are credentials.
    pub(super) async fn login(&mut self, server: &Server) -> Result<(), SendError> {
        let Some(Login { user, password }) = &server.login else { return Ok(()) };
        let refused = |error| SendError::LoginRefused { peer: self.deadline.peer(), error };
        if self.connection.server_info().get_auth_mechanism(DEFAULT_MECHANISMS).is_none() {
            return Err(refused("it offers neither AUTH PLAIN nor AUTH LOGIN".to_owned()));
        }
        let credentials =
            Credentials::new(user.expose_secret().to_owned(), password.expose_secret().to_owned());
        let login = self.connection.auth(DEFAULT_MECHANISMS, &credentials);
        match self.deadline.within("logging in", login).await? {
            Ok(_) => Ok(()),
            Err(error) if error.status().is_some() => Err(refused(describe(&error, &self.echoes))),
            Err(error) => {
                Err(broken(self.deadline.peer(), "the login", &error, &describe(&error, &self.echoes)))
            }
        }
    }

    /// Delivers an e-mail. After `Ok`, the server is responsible for it.
    pub(super) async fn deliver(&mut self, mail: &Mail) -> Result<(), SendError> {
        let options = self.options(mail)?;
        let (peer, echoes) = (self.deadline.peer(), self.echoes.clone());
        let from = self.connection.command(MailFrom::new(Some(mail.from.clone()), options));
        let answer = self.deadline.within("naming the sender", from).await?;
        answer.map_err(|error| refused(peer.clone(), "the sender", &error, &echoes))?;
        let to = self.connection.command(Rcpt::new(mail.to.clone(), Vec::new()));
        let answer = self.deadline.within("naming the recipient", to).await?;
        answer.map_err(|error| refused_recipient(peer.clone(), mail, &error, &echoes))?;
        let answer = self.deadline.within("asking to send", self.connection.command(Data)).await?;
        answer.map_err(|error| refused(peer.clone(), "the e-mail", &error, &echoes))?;
        let content = self.connection.message(&mail.bytes);
        let answer = self.deadline.within("sending; it may have accepted the e-mail", content).await?;
        answer.map_err(|error| refused(peer, "the e-mail", &error, &echoes))?;
        Ok(())
    }

    /// Returns the SMTP parameters for content or addresses that are not ASCII.
    fn options(&self, mail: &Mail) -> Result<Vec<MailParameter>, SendError> {
        let offers = |extension| self.connection.server_info().supports_feature(extension);
        let mut options = Vec::new();
        for address in [&mail.from, &mail.to] {
            let address: &str = address.as_ref();
            if address.is_ascii() {
                continue;
            }
            if !offers(Extension::SmtpUtfEight) {
                let why = "it is not in ASCII, which the mail server does not support (SMTPUTF8)";
                return Err(SendError::InvalidAddress(sanitize::clip(address, 80), why));
            }
            options = vec![MailParameter::SmtpUtfEight];
        }
        if !mail.bytes.is_ascii() && offers(Extension::EightBitMime) {
            options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        Ok(options)
    }

    /// Ends the session; failures do not matter.
    pub(super) async fn close(&mut self) {
        let _ = self.deadline.at_most(QUIT_TIMEOUT, self.connection.quit()).await;
    }
}

async fn tls(
    deadline: &Deadline,
    server: &Server,
    tcp: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, SendError> {
    let config = tls_roots::client_config(server.authorities.as_ref())?;
    let name = ServerName::try_from(server.host.clone()).map_err(|error| {
        SendError::InvalidConfiguration(format!("host is not a name that a certificate can have: {error}"))
    })?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    let failed = |error: std::io::Error| SendError::Tls { peer: deadline.peer(), error: error.to_string() };
    deadline.within("negotiating TLS", handshake).await?.map_err(failed)
}

/// Returns the credentials, which a server may repeat.
fn echoes(server: &Server) -> Echoes {
    let login = server.login.as_ref();
    Echoes::new(
        login.into_iter().flat_map(|login| [&login.user, &login.password]).map(ExposeSecret::expose_secret),
    )
}

/// Describes the answer of the server or the failure, unless it repeats the credentials. Checks the whole text, because the
/// truncated one may end within the password.
fn describe(error: &Error, echoes: &Echoes) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    let text = match (error.status(), source) {
        (Some(code), Some(text)) => format!("{code} {text}"),
        (Some(code), None) => code.to_string(),
        (None, Some(text)) => text,
        (None, None) => error.to_string(),
    };
    let line = sanitize::line(&text, QUOTED);
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
        Some(_) => SendError::Refused { peer, what, error: describe(error, echoes) },
        None => broken(peer, what, error, &describe(error, echoes)),
    }
}

fn refused_recipient(peer: String, mail: &Mail, error: &Error, echoes: &Echoes) -> SendError {
    match error.status().map(u16::from) {
        None | Some(NOT_AVAILABLE) => refused(peer, "the recipient", error, echoes),
        Some(_) => {
            SendError::RecipientRefused { peer, to: mail.to.to_string(), error: describe(error, echoes) }
        }
    }
}

/// Converts a broken connection or a malformed answer.
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
