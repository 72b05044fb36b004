//! The effects of a sweep and, above all, what it must not do.

use std::time::Duration;

use jobexec_operator::db::{Database, ledger};
use serde_json::json;

use crate::support::{PATIENCE, World, is};

#[tokio::test]
async fn a_worker_that_is_about_to_finish_wins() {
    let world = World::new("worker").await;
    world
        .sql("INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 days' FROM generate_series(1, 3) n")
        .await;
    // The worker has finished row 2 and not committed yet.
    let mut worker = world.pool.begin().await.unwrap();
    sqlx::raw_sql("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 2")
        .execute(&mut *worker)
        .await
        .unwrap();
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    let sweep = status.last_sweep.unwrap();
    assert_eq!(
        (sweep.failed, sweep.remaining),
        (2, 1),
        "the others are failed without waiting for the row that is held"
    );

    worker.commit().await.unwrap();
    let status =
        world.store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.stale_executions == 0)).await;
    assert_eq!(status.metrics.unwrap().running_executions, 0);
    assert_eq!(world.status(2).await, "completed");
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.events WHERE execution_id = '2'").await, 0);

    // If the worker rolls back, the row is failed after all.
    world.sql("UPDATE job_executions SET status = 'running', completed_at = NULL WHERE id = 2").await;
    world
        .store_until(&operator, |s| {
            s.last_sweep.as_ref().is_some_and(|w| w.trigger == "Deadline" && w.failed == 1)
        })
        .await;
    assert_eq!(world.status(2).await, "failed");
}

#[tokio::test]
async fn who_only_refers_to_a_row_neither_keeps_it_running_nor_waits_for_a_sweep() {
    let world = World::new("refers").await;
    world.sql("CREATE TABLE logs (execution_id bigint NOT NULL REFERENCES job_executions, line text)").await;
    world
        .sql("INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 days' FROM generate_series(1, 2) n")
        .await;
    // The worker hangs in a transaction that has inserted a line into its log.
    let log = |id: i64| format!("INSERT INTO logs VALUES ({id}, 'still here')");
    let mut worker = world.pool.begin().await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(log(1))).execute(&mut *worker).await.unwrap();
    // The sweep takes a while, so that the test can act during it.
    world
        .sql(
            "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END $$; \
             CREATE TRIGGER waits AFTER UPDATE ON job_executions FOR EACH ROW EXECUTE FUNCTION waits()",
        )
        .await;
    let mut holder = world.pool.acquire().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(7)").execute(&mut *holder).await.unwrap();
    let operator = world.operator();
    world.store(json!({})).await;
    world
        .until_true("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)")
        .await;
    for id in [1, 2] {
        world.sql(&format!("SET LOCAL lock_timeout = '1s'; {}", log(id))).await;
    }
    holder.close().await.unwrap();
    world.until_true("SELECT count(*) = 2 FROM job_executions WHERE status = 'failed'").await;
    worker.commit().await.unwrap();
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.events WHERE action = 'Failed'").await, 2);
    drop(operator);
}

#[tokio::test]
async fn where_the_status_is_part_of_a_key_who_refers_to_a_row_holds_up_no_other() {
    let world = World::new("keyed").await;
    world
        .sql(
            "CREATE UNIQUE INDEX ON job_executions (job_id, execution_number, status); \
             CREATE TABLE logs (execution_id bigint NOT NULL REFERENCES job_executions, line text); \
             INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 days' FROM generate_series(1, 3) n",
        )
        .await;
    let mut worker = world.pool.begin().await.unwrap();
    sqlx::raw_sql("INSERT INTO logs VALUES (2, 'still here')").execute(&mut *worker).await.unwrap();
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    let sweep = status.last_sweep.unwrap();
    assert_eq!((sweep.failed, sweep.remaining), (2, 1), "{}", operator.log());
    worker.commit().await.unwrap();
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
}

#[tokio::test]
async fn an_execution_is_failed_at_its_deadline_and_never_before() {
    let world = World::new("deadline").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, 1, n, 'running', clock_timestamp() - interval '1 hour' + n * interval '700 ms' \
             FROM generate_series(1, 5) n",
        )
        .await;
    let operator = world.operator();
    // The poll interval is far longer than the time to the deadlines.
    world.store(json!({"defaultTimeout": "59m59s", "gracePeriod": "1s", "pollInterval": "10m"})).await;
    world.store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.running_executions == 0)).await;
    let early: i64 = world
        .one("SELECT count(*) FROM job_executions WHERE completed_at < started_at + interval '1 hour'")
        .await;
    assert_eq!(early, 0);
    let recorded: i64 = world
        .one(
            "SELECT count(*) FROM jobexec.events e JOIN job_executions x ON x.id::text = e.execution_id \
              WHERE e.deadline = x.started_at + interval '1 hour' AND e.at = x.completed_at",
        )
        .await;
    assert_eq!(recorded, 5);
}

#[tokio::test]
async fn observing_changes_no_row_and_enforcing_resumes() {
    let world = World::new("observe").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    let operator = world.operator();
    world.store(json!({"mode": "Observe"})).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "EnforcementPaused", "True", "Observing") && s.metrics.is_some()
        })
        .await;
    assert!(is(&status.conditions, "Ready", "True", "Observing"));
    assert_eq!(status.metrics.unwrap().stale_executions, 1);
    assert!(status.last_sweep.is_none());
    assert_eq!(world.status(1).await, "running");

    world.store(json!({"mode": "Enforce"})).await;
    world.store_until(&operator, |s| s.last_sweep.as_ref().is_some_and(|w| w.failed == 1)).await;
    assert_eq!(world.status(1).await, "failed");
}

#[tokio::test]
async fn a_sweep_comes_when_asked_for_once() {
    let world = World::new("request").await;
    let operator = world.operator();
    world.store(json!({"pollInterval": "10m"})).await;
    world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    let status = world.request_sweep(&operator).await;
    let sweep = status.last_sweep.unwrap();
    assert_eq!((sweep.trigger.as_str(), sweep.failed), ("Requested", 1));
    assert_eq!(world.status(1).await, "failed");

    // After a restart, the same request is not answered again.
    operator.kill();
    let operator = world.operator();
    let status =
        world.store_until(&operator, |s| s.last_sweep.as_ref().is_some_and(|w| w.trigger == "Startup")).await;
    assert_eq!(status.last_sweep.unwrap().failed, 0);
}

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
async fn a_sweep_comes_at_each_interval_and_finds_what_nothing_told_of() {
    let world = World::new("interval").await;
    let operator = world.operator();
    // Without it, there would be no reconcile for a minute.
    world.store(json!({"sweepInterval": "10s", "pollInterval": "10m"})).await;
    let status = world
        .store_until(&operator, |s| s.last_sweep.as_ref().is_some_and(|w| w.trigger == "Interval"))
        .await;
    assert_eq!(status.last_sweep.unwrap().failed, 0);
    for rows in 1..=2 {
        let sql = "INSERT INTO job_executions SELECT $1 * 10 + n, 1, n, 'running', now() - interval '2 days' FROM generate_series(1, $1) n";
        sqlx::query(sql).bind(rows).execute(&world.pool).await.unwrap();
        let failed =
            world.store_until(&operator, |s| s.last_sweep.as_ref().is_some_and(|w| w.failed == rows));
        tokio::time::timeout(Duration::from_secs(40), failed).await.expect("no sweep came");
    }
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

#[tokio::test]
async fn nothing_is_failed_before_all_objects_were_seen() {
    let world = World::new("unseen").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    world.execution("e", "1", json!({"timeout": "72h"})).await;
    world.forbid("jobexecutions").await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world
        .store_until(&operator, |s| is(&s.conditions, "EnforcementPaused", "True", "CacheNotSynced"))
        .await;
    assert!(is(&status.conditions, "Ready", "False", "CacheNotSynced"));
    assert_eq!(world.status(1).await, "running");
    assert!(operator.log().contains("cannot watch jobexecutions"), "{}", operator.log());
    assert!(operator.stop().success(), "it ends also while it cannot watch");

    crate::support::rbac::install(&world.client, &world.namespace).await;
    let operator = world.operator();
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    assert_eq!(world.status(1).await, "running");
}

/// An id may occur in a table and in one that inherits from it.
#[tokio::test]
async fn rows_without_a_start_that_share_an_id_with_others_hold_up_no_sweep() {
    let world = World::new("sharedid").await;
    world
        .sql(
            "CREATE TABLE more () INHERITS (job_executions); \
             INSERT INTO job_executions VALUES (1, 1, 1, 'running', NULL), (2, 1, 2, 'running', NULL), (3, 1, 3, 'completed', NULL); \
             INSERT INTO more VALUES (1, 1, 1, 'running', NULL), (3, 1, 3, 'running', NULL)",
        )
        .await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    // Each row is matched with the version in which it was first observed.
    let seen = "SELECT count(*) = 3 FROM jobexec.observations WHERE kind = 'RunningWithoutStart'";
    world.until_true(seen).await;
    let login = world.url("right/password");
    let ids = ["--id", "1", "--id", "2", "--id", "3"];
    let ended = world.jobexec(
        &[&["cleanup", "--yes", "--table", "public.job_executions", "--database-url", &login][..], &ids]
            .concat(),
    );
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(world.one::<i64>("SELECT count(*) FROM job_executions WHERE status = 'failed'").await, 4);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM job_executions WHERE status = 'completed'").await, 1);
}
