//! The way to the server: TCP to an address that was checked, and TLS.

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

/// How a client asks for TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A server, and how to connect to it.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) mode: PgSslMode,
    /// Who vouches for it, in PEM form, in place of the system's authorities.
    pub(super) authority: Option<Vec<u8>>,
    /// How long it may take until the login is done.
    pub(super) connect_timeout: Duration,
    pub(super) dialer: Dialer,
}

/// A connection to a server.
pub(super) struct Upstream {
    pub(super) stream: Stream,
    /// Whether it is known who the server is, and that nobody else hears, so that the password may be sent in any form.
    pub(super) trusted: bool,
}

/// With TLS or without.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Endpoint {
    /// Connects, at the latest at `deadline`.
    pub(super) async fn open(&self, deadline: Instant) -> Result<Upstream, Fault> {
        let dialled = self.dialer.connect(&self.host, self.port, deadline).await;
        let tcp = dialled.map_err(|error| match error {
            DialError::Refused(refused) => Fault::AddressRefused(refused.to_string()),
            DialError::TimedOut => Fault::TimedOut(self.connect_timeout),
            error => Fault::Unreachable(error.to_string()),
        })?;
        // A person's own computer, at the end of a tunnel or before a server of their own.
        let tunnel = self.dialer.policy().is_unrestricted()
            && tcp.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
        if matches!(self.mode, PgSslMode::Disable) {
            return Ok(Upstream { stream: Stream::Plain(tcp), trusted: tunnel });
        }
        let stream = Stream::Tls(Box::new(self.protect(tcp).await?));
        // Any certificate of any public authority passes verify-ca without an authority of its own.
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
        // What somebody on the way sends after this byte goes to TLS, which does not take it for its own.
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
