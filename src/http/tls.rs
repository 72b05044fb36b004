//! The certificate of the server, from mounted files that are read again when they change, or self-signed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::Mutex;

use crate::secrets::describe_pem;

/// The minimum interval between checks of the files, which happen on new connections.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// An error that prevents loading the certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    File(PathBuf, io::Error),
    /// A file does not contain what it should.
    #[error("{}", describe_pem(.0))]
    Pem(PathBuf),
    /// The certificate does not match the key.
    #[error("the certificate and the key do not form a valid pair: {0}")]
    Pair(#[from] rustls::Error),
    /// No self-signed certificate can be generated.
    #[error("no certificate can be generated: {0}")]
    Generate(#[from] rcgen::Error),
}

/// The source of the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A new self-signed certificate at each start.
    SelfSigned,
    /// Two PEM files, such as those of a mounted Secret.
    Files {
        /// The certificate, followed by its issuers.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
}

/// The certificate and key of the server, loaded on demand.
pub(super) struct Identity {
    source: Source,
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    checked_at: Option<Instant>,
    /// The contents of the files at the last check.
    contents: Option<[Vec<u8>; 2]>,
    config: Option<Arc<ServerConfig>>,
}

impl Identity {
    pub(super) fn new(source: Source) -> Self {
        Self { source, loaded: Mutex::default() }
    }

    /// Returns the configuration for a new connection. While the files are unusable, the previous configuration stays
    /// in effect.
    pub(super) async fn config(&self) -> io::Result<Arc<ServerConfig>> {
        let mut loaded = self.loaded.lock().await;
        if loaded.checked_at.is_none_or(|at| at.elapsed() >= CHECK_INTERVAL)
            && let Err(error) = self.reload(&mut loaded).await
        {
            tracing::warn!(%error, "cannot load the certificate: fix the files that --tls-cert-file and --tls-key-file name");
        }
        loaded.config.clone().ok_or_else(|| io::Error::other("no certificate is loaded"))
    }

    async fn reload(&self, loaded: &mut Loaded) -> Result<(), TlsError> {
        loaded.checked_at = Some(Instant::now());
        match &self.source {
            Source::SelfSigned if loaded.config.is_some() => {}
            Source::SelfSigned => loaded.config = Some(self_signed()?),
            Source::Files { certificate, key } => {
                let now = [read(certificate).await?, read(key).await?];
                if loaded.contents.as_ref() != Some(&now) {
                    let config = from_pem(certificate, &now[0], key, &now[1]);
                    loaded.contents = Some(now);
                    loaded.config = Some(config?);
                    tracing::info!(file = %certificate.display(), "loaded the certificate");
                }
            }
        }
        Ok(())
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    tokio::fs::read(path).await.map_err(|error| TlsError::File(path.to_owned(), error))
}

fn from_pem(
    certificate_file: &Path,
    certificate: &[u8],
    key_file: &Path,
    key: &[u8],
) -> Result<Arc<ServerConfig>, TlsError> {
    let bad = |path: &Path| {
        let path = path.to_owned();
        // The error itself may quote a line of the key.
        move |_| TlsError::Pem(path)
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(bad(certificate_file))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(bad(key_file))?;
    server_config(chain, key)
}

/// Generates a certificate for this host and for the names by which it reaches itself.
fn self_signed() -> Result<Arc<ServerConfig>, TlsError> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty()));
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    server_config(vec![made.cert.der().clone()], key.into())
}

/// Builds the configuration: TLS 1.2 and 1.3, HTTP/1.1.
fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
