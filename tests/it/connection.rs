//! Every possible fault between a store and its database: reported in a condition, fixed without a restart, and no
//! password in any output.

use serde_json::json;

use crate::support::{World, is, message};

#[tokio::test]
async fn every_fault_of_a_connection_is_told_and_mended() {
    let world = World::new("connection").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    let wrong = world.url("wrong-password-1");
    let mut closed_port: url::Url = world.url("wrong-password-2").parse().unwrap();
    // Nothing listens on the discard port.
    closed_port.set_port(Some(9)).unwrap();
    let no_database = world.url("right/password").replace(&format!("/{}?", world.role), "/no_such_database?");
    let operator = world.operator();
    world
        .apply::<jobexec_operator::api::ExecutionStore>(
            "jobs",
            World::store_with("jobs", json!({"connection": {"secretRef": {"name": "mine"}}})),
        )
        .await
        .unwrap();

    let unreachable = async |reason: &str, hint: &str| {
        let status = world
            .store_until(&operator, |s| {
                is(&s.conditions, "DatabaseReachable", "False", reason)
                    && is(&s.conditions, "Ready", "False", reason)
            })
            .await;
        let text = message(&status.conditions, "Ready");
        assert!(text.contains(hint), "{hint} not in {text}");
        assert!(is(&status.conditions, "SchemaValid", "Unknown", "NotObserved"));
    };
    unreachable("SecretNotFound", "there is no Secret mine").await;
    world.secret("mine", json!({"url": "x"})).await;
    unreachable("SecretKeyMissing", "has no key uri").await;
    world.secret("mine", json!({"uri": "db.example:5432 hunter2"})).await;
    unreachable("InvalidURL", "must start with postgres://").await;
    world.secret("mine", json!({"uri": wrong})).await;
    unreachable("AuthenticationFailed", "Check the user and the password").await;
    // The largest possible content of a Secret.
    world.secret("mine", json!({"uri": format!("x:{}", "x".repeat(1_000_000))})).await;
    unreachable("InvalidURL", "must start with postgres://").await;
    world.secret("mine", json!({"uri": closed_port.as_str()})).await;
    unreachable("ConnectionFailed", "Check the host and port").await;
    world.secret("mine", json!({"uri": no_database})).await;
    unreachable("DatabaseNotFound", "no_such_database").await;
    assert_eq!(world.status(1).await, "running");

    world.secret("mine", json!({"uri": world.url("right/password")})).await;
    let status = world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    assert!(is(&status.conditions, "DatabaseReachable", "True", "Connected"));
    assert_eq!(world.status(1).await, "failed");

    let store = serde_json::to_string(&status).unwrap();
    let events = serde_json::to_string(&world.events().await).unwrap();
    for output in [operator.log(), store, events] {
        for secret in ["wrong-password", "right/password", "right%2Fpassword", "hunter2"] {
            assert!(!output.contains(secret), "{secret} in {output}");
        }
    }
}

#[tokio::test]
async fn a_rotated_password_needs_no_restart() {
    let world = World::new("rotation").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;

    // The server has the new password before the Secret does, and drops the connections that used the old one.
    world.sql(&format!("ALTER ROLE {} PASSWORD 'new-password'", world.role)).await;
    world
        .sql(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'",
            world.role
        ))
        .await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "False", "AuthenticationFailed")).await;
    world.secret("db", json!({"uri": world.url("new-password")})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
}

#[tokio::test]
async fn a_read_only_database_is_observed_and_not_written() {
    let world = World::new("readonly").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    let read_only = |on| format!("ALTER ROLE {} SET default_transaction_read_only = {on}", world.role);
    world.sql(&read_only("on")).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "EnforcementPaused", "True", "DatabaseReadOnly") && s.metrics.is_some()
        })
        .await;
    assert!(is(&status.conditions, "Ready", "False", "DatabaseReadOnly"));
    assert!(is(&status.conditions, "DatabaseReachable", "True", "Connected"));
    assert_eq!(status.metrics.unwrap().stale_executions, 1, "health is still seen");
    assert_eq!(world.status(1).await, "running");

    world.sql(&read_only("off")).await;
    // The setting takes effect at login.
    world
        .sql(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'",
            world.role
        ))
        .await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    assert_eq!(world.status(1).await, "failed");
}

#[tokio::test]
async fn the_servers_certificate_is_checked_when_asked_for() {
    let world = World::new("tls").await;
    let full = |ca: &str| world.url("right/password").replace("sslmode=require", &format!("sslmode={ca}"));
    world.secret("db", json!({"uri": full("verify-full")})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world.store_until(&operator, |s| is(&s.conditions, "Ready", "False", "TLSFailed")).await;
    assert!(message(&status.conditions, "Ready").contains("caSecretRef"));
    let ca = std::fs::read_to_string(std::env::var("DEVCLUSTER_CA").unwrap()).unwrap();
    world.secret("db", json!({"uri": full("verify-full"), "ca.crt": ca})).await;
    world.store(json!({"connection": {"caSecretRef": {"name": "db", "key": "ca.crt"}}})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
}
