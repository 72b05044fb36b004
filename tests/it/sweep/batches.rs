//! Sweeps of many rows, in batches: with two operators, ended in the middle, and reported once.

use std::time::Duration;

use jobexec_operator::db::{Database, ledger};
use serde_json::json;

use crate::support::{PATIENCE, World, is};

#[tokio::test]
async fn what_an_operator_did_not_live_to_tell_is_told_by_the_next() {
    let world = World::new("untold").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    operator.kill();
    // As after a crash between the commit and the Event.
    world
        .sql(
            "INSERT INTO jobexec.sweeps SELECT '6ba7b810-9dad-11d1-80b4-00c04fd430c8', store_id, 'Deadline', now() - interval '5 minutes', 7 FROM jobexec.stores; \
             INSERT INTO jobexec.events (at, store_id, sweep_id, execution_id, job_id, execution_number, action, reason, source, started_at) \
             SELECT at, store_id, '6ba7b810-9dad-11d1-80b4-00c04fd430c8', n, 3, n, 'Failed', 'DeadlineExceeded', 'x', at - interval '30 hours' \
             FROM jobexec.stores, generate_series(1, 7) n, (SELECT now() - interval '5 minutes' AS at) AS batch",
        )
        .await;
    let operator = world.operator();
    let event = world.event_until(&operator, "jobs", "StaleExecutionsFailed").await;
    assert_eq!(
        event,
        "failed 7 stale executions: 1 (job 3, #1, 30.0 h), 2 (job 3, #2, 30.0 h), 3 (job 3, #3, 30.0 h), \
         4 (job 3, #4, 30.0 h), 5 (job 3, #5, 30.0 h) and 2 more"
    );
    operator.kill();
    let operator = world.operator();
    world.store_until(&operator, |s| s.last_sweep.as_ref().is_some_and(|w| w.trigger == "Startup")).await;
    let told =
        world.events().await.into_iter().filter(|e| e.reason.as_deref() == Some("StaleExecutionsFailed"));
    assert_eq!(told.count(), 1, "told once, whoever tells");
}

#[tokio::test]
async fn the_sweep_of_another_operator_has_ended_a_minute_after_its_last_batch() {
    let world = World::new("foreign").await;
    world
        .sql(
            "INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name) VALUES ('jobexec.stores'::regclass, 'job_executions'::regclass, 'public', 'job_executions'); \
             INSERT INTO jobexec.sweeps VALUES (gen_random_uuid(), 1, 'Startup', now() - interval '10 minutes', 2, NULL); \
             INSERT INTO jobexec.events (at, store_id, sweep_id, execution_id, action, reason, source) \
             SELECT now() - age, 1, sweep_id, '7', 'Failed', 'r', 's' \
             FROM jobexec.sweeps, (VALUES ('10 minutes'::interval), ('50 seconds')) AS v (age)",
        )
        .await;
    let login: sqlx::postgres::PgConnectOptions = world.url("right/password").parse().unwrap();
    let database = Database::connect(login, 1, Duration::from_secs(30)).await.unwrap();
    let ended = async |own: &[uuid::Uuid]| {
        let sweeps = ledger::announcements::unannounced(&database, 1, own, 5).await.unwrap();
        assert_eq!((sweeps.len(), sweeps[0].failed, sweeps[0].sample.len()), (1, 2, 2));
        sweeps[0].ended
    };
    assert!(!ended(&[]).await, "it may go on");
    assert!(ended(&[world.one("SELECT sweep_id FROM jobexec.sweeps").await]).await);
    world.sql("UPDATE jobexec.events SET at = at - interval '20 seconds'").await;
    assert!(ended(&[]).await);
    // Its records may be gone.
    world.sql("DELETE FROM jobexec.events").await;
    let sweeps = ledger::announcements::unannounced(&database, 1, &[], 5).await.unwrap();
    assert!(sweeps[0].ended);
}

#[tokio::test]
async fn many_stale_executions_are_failed_in_batches_each_recorded_once() {
    let world = World::new("batches").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, n % 7, n, 'running', now() - interval '1 day' - n * interval '1 second' FROM generate_series(1, 12001) n; \
             INSERT INTO job_executions SELECT n, 8, n, 'running', now() FROM generate_series(20001, 21000) n",
        )
        .await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    assert_eq!(status.last_sweep.unwrap().failed, 12_001);
    let counts: String = world
        .one(
            "SELECT concat_ws(' ', (SELECT count(*) FROM job_executions WHERE status = 'failed' AND completed_at IS NOT NULL), \
             (SELECT count(*) FROM job_executions WHERE status = 'running'), count(*), count(DISTINCT execution_id), \
             (SELECT string_agg(failed::text, ',') FROM jobexec.sweeps)) FROM jobexec.events",
        )
        .await;
    assert_eq!(counts, "12001 1000 12001 12001 12001");
    let event = world.event_until(&operator, "jobs", "StaleExecutionsFailed").await;
    assert!(event.ends_with(" and 11996 more"), "{event}");
}

#[tokio::test]
async fn two_operators_at_once_do_no_harm() {
    let world = World::new("two").await;
    world
        .sql("INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 days' FROM generate_series(1, 20000) n")
        .await;
    let (first, second) = (world.operator(), world.operator());
    world.store(json!({})).await;
    world.store_until(&first, |s| s.metrics.as_ref().is_some_and(|m| m.running_executions == 0)).await;
    let recorded: String =
        world.one("SELECT concat_ws(' ', count(*), count(DISTINCT execution_id)) FROM jobexec.events").await;
    assert_eq!(recorded, "20000 20000");
    assert!(first.stop().success() && second.stop().success());
}

#[tokio::test]
async fn asked_to_stop_it_ends_after_the_batch_under_way() {
    let world = World::new("stop").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 days' FROM generate_series(1, 100000) n; \
             CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF EXISTS (SELECT FROM ended) THEN NOTIFY swept; END IF; RETURN NULL; END$$; \
             CREATE TRIGGER told AFTER UPDATE ON job_executions REFERENCING NEW TABLE AS ended EXECUTE FUNCTION told()",
        )
        .await;
    let mut committed = sqlx::postgres::PgListener::connect_with(&world.pool).await.unwrap();
    committed.listen("swept").await.unwrap();
    let operator = world.operator();
    world.store(json!({})).await;
    tokio::time::timeout(PATIENCE, committed.recv()).await.expect("no batch was committed").unwrap();
    let log = operator.log_file();
    assert!(operator.stop().success());
    let log = std::fs::read_to_string(log).unwrap();
    assert!(!log.contains("did not end"), "it ended by itself: {log}");
    let counts = "SELECT concat_ws(' ', (SELECT count(*) FROM job_executions WHERE status = 'failed'), count(*), \
                                   count(DISTINCT execution_id), (SELECT sum(failed) FROM jobexec.sweeps)) FROM jobexec.events";
    let after: String = world.one(counts).await;
    let failed: i64 = world.one("SELECT count(*) FROM job_executions WHERE status = 'failed'").await;
    assert_eq!(after, format!("{failed} {failed} {failed} {failed}"));
    assert!(failed % 5_000 == 0 && failed < 100_000, "{failed} rows are not whole batches of a part");
    let told: usize =
        world.events().await.iter().filter(|e| e.reason.as_deref() == Some("StaleExecutionsFailed")).count();
    assert_eq!(told, 1, "what was done is told before the end");

    let operator = world.operator();
    world.store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.running_executions == 0)).await;
    assert_eq!(world.one::<String>(counts).await, "100000 100000 100000 100000");
}

#[tokio::test]
async fn a_spec_that_is_corrected_in_the_middle_of_a_sweep_counts_at_once() {
    let world = World::new("correct").await;
    // Each batch takes a while.
    world
        .sql(
            "INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 hours' FROM generate_series(1, 200000) n; \
             CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF EXISTS (SELECT FROM ended) THEN NOTIFY swept; PERFORM pg_sleep(0.5); END IF; RETURN NULL; END$$; \
             CREATE TRIGGER told AFTER UPDATE ON job_executions REFERENCING NEW TABLE AS ended EXECUTE FUNCTION told()",
        )
        .await;
    let mut committed = sqlx::postgres::PgListener::connect_with(&world.pool).await.unwrap();
    committed.listen("swept").await.unwrap();
    let operator = world.operator();
    world.store(json!({"defaultTimeout": "1h"})).await;
    tokio::time::timeout(PATIENCE, committed.recv()).await.expect("no batch was committed").unwrap();
    world.store(json!({"defaultTimeout": "24h"})).await;
    let status = world
        .store_until(&operator, |s| {
            s.observed_generation == Some(2) && s.metrics.as_ref().is_some_and(|m| m.stale_executions == 0)
        })
        .await;
    let left = status.metrics.unwrap().running_executions;
    assert!(left > 0, "the sweep went on by a timeout that had been corrected");
}

#[tokio::test]
async fn memory_does_not_grow_with_the_table() {
    let mut peaks = Vec::new();
    for running in [1_000, 300_000] {
        let world = World::new("memory").await;
        let rows =
            "INSERT INTO job_executions SELECT n, 1, n, 'running', now() FROM generate_series(1, $1) n";
        sqlx::query(rows).bind(running).execute(&world.pool).await.unwrap();
        let operator = world.operator();
        world.store(json!({})).await;
        world
            .store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.running_executions == running))
            .await;
        peaks.push(operator.memory("VmHWM"));
    }
    // Keeping the rows would take several times as much; the overhead of a busy machine does not.
    assert!(peaks[1] < 2.0 * peaks[0], "{peaks:?} MiB");
}
