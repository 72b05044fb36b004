//! Anybody who writes a store or a policy names hosts. None may lead to a service that listens only for the Pod or its
//! node.

use jobexec_operator::api::notifications::{Format, Security};
use jobexec_operator::net::{AddressPolicy, Dialer};
use jobexec_operator::notify::server::Server;
use jobexec_operator::notify::webhook::{Endpoint, Target};
use jobexec_operator::notify::{Destination, SendError, Templates};
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::hostile::{Harm, Hostile};
use crate::support::{World, is, message};

#[tokio::test]
async fn a_store_does_not_lead_to_the_pod_itself_unless_that_is_allowed() {
    let world = World::new("loopback").await;
    let server = Hostile::start(Harm::Hang).await;
    let operator = world.operator_with(&[("ALLOW_ADDRESSES", "localhost,192.0.2.0/24")]);
    let at = |host: &str| server.url("secret", "disable").replace("127.0.0.1", host);
    let hosts = ["127.0.0.1", "[::ffff:127.0.0.1]", "0.0.0.0", "[::1]", "169.254.169.254"];
    for (n, host) in hosts.into_iter().enumerate() {
        world.secret("db", json!({"uri": at(host)})).await;
        // The spec changes, so that it is tried at once.
        world.store(json!({"pollInterval": format!("{}s", n + 1)})).await;
        let kind = if host.starts_with("169") { "metadata service" } else { "address" };
        let status = world
            .store_until(&operator, |s| {
                is(&s.conditions, "Ready", "False", "AddressRefused")
                    && message(&s.conditions, "Ready").contains(host.trim_matches(['[', ']']))
            })
            .await;
        let text = message(&status.conditions, "Ready");
        assert!(text.contains("egress.allow") && text.contains(kind), "{text}");
    }
    assert_eq!(server.logins(), 0, "nothing was connected to");
    // The same address under an allowed name.
    world.secret("db", json!({"uri": world.url("right/password").replace("127.0.0.1", "localhost")})).await;
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
}

#[tokio::test]
async fn a_host_that_decodes_to_a_path_is_refused() {
    let world = World::new("path").await;
    let operator = world.operator();
    let folder = tempfile::tempdir().unwrap();
    let socket = tokio::net::UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
    let path = folder.path().to_str().unwrap().replace('/', "%2F");
    world
        .secret("db", json!({"uri": format!("postgres://someone:canary-4711@{path}/app?sslmode=disable")}))
        .await;
    world.store(json!({})).await;
    let status = world.store_until(&operator, |s| is(&s.conditions, "Ready", "False", "InvalidURL")).await;
    let text = message(&status.conditions, "Ready");
    assert!(text.contains("neither a name nor an IP address") && !text.contains("canary"), "{text}");
    assert!(tokio::time::timeout(std::time::Duration::ZERO, socket.accept()).await.is_err(), "nobody came");
}

/// The reason why a destination was not reached.
async fn refused(dialer: &Dialer, destination: &Destination) -> SendError {
    let message = crate::notify::message();
    destination.deliver(dialer, &Templates::new(None).0, &message).await.outcome.unwrap_err()
}

#[tokio::test]
async fn neither_do_webhooks_and_mail() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let dialer = Dialer::new(AddressPolicy::default());
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "127.1",
        "2130706433",
        "0x7f000001",
        "169.254.169.254",
        "[fd00:ec2::254]",
    ] {
        for scheme in ["http", "https"] {
            let url = Endpoint::new(&format!("{scheme}://{host}:{port}/hook")).unwrap();
            let target = Target { url, signing_key: None, authorities: None, format: Format::Json };
            let error = refused(&dialer, &Destination::Webhook(target)).await;
            assert_eq!(error.reason(), "AddressRefused", "{host}: {error}");
        }
        let server = Server {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            security: Security::None,
            authorities: None,
            login: None,
            from: "jobexec@example.org".to_owned(),
        };
        let error = refused(&dialer, &Destination::Email { server, to: "ops@example.org".to_owned() }).await;
        assert_eq!(error.reason(), "AddressRefused", "{host}: {error}");
        assert!(error.to_string().contains("egress.allow"), "{error}");
    }
    assert!(tokio::time::timeout(std::time::Duration::ZERO, listener.accept()).await.is_err(), "nobody came");
}
