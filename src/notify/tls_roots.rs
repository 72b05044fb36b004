//! Trusted certificate authorities of outgoing connections.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::SendError;
use crate::secrets::CaBundle;

/// Returns a configuration for TLS 1.2 and 1.3 that trusts these authorities; without them, those of the system.
pub(super) fn client_config(authorities: Option<&CaBundle>) -> Result<ClientConfig, SendError> {
    let setup = |error: rustls::Error| {
        SendError::InvalidConfiguration(format!(
            "TLS cannot be set up: {error}. Set caSecretRef if this system has no certificate authorities"
        ))
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(setup)?;
    Ok(match authorities {
        Some(bundle) => builder.with_root_certificates(bundle.roots()),
        None => builder.with_platform_verifier().map_err(setup)?,
    }
    .with_no_client_auth())
}
