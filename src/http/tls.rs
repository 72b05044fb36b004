//! Who the server is: the certificate from mounted files, looked at again as they change, or one that it signs itself.

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

/// How often the files are looked at, at the most: when a connection comes.
const LOOK: Duration = Duration::from_secs(1);

/// Why there is no identity to show.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("cannot read {0}: {1}")]
    File(PathBuf, io::Error),
    /// What it holds.
    #[error("{}", describe_pem(.0))]
    Pem(PathBuf),
    /// Both together.
    #[error("the certificate and the key cannot be used: {0}")]
    Pair(#[from] rustls::Error),
    /// None could be made.
    #[error("no certificate could be made: {0}")]
    Made(#[from] rcgen::Error),
}

/// Where the certificate is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// It signs one itself at each start.
    SelfSigned,
    /// Two PEM files, such as a mounted Secret's.
    Files {
        /// The certificate and those that vouch for it.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

/// The identity that connections are shown.
pub(super) struct Identity {
    source: Source,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    looked: Option<Instant>,
    /// What the files held when they were last looked at.
    held: Option<[Vec<u8>; 2]>,
    config: Option<Arc<ServerConfig>>,
}

impl Identity {
    pub(super) fn new(source: Source) -> Self {
        Self { source, last: Mutex::default() }
    }

    /// The settings for a new connection. What was in force stays so while the files cannot be used.
    pub(super) async fn config(&self) -> io::Result<Arc<ServerConfig>> {
        let mut last = self.last.lock().await;
        if last.looked.is_none_or(|at| at.elapsed() >= LOOK)
            && let Err(error) = self.look(&mut last).await
        {
            tracing::warn!(%error, "the certificate cannot be used: mend the files that --tls-cert-file and --tls-key-file name");
        }
        last.config.clone().ok_or_else(|| io::Error::other("there is no certificate"))
    }

    async fn look(&self, last: &mut Last) -> Result<(), TlsError> {
        last.looked = Some(Instant::now());
        match &self.source {
            Source::SelfSigned if last.config.is_some() => {}
            Source::SelfSigned => last.config = Some(self_signed()?),
            Source::Files { certificate, key } => {
                let now = [read(certificate).await?, read(key).await?];
                if last.held.as_ref() != Some(&now) {
                    let config = from_pem(certificate, &now[0], key, &now[1]);
                    last.held = Some(now);
                    last.config = Some(config?);
                    tracing::info!(file = %certificate.display(), "the certificate was read");
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
        // Its text may quote a line of the key.
        move |_| TlsError::Pem(path)
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(bad(certificate_file))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(bad(key_file))?;
    settings(chain, key)
}

/// For this host under the names by which it reaches itself.
fn self_signed() -> Result<Arc<ServerConfig>, TlsError> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty()));
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    settings(vec![made.cert.der().clone()], key.into())
}

/// TLS 1.2 and 1.3, HTTP/1.1.
fn settings(
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
