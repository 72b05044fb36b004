//! Whose certificates count.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::SendError;

/// TLS 1.2 and 1.3 with whom an authority in this PEM text vouches for; without it, one of the system.
pub(super) fn client_config(ca_pem: Option<&str>) -> Result<ClientConfig, SendError> {
    let setup = |error: rustls::Error| {
        SendError::InvalidConfiguration(format!(
            "TLS cannot be set up: {error}. Set caSecretRef if this system has no certificate authorities"
        ))
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(setup)?;
    let Some(pem) = ca_pem else {
        return Ok(builder.with_platform_verifier().map_err(setup)?.with_no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    for certificate in authorities(pem)? {
        roots.add(certificate).map_err(|error| unusable(&error.to_string()))?;
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The certificates in a PEM text, at least one.
pub(super) fn authorities(pem: &str) -> Result<Vec<CertificateDer<'static>>, SendError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(unusable("there is none")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unusable(&error.to_string())),
    }
}

fn unusable(error: &str) -> SendError {
    SendError::InvalidConfiguration(format!(
        "the Secret key of caSecretRef holds no usable certificates: {error}. Put the authority's certificate there, in PEM form"
    ))
}
