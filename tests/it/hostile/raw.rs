//! Connections to the operator whose bytes a test writes itself.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::https::Https;
use crate::support::{Operator, PATIENCE, World};

/// The HTTPS port of an operator with a certificate of the test.
pub(super) struct Port {
    pub(super) address: SocketAddr,
    connector: TlsConnector,
}

impl Port {
    /// Starts an operator that serves with a certificate of the test.
    pub(super) async fn open(world: &World, env: &[(&str, &str)]) -> (Operator, Https, Self) {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let certificate = world.file("tls.crt", &made.cert.pem());
        let key = world.file("tls.key", &made.signing_key.serialize_pem());
        let files = [("TLS_CERT_FILE", certificate.as_str()), ("TLS_KEY_FILE", key.as_str())];
        let (operator, https) = world.serving(&[&files[..], env].concat()).await;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = https.address().parse().unwrap();
        (operator, https, Self { address, connector: TlsConnector::from(Arc::new(config)) })
    }

    pub(super) async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = tcp(self.address, "127.0.0.1").await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        self.connector.connect(name, stream).await.unwrap()
    }

    /// Sends the head of a POST whose body comes in chunks, after the server has requested it.
    pub(super) async fn post(&self, path: &str, headers: &str) -> Slow {
        let mut stream = self.connect().await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{headers}Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        Slow { stream, told: Vec::new() }
    }
}

/// Waits for the end of a connection on which nothing is sent. Fails if the server ends it without `close_notify`.
pub(super) async fn closed(mut stream: TlsStream<TcpStream>) -> std::io::Result<usize> {
    let ended = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 64])).await;
    ended.expect("an idle connection stayed open")
}

/// Connects from this address.
pub(super) async fn tcp(to: SocketAddr, from: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(format!("{from}:0").parse().unwrap())?;
    socket.connect(to).await
}

/// A request that is being sent.
pub(super) struct Slow {
    stream: TlsStream<TcpStream>,
    told: Vec<u8>,
}

impl Slow {
    /// Waits until the server sends this text, or closes the connection.
    pub(super) async fn until(&mut self, text: &str) -> String {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let told = String::from_utf8_lossy(&self.told).into_owned();
            let mut buffer = [0; 4_096];
            if told.contains(text) {
                return told;
            }
            let read = tokio::time::timeout_at(deadline, self.stream.read(&mut buffer)).await;
            match read.unwrap_or_else(|_| panic!("it never said {text:?}: {told:?}")) {
                Ok(read) if read > 0 => self.told.extend(&buffer[..read]),
                end => panic!("it hung up ({end:?}) before it said {text:?}: {told:?}"),
            }
        }
    }

    /// Waits until the server requests the body, as it does for a caller who may send one.
    pub(super) async fn wanted(mut self) -> Self {
        self.until("100 Continue").await;
        self
    }

    /// Sends one byte of the body; false: the server accepts no more.
    pub(super) async fn byte(&mut self) -> bool {
        self.stream.write_all(b"1\r\n \r\n").await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Sends the end of the body.
    pub(super) async fn end(&mut self) {
        // The server may have given up.
        let _ = self.stream.write_all(b"0\r\n\r\n").await;
        let _ = self.stream.flush().await;
    }
}
