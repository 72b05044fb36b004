//! The features that keep working, those that stop, and the status, while something that a store depends on is missing or
//! disappears: one test for each cell of the matrix.

use jobexec_operator::api::{ExecutionStore, ExecutionStoreStatus};
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgTransaction};
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::machine::Part;
use crate::support::world::TABLE;
use crate::support::{PgBouncer, World, blocking, is, machine, message};

fn enforces(status: &ExecutionStoreStatus) -> bool {
    is(&status.conditions, "Ready", "True", "Enforcing")
}

fn records(status: &ExecutionStoreStatus) -> bool {
    is(&status.conditions, "AuditAvailable", "True", "TablesPresent")
}

/// A row that began this long ago.
fn running(id: i64, age: &str) -> String {
    format!("INSERT INTO job_executions VALUES ({id}, 1, {id}, 'running', now() - interval '{age}')")
}

#[tokio::test]
async fn without_the_right_to_create_anything_timeouts_are_kept_in_memory() {
    let world = World::bare("norights").await;
    world.sql(TABLE).await;
    world
        .sql(&format!("GRANT SELECT, UPDATE (status, completed_at) ON job_executions TO {}", world.role))
        .await;
    world.secret("db", json!({"uri": world.url("right/password")})).await;
    for (id, age) in [(1, "2 days"), (2, "2 days"), (3, "2 hours"), (4, "2 hours")] {
        world.sql(&running(id, age)).await;
    }
    world.execution("longer", "2", json!({"timeout": "72h"})).await;
    world.execution("shorter", "3", json!({"timeout": "1h"})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world
        .store_until(&operator, |s| {
            enforces(s) && s.metrics.as_ref().is_some_and(|m| m.running_executions == 2)
        })
        .await;
    assert!(is(&status.conditions, "AuditAvailable", "False", "TablesMissing"), "{:#?}", status.conditions);
    let text = message(&status.conditions, "AuditAvailable");
    assert!(
        text.contains("this login may not create it") && text.contains("jobexec schema --apply"),
        "{text}"
    );
    let left: String = world
        .one("SELECT string_agg(id::text, ' ' ORDER BY id) FROM job_executions WHERE status = 'running'")
        .await;
    assert_eq!(left, "2 4", "the default timeout and both objects' timeouts are respected");
    world.execution_until(&operator, "shorter", |s| is(&s.conditions, "Finished", "True", "Failed")).await;
    let longer = world.execution_until(&operator, "longer", |s| s.timeout.is_some()).await;
    assert_eq!(longer.timeout.as_deref(), Some("3d"));
    assert!(!world.one::<bool>("SELECT to_regnamespace('jobexec') IS NOT NULL").await);
}

#[tokio::test]
async fn tables_dropped_while_running_stop_the_recording_and_nothing_else() {
    let world = World::new("dropped").await;
    world.sql(&running(1, "2 days")).await;
    world.execution("longer", "1", json!({"timeout": "72h"})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| enforces(s) && records(s)).await;
    for (id, what) in [(10, "SCHEMA jobexec CASCADE"), (20, "TABLE jobexec.rules")] {
        world.sql(&format!("DROP {what}; {}", running(id, "2 days"))).await;
        let told = world
            .store_until(&operator, |s| {
                enforces(s) && is(&s.conditions, "AuditAvailable", "False", "TablesMissing")
            })
            .await;
        assert!(message(&told.conditions, "AuditAvailable").contains("jobexec schema --apply"), "{what}");
        world.until_true(&format!("SELECT status = 'failed' FROM job_executions WHERE id = {id}")).await;
        assert_eq!(world.status(1).await, "running", "the timeouts in force are known without {what}");

        // An administrator fixes it, and the operator continues without a restart.
        world.prepare().await;
        world.store_until(&operator, |s| enforces(s) && records(s)).await;
        let next = id + 1;
        world.sql(&running(next, "2 days")).await;
        let recorded = format!("SELECT count(*) = 1 FROM jobexec.events WHERE execution_id = '{next}'");
        world.until_true(&recorded).await;
        assert_eq!(
            (world.status(next).await.as_str(), world.status(1).await.as_str()),
            ("failed", "running")
        );
    }
}

#[tokio::test]
async fn tables_that_the_operator_may_create_it_makes_again() {
    let world = World::that_may_create("again").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| enforces(s) && records(s)).await;
    for (id, what) in [(1, "SCHEMA jobexec CASCADE"), (2, "TABLE jobexec.rules")] {
        world.sql(&format!("DROP {what}; {}", running(id, "2 days"))).await;
        world.until_true("SELECT to_regclass('jobexec.rules') IS NOT NULL").await;
        world
            .until_true(&format!("SELECT count(*) = 1 FROM jobexec.events WHERE execution_id = '{id}'"))
            .await;
        world.store_until(&operator, |s| enforces(s) && records(s)).await;
    }
}

#[tokio::test]
async fn rights_taken_away_while_running_are_told_and_mended() {
    let world = World::new("revoked").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| enforces(s) && records(s)).await;
    world.sql(&format!("REVOKE INSERT ON jobexec.events FROM {}", world.role)).await;
    world.sql(&running(1, "2 days")).await;
    let status = world
        .store_until(&operator, |s| {
            enforces(s) && is(&s.conditions, "AuditAvailable", "False", "TablesMissing")
        })
        .await;
    assert!(message(&status.conditions, "AuditAvailable").contains("jobexec.events (SELECT, INSERT)"));
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;

    world.sql(&format!("REVOKE UPDATE (status) ON job_executions FROM {}", world.role)).await;
    world.sql(&running(2, "2 days")).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "SchemaValid", "False", "InsufficientPrivilege")
                && is(&s.conditions, "EnforcementPaused", "True", "InsufficientPrivilege")
        })
        .await;
    assert!(message(&status.conditions, "Ready").contains("GRANT UPDATE"), "{:#?}", status.conditions);
    assert_eq!(world.status(2).await, "running");

    world.prepare().await;
    world.store_until(&operator, |s| enforces(s) && records(s)).await;
    world.until_true("SELECT count(*) = 1 FROM jobexec.events WHERE execution_id = '2'").await;
}

/// Extensions are recorded in these tables and nowhere else.
#[tokio::test]
async fn rights_taken_away_end_no_execution_that_a_person_gave_more_time() {
    let world = World::new("more-time").await;
    world.sql(&running(1, "1 hour")).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| enforces(s) && records(s)).await;
    let extended = world.jobexec(&["extend", "1", "--by", "72h"]);
    assert!(extended.status.success(), "{}", String::from_utf8_lossy(&extended.stderr));
    world.sql("UPDATE job_executions SET started_at = now() - interval '2 days'").await;
    for (id, what) in [(2, "USAGE ON SCHEMA jobexec"), (3, "INSERT ON jobexec.events")] {
        world.sql(&format!("REVOKE {what} FROM {}; {}", world.role, running(id, "2 days"))).await;
        let held = |s: &ExecutionStoreStatus| is(&s.conditions, "EnforcementPaused", "True", "TablesMissing");
        let status = world.store_until(&operator, held).await;
        assert!(message(&status.conditions, "EnforcementPaused").contains("extended"), "{status:#?}");
        assert_eq!(world.status(1).await, "running", "{what}");
        world.prepare().await;
        world.store_until(&operator, |s| enforces(s) && records(s)).await;
        world.until_true(&format!("SELECT status = 'failed' FROM job_executions WHERE id = {id}")).await;
    }
    assert_eq!(world.status(1).await, "running");
}

#[tokio::test]
async fn without_the_index_a_sweep_is_slower_and_does_the_same() {
    let world = World::new("noindex").await;
    let many = |from: i64| {
        format!(
            "INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 days' FROM generate_series({from}, {from} + 6000) n"
        )
    };
    world.sql("DROP INDEX job_executions_running").await;
    world.sql(&many(1)).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status =
        world.store_until(&operator, |s| s.last_sweep.as_ref().is_some_and(|w| w.failed == 6001)).await;
    assert!(enforces(&status) && records(&status), "{:#?}", status.conditions);

    world.prepare().await;
    world.sql("DROP INDEX job_executions_running").await;
    world.sql(&many(10_001)).await;
    world
        .store_until(&operator, |s| {
            enforces(s) && s.last_sweep.as_ref().is_some_and(|w| w.trigger == "Deadline" && w.failed == 6001)
        })
        .await;
}

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
