//! Executions that were ended while they were alive: their workers finish them later.

use jobexec_operator::db::late;
use serde_json::json;

use crate::support::World;
use crate::support::hook::{Hook, status};
use crate::support::https::OPEN;

#[tokio::test]
async fn a_late_finish_is_recorded_told_and_counted_once() {
    let world = World::new("late").await;
    let hook = Hook::start(false, status("200 OK")).await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 days' FROM generate_series(1, 4) n",
        )
        .await;
    let operator = world.operator_with(&OPEN);
    let channel = |name: &str, on: &[&str]| json!({"name": name, "events": on, "webhook": {"url": format!("{}/{name}", hook.base)}});
    world
        .store(json!({"notifications": {"groupWait": "0s", "groupInterval": "0s", "channels": [
            channel("failures", &["Failed"]), channel("breaker", &["Breaker"]),
        ]}}))
        .await;
    world.until_true("SELECT count(*) = 4 FROM jobexec.events WHERE action = 'Failed'").await;
    // The worker of 1 finishes, that of 2 itself records a failure, 3 runs once more, and 4 stays unchanged.
    world
        .sql(
            "UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 1; \
             UPDATE job_executions SET status = 'failed', completed_at = now() + interval '1 second' WHERE id = 2; \
             UPDATE job_executions SET status = 'completed', started_at = now(), completed_at = now() WHERE id = 3",
        )
        .await;
    world.until_true("SELECT count(*) = 1 FROM jobexec.events WHERE action = 'FinishedLate'").await;
    let record: String = world
        .one("SELECT execution_id || ': ' || reason || ', ' || note FROM jobexec.events WHERE action = 'FinishedLate'")
        .await;
    assert!(record.starts_with("1: DeadlineExceeded, it was failed at 2"), "{record}");
    assert!(record.contains("and lived: its row says 'completed', ended at 2"), "{record}");
    // People who were notified of the failure are notified of the late finish.
    let told = "SELECT count(*) = 1 FROM jobexec.messages WHERE channel = 'failures' AND ended_at IS NOT NULL
                AND message->'counts' @> '[{\"topic\": \"FinishedLate\", \"count\": 1}]'";
    world.until_true(told).await;
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.messages WHERE channel = 'breaker'").await, 0);
    let metrics = operator.metrics().await;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("jobexec_store_executions_finished_late_total{"))
        .unwrap();
    assert!(line.ends_with(" 1"), "{line}");
    // It is reported once: the next step examines other records.
    world.sql("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 4").await;
    world
        .until_true(
            "SELECT count(*) = 1 FROM jobexec.events WHERE action = 'FinishedLate' AND execution_id = '4'",
        )
        .await;
    assert_eq!(
        world.one::<i64>("SELECT count(*) FROM jobexec.events WHERE action = 'FinishedLate'").await,
        2
    );
    let stats = world.jobexec(&["stats", "-o", "json"]);
    let stats: serde_json::Value = serde_json::from_slice(&stats.stdout).unwrap();
    assert_eq!((&stats[0]["finished_late"], &stats[0]["completed"]), (&json!(2), &json!(3)), "{stats}");
}

/// More records than one step examines; the oldest is the one that matters.
#[tokio::test]
async fn records_are_looked_at_in_steps() {
    let world = World::new("late-steps").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 days' FROM generate_series(1, 1) n",
        )
        .await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.until_true("SELECT count(*) = 1 FROM jobexec.events WHERE action = 'Failed'").await;
    world
        .sql(
            "INSERT INTO jobexec.events (at, store_id, execution_id, action, reason, source) \
             SELECT now(), store_id, n, 'Failed', 'DeadlineExceeded', 'x' FROM jobexec.stores, generate_series(10, 1700) n; \
             UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 1",
        )
        .await;
    world.until_true("SELECT count(*) = 1 FROM jobexec.events WHERE action = 'FinishedLate'").await;
    drop(operator);
}

/// While a walk through many records is in progress, recently ended executions are found at once.
#[tokio::test]
async fn the_latest_records_are_looked_at_each_time() {
    let world = World::new("late-latest").await;
    let work = crate::hostile::work::Work::open(&world, &json!({}), "7", "none").await.unwrap();
    world
        .sql(
            "INSERT INTO job_executions SELECT n, 1, n, 'completed', '2026-01-01Z', now() FROM generate_series(1, 3) AS n; \
             INSERT INTO jobexec.events (at, store_id, execution_id, action, reason, source, started_at) \
             SELECT now(), store_id, CASE n WHEN 1 THEN '1' WHEN 700 THEN '2' WHEN 1400 THEN '3' ELSE 'x' END, 'Failed', \
                    'DeadlineExceeded', 'x', '2026-01-01Z' FROM jobexec.stores, generate_series(1, 1400) AS n ORDER BY n",
        )
        .await;
    let oldest: i64 = world.one("SELECT min(event_id) FROM jobexec.events").await;
    let (database, mapping, ledger) = (&work.database, &work.mapping, work.ledger());
    let step = late::step(database, mapping, ledger, Some(oldest + 400)).await.unwrap();
    let found: Vec<&str> = step.found.iter().map(|late| late.id.as_str()).collect();
    assert_eq!((found, step.before), (vec!["1", "3"], None), "the oldest, which are next, and the latest");
    let next = late::step(database, mapping, ledger, Some(oldest + 900)).await.unwrap();
    assert_eq!(next.found.iter().map(|late| late.id.as_str()).collect::<Vec<_>>(), ["2"], "each once");
    assert_eq!(next.before, Some(oldest + 400));
}

/// Adopted records are not in order of time, and a row without a start does not show which run it is.
#[tokio::test]
async fn old_records_end_no_walk_and_rows_without_a_start_are_not_late() {
    let world = World::new("late-order").await;
    let work = crate::hostile::work::Work::open(&world, &json!({}), "7", "none").await.unwrap();
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 1, 1, 'completed', '2026-01-01Z', now()), (2, 1, 2, 'completed', NULL, now()); \
             INSERT INTO jobexec.events (at, store_id, execution_id, action, reason, source, started_at) \
             SELECT CASE n WHEN 600 THEN now() - interval '9 days' ELSE now() END, store_id, \
                    CASE n WHEN 1 THEN '1' WHEN 2 THEN '2' ELSE 'x' END, 'Failed', 'DeadlineExceeded', 'x', \
                    CASE n WHEN 2 THEN NULL ELSE timestamptz '2026-01-01Z' END \
             FROM jobexec.stores, generate_series(1, 700) AS n ORDER BY n",
        )
        .await;
    let (database, mapping, ledger) = (&work.database, &work.mapping, work.ledger());
    let first = late::step(database, mapping, ledger, None).await.unwrap();
    assert!(first.found.is_empty() && first.before.is_some(), "{first:?}");
    let next = late::step(database, mapping, ledger, first.before).await.unwrap();
    assert_eq!(next.found.iter().map(|late| late.id.as_str()).collect::<Vec<_>>(), ["1"]);
}
