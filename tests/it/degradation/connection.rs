//! The Secret disappears or is replaced, or a pooler keeps no session.

use jobexec_operator::api::{ExecutionStore, ExecutionStoreStatus};
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgTransaction};

use super::{enforces, records, running};
use crate::support::machine::Part;
use crate::support::{PgBouncer, World, is, machine};

#[tokio::test]
async fn a_deleted_secret_takes_the_credential_away() {
    let world = World::new("nosecret").await;
    let url = world.url("right/password");
    world.secret("db", json!({"uri": url, "url": url})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| enforces(s) && s.metrics.is_some()).await;

    world.api::<Secret>().delete("db", &DeleteParams::default()).await.unwrap();
    // A spec that names another key makes the operator read the Secret at once; otherwise it does so each minute.
    world.store(json!({"connection": {"secretRef": {"key": "url"}}})).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "DatabaseReachable", "False", "SecretNotFound")
                && is(&s.conditions, "Ready", "False", "SecretNotFound")
        })
        .await;
    assert!(
        is(&status.conditions, "EnforcementPaused", "Unknown", "NotObserved"),
        "{:#?}",
        status.conditions
    );
    assert!(status.metrics.is_some(), "the last figures stay, with their time");
    let none = format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = '{}'", world.role);
    world.until_true(&none).await;
    world.sql(&running(1, "2 days")).await;

    world.secret("db", json!({"url": url})).await;
    world.store_until(&operator, enforces).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
}

#[tokio::test]
async fn a_spec_that_names_another_secret_is_followed_at_once() {
    let world = World::new("othersecret").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, enforces).await;
    world.secret("other", json!({"uri": world.url("wrong")})).await;
    world.store(json!({"connection": {"secretRef": {"name": "other"}}})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "False", "AuthenticationFailed")).await;
}

/// The processes of the servers behind these clients, sorted. None has a setting or a statement of the operator; then
/// this leaves settings on each.
async fn unchanged_servers(clients: [&mut PgTransaction<'static>; 2]) -> Vec<i32> {
    let mut servers = Vec::new();
    for client in clients {
        let seen: (i32, String) = sqlx::query_as(
            "SELECT pg_backend_pid(), concat_ws(' ', current_setting('statement_timeout'), current_setting('lock_timeout'), \
             current_setting('idle_in_transaction_session_timeout'), (SELECT count(*) FROM pg_prepared_statements))",
        )
        .persistent(false)
        .fetch_one(&mut **client)
        .await
        .unwrap();
        assert_eq!(seen.1, "0 0 0 0");
        servers.push(seen.0);
        // Settings that another client leaves on them do not affect the operator.
        sqlx::raw_sql("SET search_path = nowhere; SET default_transaction_isolation = 'serializable'; SET enable_seqscan = off")
            .execute(&mut **client)
            .await
            .unwrap();
    }
    servers.sort_unstable();
    servers
}

#[tokio::test]
async fn behind_pgbouncer_in_transaction_mode_everything_works() {
    let found = machine::program("pgbouncer");
    let Some(program) = machine::needs("behind PgBouncer", Part::Debian("pgbouncer"), found) else {
        return;
    };
    let world = World::new("pooler").await;
    world
        .sql(
            "CREATE TABLE more (LIKE job_executions INCLUDING ALL); ALTER TABLE more ADD worker bigint; \
             CREATE TABLE workers (id bigint, seen timestamptz)",
        )
        .await;
    let heartbeat = json!({"table": "workers", "key": "id", "by": "worker", "at": "seen"});
    let spec = json!({"table": {"name": "more"}, "heartbeat": heartbeat, "heartbeatTimeout": "1h"});
    let more = World::store_with("more", spec);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), more.to_string()).unwrap();
    // Change notifications do not work through such a pooler; requesting them must do no harm.
    let apply =
        ["schema", "--apply", "--role", &world.role, "--with", "notify", "-f", file.path().to_str().unwrap()];
    assert!(world.jobexec(&apply).status.success());
    world
        .sql(
            "INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 days' FROM generate_series(1, 12001) n; \
             INSERT INTO more SELECT n, 1, n, 'running', now() - interval '2 days' FROM generate_series(1, 3) n",
        )
        .await;
    let pooler = PgBouncer::start(&program, &world);
    let url = pooler.url(&world.url("right/password"));
    world.secret("db", json!({"uri": url})).await;
    world.execution("longer", "12001", json!({"timeout": "72h"})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.apply::<ExecutionStore>("more", more).await.unwrap();
    let done = |s: &ExecutionStoreStatus, left| {
        enforces(s) && records(s) && s.metrics.as_ref().is_some_and(|m| m.running_executions == left)
    };
    world.store_until(&operator, |s| done(s, 1)).await;
    world.store_named_until(&operator, "more", |s| done(s, 0)).await;
    world.execution_until(&operator, "longer", |s| s.timeout.as_deref() == Some("3d")).await;
    let recorded: String = world
        .one("SELECT concat_ws(' ', count(*), count(DISTINCT (store_id, execution_id))) FROM jobexec.events WHERE action = 'Failed'")
        .await;
    assert_eq!(recorded, "12003 12003");

    // The pooler has only two connections to the server, which all of the above share, and they are unchanged: no setting
    // and no prepared statement of the operator stayed on them.
    let login: PgConnectOptions = url.parse().unwrap();
    let clients = PgPool::connect_with(login.extra_float_digits(None)).await.unwrap();
    let (mut first, mut second) = (clients.begin().await.unwrap(), clients.begin().await.unwrap());
    let servers = unchanged_servers([&mut first, &mut second]).await;
    world
        .until_true(&format!(
            "SELECT array_agg(pid ORDER BY pid) = ARRAY{servers:?} FROM pg_stat_activity WHERE usename = '{}'",
            world.role
        ))
        .await;
    first.commit().await.unwrap();
    second.commit().await.unwrap();
    world.sql("UPDATE more SET status = 'running', completed_at = NULL").await;
    world.until_true("SELECT count(*) = 6 FROM jobexec.events WHERE store_id = (SELECT store_id FROM jobexec.stores WHERE table_name = 'more')").await;
    world.store_named_until(&operator, "more", |s| done(s, 0)).await;
    clients.close().await;
}
