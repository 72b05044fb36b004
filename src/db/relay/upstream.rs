//! The connection to the server: TCP to an address that was checked, and TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use sqlx::postgres::PgSslMode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Fault, tls};
use crate::net::{DialError, Dialer};

/// The message by which a client asks for TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A server, and how to connect to it.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) mode: PgSslMode,
    /// The authorities that may sign its certificate, in PEM form, in place of the system's authorities.
    pub(super) authority: Option<Vec<u8>>,
    /// The maximum time until the login is complete.
    pub(super) connect_timeout: Duration,
    pub(super) dialer: Dialer,
}

/// A connection to a server.
pub(super) struct Upstream {
    pub(super) stream: Stream,
    /// True if the server's identity is known and nobody else can read the connection, so that the password may be sent in any
    /// form.
    pub(super) trusted: bool,
}

/// A connection with or without TLS.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Endpoint {
    /// Connects before `deadline`.
    pub(super) async fn open(&self, deadline: Instant) -> Result<Upstream, Fault> {
        let dialled = self.dialer.connect(&self.host, self.port, deadline).await;
        let tcp = dialled.map_err(|error| match error {
            DialError::Refused(refused) => Fault::AddressRefused(refused.to_string()),
            DialError::TimedOut => Fault::TimedOut(self.connect_timeout),
            error => Fault::Unreachable(error.to_string()),
        })?;
        // The command runs on a person's own computer, through a tunnel or next to a local server.
        let tunnel = self.dialer.policy().is_unrestricted()
            && tcp.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
        if matches!(self.mode, PgSslMode::Disable) {
            return Ok(Upstream { stream: Stream::Plain(tcp), trusted: tunnel });
        }
        let stream = Stream::Tls(Box::new(self.protect(tcp).await?));
        // Without an authority in the spec, verify-ca accepts any certificate of any public authority.
        let verified = match self.mode {
            PgSslMode::VerifyFull => true,
            PgSslMode::VerifyCa => self.authority.is_some(),
            _ => false,
        };
        Ok(Upstream { stream, trusted: verified || tunnel })
    }

    async fn protect(&self, mut tcp: TcpStream) -> Result<TlsStream<TcpStream>, Fault> {
        let unreachable = |error: io::Error| Fault::Unreachable(error.to_string());
        tcp.write_all(&SSL_REQUEST).await.map_err(unreachable)?;
        // TLS rejects anything that an attacker injects after this byte.
        match tcp.read_u8().await.map_err(unreachable)? {
            b'S' => {}
            b'N' => return Err(Fault::Tls("the server does not support TLS".to_owned())),
            b'E' => {
                let why = "it refused the connection before TLS, as when it has no process left";
                return Err(Fault::Unreachable(why.to_owned()));
            }
            byte => {
                let answer = char::from(byte);
                return Err(Fault::Malformed(format!(
                    "{answer:?} in answer to the question whether it has TLS"
                )));
            }
        }
        let config = tls::config(self.mode, self.authority.as_deref())?;
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| Fault::Tls("the host is no name that a certificate can have".to_owned()))?;
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => Fault::Tls(error.to_string()),
            _ => unreachable(error),
        })
    }
}
