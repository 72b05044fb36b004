//! Asking the servers whether they are ready.

use std::time::Duration;

use ureq::{
    Agent,
    tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig},
};

use crate::{Error, pki::Identity};

/// A client that trusts only the cluster's own authority and proves to be `identity`.
pub(crate) fn client(ca: &str, identity: &Identity) -> Result<Agent, Error> {
    let certificate = Certificate::from_pem(identity.certificate.as_bytes())?;
    let key = PrivateKey::from_pem(identity.key.as_bytes())?;
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&[Certificate::from_pem(ca.as_bytes())?]))
        .client_cert(Some(ClientCert::new_with_certs(&[certificate], key)))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        // A proxy set for the internet knows nothing of this machine's loopback.
        .proxy(None)
        .timeout_global(Some(Duration::from_secs(5)))
        .build();
    Ok(config.new_agent())
}

/// Whether `url` answers with a success.
pub(crate) fn answers(client: &Agent, url: &str) -> bool {
    client.get(url).call().is_ok()
}

/// What `url` answers, if that is a success.
pub(crate) fn text(client: &Agent, url: &str) -> Option<String> {
    client.get(url).call().ok()?.body_mut().read_to_string().ok()
}
