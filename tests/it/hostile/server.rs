//! A malicious server in place of a store's database. It ends only its own connection, the store reports why, and the
//! deadlines of other stores are met meanwhile.

use std::time::{Duration, Instant};

use jobexec_operator::api::ExecutionStore;
use jobexec_operator::db::{Database, Pools, url};
use jobexec_operator::net::Dialer;
use serde_json::json;

use crate::support::hostile::{Harm, Hostile};
use crate::support::{Operator, World, is, message};

/// A password that must not be sent or printed.
const CANARY: &str = "canary-4711";

/// Each kind of harm, the reason for the store, and a part of its message.
const HARMS: [(Harm, &str, &str); 17] = [
    (Harm::BigError, "ServerLimitExceeded", "2147483643 bytes"),
    (Harm::LateError, "ServerLimitExceeded", "2147483643 bytes"),
    (Harm::HugeRow, "ServerLimitExceeded", "2147483643 bytes"),
    (Harm::ManyRows, "ServerLimitExceeded", "the answer to a statement takes more than"),
    (Harm::BadRow, "InvalidMessage", "a row whose parts do not fit its length"),
    (Harm::Scram, "ServerLimitExceeded", "hashed more than 100000 times"),
    (Harm::BadSasl, "InvalidMessage", "a salt of a SCRAM login that is none"),
    (Harm::Short, "InvalidMessage", "an authentication message without a kind"),
    (Harm::Zero, "InvalidMessage", "a message of length 0"),
    (Harm::Notices, "ServerLimitExceeded", "before the login was done"),
    (Harm::LateNotices, "NoAnswer", "did not answer within"),
    (Harm::Parameters, "ServerLimitExceeded", "settings"),
    (Harm::Notifications, "NoAnswer", "did not answer within"),
    (Harm::Hang, "ConnectTimeout", "no connection to the server within 2s"),
    (Harm::Drip, "ConnectTimeout", "no connection to the server within 2s"),
    (Harm::ClearText, "InsecureLogin", "sslmode=verify-full"),
    (Harm::Md5, "InsecureLogin", "scram-sha-256"),
];

/// Creates a store whose Secret leads to this server.
async fn store(world: &World, name: &str, uri: &str, ca: Option<&str>) {
    world.secret(name, json!({"uri": uri, "ca.crt": ca.unwrap_or_default()})).await;
    let mut spec = json!({"connection": {"secretRef": {"name": name}, "statementTimeout": "1s"}});
    if ca.is_some() {
        spec["connection"]["caSecretRef"] = json!({"name": name, "key": "ca.crt"});
    }
    world.apply::<ExecutionStore>(name, World::store_with(name, spec)).await.unwrap();
}

/// Waits until an execution past its deadline is failed.
async fn a_deadline_is_met(world: &World, id: i64) {
    world
        .sql(&format!(
            "INSERT INTO job_executions VALUES ({id}, 1, {id}, 'running', now() - interval '2 days')"
        ))
        .await;
    world.until_true(&format!("SELECT status = 'failed' FROM job_executions WHERE id = {id}")).await;
}

/// Checks that the operator itself wrote every line.
fn no_line_is_forged(operator: &Operator) {
    for line in operator.own_lines() {
        let own: Result<serde_json::Value, _> = serde_json::from_str(&line);
        assert!(own.is_ok_and(|line| line["timestamp"].is_string()), "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }
}

#[tokio::test]
async fn a_hostile_server_harms_its_own_store_only() {
    let world = World::new("hostile").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    let mut servers = Vec::new();
    for (n, (harm, reason, hint)) in HARMS.into_iter().enumerate() {
        let server = Hostile::start(harm).await;
        let name = format!("hostile{n}");
        // Some with TLS without verification, some without TLS.
        let sslmode = if n % 2 == 0 { "require" } else { "disable" };
        let uri = format!("{}&connect_timeout=2", server.url(CANARY, sslmode));
        store(&world, &name, &uri, None).await;
        servers.push((server, name, harm, reason, hint));
    }
    for (n, (server, ..)) in servers.iter().enumerate() {
        server.met().await;
        a_deadline_is_met(&world, i64::try_from(n).unwrap()).await;
    }
    for (server, name, harm, reason, hint) in &servers {
        let status =
            world.store_named_until(&operator, name, |s| is(&s.conditions, "Ready", "False", reason)).await;
        let text = message(&status.conditions, "Ready");
        assert!(text.contains(hint), "{harm:?}: {text}");
        assert!(is(&status.conditions, "DatabaseReachable", "False", reason), "{harm:?}");
        let received = server.received();
        assert!(!received.windows(CANARY.len()).any(|bytes| bytes == CANARY.as_bytes()), "{harm:?}");
        if matches!(harm, Harm::ClearText | Harm::Md5) {
            assert_eq!(received, b"", "{harm:?}");
        }
    }
    a_deadline_is_met(&world, 1_000).await;
    let status = world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    assert!(is(&status.conditions, "DatabaseReachable", "True", "Connected"));
    no_line_is_forged(&operator);
    let log = operator.log();
    assert!(!log.contains("EVIL"), "notices are dropped");
    assert!(!log.contains(CANARY) && !log.contains("panicked"), "{log}");
    assert!(operator.stop().success());
}

#[tokio::test]
async fn an_error_of_a_server_forges_no_line_of_the_log() {
    let world = World::bare("forged").await;
    let server = Hostile::start(Harm::ForgedError).await;
    store(&world, "jobs", &server.url(CANARY, "disable"), None).await;
    for format in ["json", "text"] {
        let operator =
            world.operator_in(&world.namespace, &format!("{format}.log"), &[("LOG_FORMAT", format)]);
        server.met().await;
        world.store_until(&operator, |s| is(&s.conditions, "Ready", "False", "AuthenticationFailed")).await;
        operator.has_said("EVIL", 1).await;
        for line in operator.own_lines() {
            assert!(!line.contains('\u{1b}') && !line.starts_with("2026-01-01T00:00:00Z  INFO"), "{line}");
        }
    }
}

#[tokio::test]
async fn a_password_goes_in_clear_only_to_a_server_that_is_known() {
    let world = World::bare("cleartext").await;
    let server = Hostile::start(Harm::ClearText).await;
    let operator = world.operator();
    store(&world, "jobs", &server.url(CANARY, "require"), None).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "False", "InsecureLogin")).await;
    // Without an authority of its own, any certificate of a public authority would be valid.
    store(&world, "jobs", &server.url(CANARY, "verify-full"), None).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "False", "TLSFailed")).await;
    assert_eq!(server.received(), b"");
    store(&world, "jobs", &server.url(CANARY, "verify-full"), Some(&server.certificate)).await;
    // It does not respond to the password.
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "False", "ConnectTimeout")).await;
    let received = server.received();
    assert!(received.windows(CANARY.len()).any(|bytes| bytes == CANARY.as_bytes()), "{received:?}");
}

/// A client that shares a pool to this server.
async fn shared(server: &Hostile, pools: &Pools) -> Database {
    let login = url::login(&server.url("p", "disable"), None).unwrap();
    Database::shared(pools, &login, 2, Duration::from_secs(1)).await.unwrap()
}

#[tokio::test]
async fn a_connection_that_was_given_up_ends_though_the_server_is_silent() {
    let server = Hostile::start(Harm::HalfRow).await;
    let pools = Pools::new(Dialer::unrestricted());
    let database = shared(&server, &pools).await;
    server.ended_times(1).await;
    let listener = database.listen("app.runs".to_owned(), || {});
    server.met_times(2).await;
    // The pool stays open.
    drop(listener);
    server.ended_times(2).await;
    assert_eq!(server.logins(), 2);
}

#[tokio::test]
async fn a_server_that_hangs_up_on_who_listens_is_not_called_again_at_once() {
    let server = Hostile::start(Harm::HangUp).await;
    let pools = Pools::new(Dialer::unrestricted());
    let database = shared(&server, &pools).await;
    let begun = Instant::now();
    let _listener = database.listen("app.runs".to_owned(), || {});
    server.met_times(3).await;
    // Never sooner, however slow everything else is.
    assert!(begun.elapsed() >= Duration::from_secs(9), "{:?}", begun.elapsed());
}
