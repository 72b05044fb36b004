//! The server is a standby or becomes read-only, or the operator's clock is wrong.

use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};

use super::{enforces, records, running};
use crate::support::machine::Part;
use crate::support::{World, blocking, is, machine};

#[tokio::test]
async fn a_standby_is_observed_and_enforced_once_it_is_promoted() {
    let server = blocking(|| devcluster::Server::start(&[])).await;
    let world = World::on_server("standby", &server).await;
    let (_primary, standby) = blocking(move || {
        let mut server = server;
        server.standby().map(|standby| (server, standby))
    })
    .await;
    let there = |url: &str| {
        let mut url: url::Url = url.parse().unwrap();
        url.set_port(standby.url().parse::<url::Url>().unwrap().port()).unwrap();
        url.to_string()
    };
    world.sql(&running(1, "2 days")).await;
    world.secret("db", json!({"uri": there(&world.url("right/password"))})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "EnforcementPaused", "True", "DatabaseReadOnly")
                && s.metrics.as_ref().is_some_and(|m| m.stale_executions == 1)
        })
        .await;
    assert!(is(&status.conditions, "Ready", "False", "DatabaseReadOnly"));
    assert!(is(&status.conditions, "DatabaseReachable", "True", "Connected"));
    assert!(is(&status.conditions, "SchemaValid", "True", "Valid"));
    assert!(is(&status.conditions, "AuditAvailable", "False", "TablesMissing"));

    let promoted = PgPool::connect(&there(&world.superuser())).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe("SELECT pg_promote()")).execute(&promoted).await.unwrap();
    world.store_until(&operator, |s| enforces(s) && records(s)).await;
    let failed: String = sqlx::query_scalar(
        "SELECT concat_ws(' ', (SELECT status FROM job_executions), (SELECT execution_id FROM jobexec.events))",
    )
    .fetch_one(&promoted)
    .await
    .unwrap();
    assert_eq!(failed, "failed 1");
    assert_eq!(world.status(1).await, "running", "where nobody looks any more");
    promoted.close().await;
}

#[tokio::test]
async fn a_primary_that_turns_read_only_in_mid_session_is_left_and_found_again() {
    let world = World::new("turned").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, enforces).await;
    let read_only = |on| format!("ALTER ROLE {} SET default_transaction_read_only = {on}", world.role);
    world.sql(&read_only("on")).await;
    world.terminate().await;
    world.sql(&running(1, "2 days")).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "EnforcementPaused", "True", "DatabaseReadOnly")
                && is(&s.conditions, "Ready", "False", "DatabaseReadOnly")
                && s.metrics.as_ref().is_some_and(|m| m.stale_executions == 1)
        })
        .await;
    assert!(is(&status.conditions, "DatabaseReachable", "True", "Connected"));
    assert!(
        operator.log().contains("in a read-only transaction"),
        "it was told by the statement that was refused"
    );
    assert_eq!(world.status(1).await, "running");

    // The setting takes effect at login, and nothing ends the operator's sessions this time.
    world.sql(&read_only("off")).await;
    world.store_until(&operator, |s| enforces(s) && records(s)).await;
    assert_eq!(world.status(1).await, "failed");
}

#[tokio::test]
async fn the_clock_of_the_operators_machine_does_not_count() {
    let found = machine::libfaketime();
    let Some(library) = machine::needs("a clock that is wrong", Part::Debian("libfaketime"), found) else {
        return;
    };
    for (shift, name) in [("+1h", "fast"), ("-1h", "slow")] {
        let world = World::new(name).await;
        // A clock that is an hour off would judge these two the other way round, and the third at another time.
        world.sql(&running(1, "65 minutes")).await;
        world.sql(&running(2, "55 minutes")).await;
        world.sql(&running(3, "59 minutes 56 seconds")).await;
        world.sql(&running(4, "30 minutes")).await;
        world.execution("e", "4", json!({"timeout": "40m"})).await;
        let operator = world.operator_with(&[
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("FAKETIME", shift),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]);
        world.store(json!({"defaultTimeout": "1h", "pollInterval": "10m"})).await;
        let status = world
            .store_until(&operator, |s| {
                enforces(s) && s.metrics.as_ref().is_some_and(|m| m.running_executions == 2)
            })
            .await;
        assert_eq!(status.metrics.unwrap().stale_executions, 0);
        let early: i64 = world
            .one("SELECT count(*) FROM job_executions WHERE completed_at < started_at + interval '1 hour'")
            .await;
        assert_eq!(early, 0, "{shift}");
        let rows: String = world.one("SELECT string_agg(status, ' ' ORDER BY id) FROM job_executions").await;
        assert_eq!(rows, "failed running failed running", "{shift}");
        let e = world.execution_until(&operator, "e", |s| s.deadline.is_some()).await;
        assert_eq!(e.deadline.unwrap().0.duration_since(e.started_at.unwrap().0).as_secs(), 40 * 60);
        let log = operator.log();
        let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
        let at: chrono::DateTime<chrono::Utc> = first["timestamp"].as_str().unwrap().parse().unwrap();
        let off = (at - chrono::Utc::now()).num_minutes().abs();
        assert!((50..=61).contains(&off), "the operator's clock is {off} minutes off");
    }
}
