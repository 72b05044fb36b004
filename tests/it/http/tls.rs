//! Certificates from files, which are read again when they change.

use std::path::Path;

use serde_json::json;

use super::HEALTH;
use crate::support::https::builder;
use crate::support::{PATIENCE, World};

/// Writes a new certificate for loopback and its key, in one step as a kubelet does, and returns it.
fn renew(folder: &Path) -> reqwest::Certificate {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let version = folder.join(uuid::Uuid::new_v4().to_string());
    std::fs::create_dir(&version).unwrap();
    std::fs::write(version.join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(version.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    let link = folder.join("new");
    std::os::unix::fs::symlink(&version, &link).unwrap();
    std::fs::rename(link, folder.join("data")).unwrap();
    reqwest::Certificate::from_der(made.cert.der()).unwrap()
}

#[tokio::test]
async fn a_certificate_is_read_again_when_it_changes() {
    let world = World::new("apitls").await;
    let folder = tempfile::tempdir().unwrap();
    let first = renew(folder.path());
    let (certificate, key) = (folder.path().join("data/tls.crt"), folder.path().join("data/tls.key"));
    let files = [("TLS_CERT_FILE", certificate.to_str().unwrap()), ("TLS_KEY_FILE", key.to_str().unwrap())];
    let (operator, https) = world.serving(&files).await;
    world.store(json!({})).await;
    let answers = async |trusted: &reqwest::Certificate| {
        // Over a new connection each time.
        let client = builder().tls_certs_only([trusted.clone()]).build().unwrap();
        let request = https.with_client(client).request(reqwest::Method::GET, HEALTH);
        request.send().await.is_ok()
    };
    assert!(answers(&first).await, "{}", operator.log());
    let second = renew(folder.path());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !answers(&second).await {
        assert!(tokio::time::Instant::now() < deadline, "{}", operator.log());
    }
    assert!(!answers(&first).await);

    // Invalid files change nothing.
    std::fs::write(&certificate, "nonsense").unwrap();
    while !operator.log().contains("cannot load the certificate") {
        assert!(answers(&second).await, "{}", operator.log());
        assert!(tokio::time::Instant::now() < deadline, "it was not looked at\n{}", operator.log());
    }
    assert!(answers(&second).await);
    let third = renew(folder.path());
    while !answers(&third).await {
        assert!(tokio::time::Instant::now() < deadline, "{}", operator.log());
    }
}

#[tokio::test]
async fn old_versions_of_tls_are_refused() {
    let world = World::new("apitlsold").await;
    let (_operator, https) = world.serving(&[]).await;
    let get = async |max: reqwest::tls::Version| {
        let client = builder().tls_danger_accept_invalid_certs(true).tls_version_max(max).build();
        match client {
            Ok(client) => {
                https.with_client(client).request(reqwest::Method::GET, HEALTH).send().await.is_ok()
            }
            // This client does not even support it.
            Err(_) => false,
        }
    };
    assert!(get(reqwest::tls::Version::TLS_1_2).await && get(reqwest::tls::Version::TLS_1_3).await);
    assert!(!get(reqwest::tls::Version::TLS_1_1).await);
    // A request without TLS.
    assert!(reqwest::get(format!("http://{}{HEALTH}", https.address())).await.is_err());
}
