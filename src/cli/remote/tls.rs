//! TLS: which certificates of the API to trust.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio_rustls::TlsConnector;

use super::RemoteError;
use crate::secrets::CaBundle;

/// Which certificates to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Those signed by an authority of this system.
    System,
    /// Those signed by an authority in this PEM file.
    Authority(PathBuf),
    /// Any: the peer is authenticated otherwise, or the user skips the check.
    Any,
}

/// Creates a connector for TLS 1.2 and 1.3 with HTTP/1.1.
pub(super) fn connector(trust: &Trust) -> Result<TlsConnector, RemoteError> {
    let setup = |error: rustls::Error| RemoteError::Setup(error.to_string());
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(setup)?;
    let builder = match trust {
        Trust::System => builder.with_platform_verifier().map_err(setup)?,
        Trust::Authority(file) => builder.with_root_certificates(authorities(file)?),
        Trust::Any => builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(provider))),
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn authorities(file: &PathBuf) -> Result<RootCertStore, RemoteError> {
    let bad = |error: String| RemoteError::Authority(file.clone(), error);
    let text = std::fs::read_to_string(file).map_err(|error| bad(error.to_string()))?;
    CaBundle::parse(&text).map(|bundle| bundle.roots()).map_err(|error| bad(error.to_string()))
}

/// Accepts any certificate, but still checks that the peer has its key.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
