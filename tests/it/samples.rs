//! Counts over time.

use chrono::TimeDelta;
use jobexec_operator::db::observe::{self, RunningCounts};
use jobexec_operator::db::{Database, samples};
use serde_json::json;

use crate::support::{PATIENCE, World, is};

/// Counts of running executions, at an arbitrary moment.
fn live(running: i64) -> RunningCounts {
    let now = chrono::Utc::now();
    RunningCounts {
        now,
        running,
        long_running: 1,
        stale: 0,
        oldest: None,
        of_finished_jobs: 0,
        pair: None,
        suspects: observe::Suspects::default(),
        recreated: observe::Suspects::default(),
    }
}

#[tokio::test]
async fn a_sample_a_minute_tells_what_was_ended_since_the_one_before() {
    let world = World::new("sampled").await;
    world
        .sql("INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name) VALUES ('jobexec.stores'::regclass, 'job_executions'::regclass, 'public', 'job_executions')")
        .await;
    let options: sqlx::postgres::PgConnectOptions = world.superuser().parse().unwrap();
    let database = Database::connect(options, 1, std::time::Duration::from_secs(30)).await.unwrap();
    let event = "INSERT INTO jobexec.events (at, store_id, execution_id, action, reason, source) \
                 SELECT date_trunc('minute', now()) - $ago$::interval, 1, 'x', '$action$', 'r', 's'";
    // Two within the 5 minutes since the last sample, others earlier, in the future, or of another kind.
    for (ago, action) in [
        ("1 minute", "Failed"),
        ("4 minutes", "Cancelled"),
        ("3 minutes", "Warned"),
        ("6 minutes", "Failed"),
        ("-1 minute", "Failed"),
    ] {
        world.sql(&event.replace("$ago$", &format!("'{ago}'")).replace("$action$", action)).await;
    }
    world
        .sql(
            "INSERT INTO jobexec.samples SELECT 1, date_trunc('minute', now()) - n, 9, 0, 0, 0, 0 \
             FROM unnest(ARRAY['5 minutes', '31 days', '29 days']::interval[]) n",
        )
        .await;
    samples::keep(&database, 1, &live(3), None).await.unwrap();
    samples::keep(&database, 1, &live(4), None).await.unwrap();
    let kept: String = world
        .one("SELECT string_agg(concat_ws(' ', running, long_running, failed, scheduled), ', ' ORDER BY at) FROM jobexec.samples")
        .await;
    // If the minute ended between the two, there are two samples; the old one is gone.
    assert!(["9 0 0 0, 9 0 0 0, 3 1 2", "9 0 0 0, 9 0 0 0, 3 1 2, 4 1 0"].contains(&kept.as_str()), "{kept}");

    let points = samples::since(&database, 1, TimeDelta::hours(24), TimeDelta::minutes(5)).await.unwrap();
    assert!((1..=3).contains(&points.len()), "{points:?}");
    assert_eq!(points.iter().map(|point| point.failed).sum::<i64>(), 2);
    assert_eq!(points.iter().map(|point| point.running).max(), Some(9));
}

#[tokio::test]
async fn the_operator_keeps_one_once_it_has_run_for_a_minute() {
    let world = World::new("keeps").await;
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 1, 1, 'running', now()); \
             INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name) VALUES ('jobexec.stores'::regclass, 'job_executions'::regclass, 'public', 'job_executions'); \
             INSERT INTO jobexec.events (at, store_id, execution_id, action, reason, source) \
             SELECT now() - n * interval '1 day', 1, '9', 'Failed', 'r', 's' FROM generate_series(8, 12) n",
        )
        .await;
    let operator = world.operator();
    world.store(json!({"history": {"retention": "240h"}})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    let deadline = tokio::time::Instant::now() + 5 * PATIENCE;
    while world.one::<i64>("SELECT count(*) FROM jobexec.samples WHERE running = 1").await == 0 {
        assert!(tokio::time::Instant::now() < deadline, "no sample\n{}", operator.log());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    // Old records are deleted too, as the spec says: of five records, those older than ten days.
    world.until_true("SELECT count(*) = 2 FROM jobexec.events").await;
}

#[tokio::test]
async fn without_the_table_all_else_goes_on() {
    let world = World::new("sampleless").await;
    // As an older operator has left it.
    world.sql("DROP TABLE jobexec.samples; DELETE FROM jobexec._sqlx_migrations WHERE version = 2").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    world.until_true("SELECT status = 'failed' FROM job_executions").await;
    world.until_true("SELECT count(*) = 1 FROM jobexec.events").await;
    assert!(operator.log().contains("no health over time is kept"), "{}", operator.log());
}
