//! The additions of `jobexec schema --with …` to the application's table.

use std::time::Duration;

use serde_json::json;

use crate::support::proxy::Proxies;
use crate::support::{World, is, message};

/// Applies the schema with additions, as the owner of the table.
fn with(world: &World, extras: &str) -> std::process::Output {
    world.jobexec(&["schema", "--apply", "--role", &world.role, "--with", extras])
}

#[tokio::test]
async fn a_late_finish_of_an_execution_that_was_given_up_is_refused_and_counted() {
    let world = World::new("late").await;
    for _ in 0..2 {
        let output = with(&world, "check,transitions,notify");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days'), (2, 1, 2, 'running', now()), \
             (3, 1, 3, 'scheduled', NULL), (4, 1, 4, 'scheduled', NULL)",
        )
        .await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| s.last_sweep.as_ref().is_some_and(|w| w.failed == 1)).await;

    // A worker without any permission for the operator's schema.
    let worker = format!("{}_worker", world.role);
    world
        .sql(&format!("CREATE ROLE {worker}; GRANT SELECT, INSERT, UPDATE ON job_executions TO {worker}"))
        .await;
    let as_worker = async |sql: &str| {
        let mut tx = world.pool.begin().await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("SET LOCAL ROLE {worker}; {sql}")))
            .execute(&mut *tx)
            .await?;
        tx.commit().await
    };
    let refused = async |sql: &str| as_worker(sql).await.unwrap_err().to_string();
    let late =
        refused("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 1").await;
    assert!(
        late.contains("execution 1 of public.job_executions is failed and cannot become completed"),
        "{late}"
    );
    refused("UPDATE job_executions SET status = 'running', completed_at = NULL WHERE id = 1").await;
    refused("UPDATE job_executions SET status = 'paused' WHERE id = 1").await;
    refused("UPDATE job_executions SET status = 'scheduled' WHERE id = 2").await;
    refused("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 3").await;
    // The constraint refuses these, which is not counted: no execution was given up.
    refused("UPDATE job_executions SET status = 'completed' WHERE id = 2").await;
    refused("INSERT INTO job_executions VALUES (5, 1, 5, 'running', NULL)").await;

    for allowed in [
        "UPDATE job_executions SET status = 'running', started_at = now() WHERE id = 3",
        "UPDATE job_executions SET status = 'cancelled', completed_at = now() WHERE id = 4",
        "UPDATE job_executions SET status = 'paused' WHERE id = 2",
        "UPDATE job_executions SET status = 'running' WHERE id = 2",
        "UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id IN (2, 3)",
        "UPDATE job_executions SET status = status WHERE id = 1",
    ] {
        as_worker(allowed).await.unwrap_or_else(|error| panic!("{allowed}: {error}"));
    }
    assert_eq!(world.status(1).await, "failed");
    world
        .store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.refused_transitions == Some(5)))
        .await;
}

#[tokio::test]
async fn a_queue_that_tries_again_in_the_same_row_goes_on() {
    let world = World::new("retries").await;
    let change =
        async |sql: &str| sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&world.pool).await;
    let again = "UPDATE job_executions SET status = 'scheduled' WHERE id = 2";
    world.sql("INSERT INTO job_executions VALUES (2, 1, 2, 'running', now(), NULL), (3, 1, 3, 'failed', now(), now())").await;
    let output = with(&world, "transitions");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(change(again).await.is_err(), "nothing says that it is done");

    // An execution waits that has run before.
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'scheduled', now())").await;
    let output = with(&world, "transitions");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && told.contains("running executions may return to waiting"), "{told}");
    change(again).await.unwrap();
    change("UPDATE job_executions SET status = 'running' WHERE id = 2").await.unwrap();
    let finished = change("UPDATE job_executions SET status = 'scheduled' WHERE id = 3").await;
    assert!(finished.unwrap_err().to_string().contains("is failed and cannot become scheduled"));

    // If nothing was retried yet, the name of a status shows that it happens.
    world.sql("DELETE FROM job_executions WHERE id = 1").await;
    let spec = json!({"table": {"statuses": {"scheduled": ["scheduled", "retryable"]}}});
    let file = world.file("store.yaml", &World::store_with("jobs", spec).to_string());
    let output = world.jobexec(&["schema", "--apply", "-f", &file, "--with", "transitions"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    change("UPDATE job_executions SET status = 'retryable' WHERE id = 2").await.unwrap();

    // If finished executions run again, the addition is refused, whatever exists already.
    world.sql("INSERT INTO job_executions VALUES (4, 1, 4, 'running', now(), now())").await;
    let output = with(&world, "transitions");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("taken up again after they have ended"), "{told}");
}

#[tokio::test]
async fn a_constraint_says_which_rows_it_cannot_hold_for_and_holds_for_the_others() {
    let world = World::new("check").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'completed', now())").await;
    let output = with(&world, "check");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(error.contains("Repair them") && error.contains("Consistent"), "{error}");
    let second = sqlx::raw_sql("INSERT INTO job_executions VALUES (2, 1, 2, 'failed', now())")
        .execute(&world.pool)
        .await;
    assert!(second.is_err(), "it holds for new rows");

    world.sql("UPDATE job_executions SET completed_at = now()").await;
    assert!(with(&world, "check").status.success());
    assert!(
        world
            .one::<bool>(
                "SELECT convalidated FROM pg_constraint WHERE conname = 'job_executions_jobexec_times'"
            )
            .await
    );
}

#[tokio::test]
async fn every_kind_of_contradiction_is_counted() {
    let world = World::new("violations").await;
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 1, 1, 'paused', now(), NULL), (2, 1, 2, 'running', NULL, NULL), \
             (3, 1, 3, 'completed', now(), NULL), (4, 1, 4, 'failed', now(), now() - interval '1 hour'), \
             (5, 1, 5, 'running', now(), now()), (6, 1, 6, 'running', now() + interval '1 hour', NULL), \
             (7, 1, 7, 'completed', now() - interval '1 hour', now()), (8, 1, 8, 'running', now() + interval '10 seconds', NULL), \
             (9, 1, 9, 'cancelled', NULL, now()), (10, 1, 10, 'scheduled', NULL, NULL)",
        )
        .await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status =
        world.store_until(&operator, |s| is(&s.conditions, "Consistent", "False", "UnmappedStatus")).await;
    let found = serde_json::to_value(status.violations.unwrap()).unwrap();
    let each_once = json!({"unmappedStatus": 1, "runningWithoutStartedAt": 1, "finishedWithoutCompletedAt": 1,
        "completedBeforeStarted": 1, "runningWithCompletedAt": 1, "startedInFuture": 1, "startedBeforeCreated": 0, "startedAgain": 0, "idTooLong": 0});
    assert_eq!(found, each_once);
    assert!(message(&status.conditions, "Consistent").contains("1 running that start in the future"));

    for (repair, reason) in [
        ("UPDATE job_executions SET status = 'scheduled' WHERE id = 1", "RunningWithoutStartedAt"),
        ("UPDATE job_executions SET started_at = now() WHERE id = 2", "FinishedWithoutCompletedAt"),
        ("UPDATE job_executions SET completed_at = now() WHERE id = 3", "CompletedBeforeStarted"),
        ("UPDATE job_executions SET completed_at = now() WHERE id = 4", "RunningWithCompletedAt"),
        ("UPDATE job_executions SET completed_at = NULL WHERE id = 5", "StartedInFuture"),
        ("UPDATE job_executions SET started_at = now() WHERE id = 6", "NoViolations"),
    ] {
        world.sql(repair).await;
        world.request_sweep(&operator).await;
        let truth = if reason == "NoViolations" { "True" } else { "False" };
        world.store_until(&operator, |s| is(&s.conditions, "Consistent", truth, reason)).await;
    }
}

#[tokio::test]
async fn a_notification_brings_a_look_long_before_the_poll() {
    let world = World::new("notify").await;
    assert!(with(&world, "notify").status.success());
    let operator = world.operator();
    // Without the trigger, the table would not be read for minutes.
    world.store(json!({"pollInterval": "10m", "sweepInterval": "24h"})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    // Several rounds, because the operator may find the first rows during its start.
    for rows in 1..=3 {
        world
            .sql(&format!(
                "INSERT INTO job_executions SELECT {rows} * 10 + n, 1, n, 'running', now() - interval '2 days' FROM generate_series(1, {rows}) n"
            ))
            .await;
        let failed =
            world.store_until(&operator, |s| s.last_sweep.as_ref().is_some_and(|w| w.failed == rows));
        tokio::time::timeout(Duration::from_secs(40), failed)
            .await
            .expect("no look came of the notification");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_went_silent_while_it_listened_is_replaced() {
    let world = World::new("deaf").await;
    assert!(with(&world, "notify").status.success());
    let proxies = Proxies::before(&world).await;
    let operator = world.operator();
    world.store(json!({"pollInterval": "10m", "sweepInterval": "24h"})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    let listening =
        format!("FROM pg_stat_activity WHERE usename = '{}' AND query ILIKE 'LISTEN%'", world.role);
    world.until_true(&format!("SELECT count(*) = 1 {listening}")).await;
    let first: i32 = world.one(&format!("SELECT pid {listening}")).await;

    // Nothing notifies the operator, whose other connections are unchanged.
    proxies.database.forget_listeners();
    operator.has_said("cannot listen for changes", 1).await;
    world.until_true(&format!("SELECT bool_or(pid <> {first}) {listening}")).await;
}
