//! An HTTPS client that checks whether the servers are ready.

use std::time::Duration;

use ureq::{
    Agent,
    tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig},
};

use crate::{Error, pki::Identity};

/// Creates a client that trusts only the cluster's certificate authority and authenticates as `identity`.
pub(crate) fn client(ca: &str, identity: &Identity) -> Result<Agent, Error> {
    let certificate = Certificate::from_pem(identity.certificate.as_bytes())?;
    let key = PrivateKey::from_pem(identity.key.as_bytes())?;
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&[Certificate::from_pem(ca.as_bytes())?]))
        .client_cert(Some(ClientCert::new_with_certs(&[certificate], key)))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        // A proxy for the internet cannot reach the loopback of this machine.
        .proxy(None)
        .timeout_global(Some(Duration::from_secs(5)))
        .build();
    Ok(config.new_agent())
}

/// Reports whether `url` responds with success.
pub(crate) fn answers(client: &Agent, url: &str) -> bool {
    client.get(url).call().is_ok()
}

/// Returns the response body of `url`, if it responds with success.
pub(crate) fn text(client: &Agent, url: &str) -> Option<String> {
    client.get(url).call().ok()?.body_mut().read_to_string().ok()
}
