//! A job that is finished while its execution runs: proof only if it was observed to finish meanwhile, or has a time of
//! its end.

use jobexec_operator::db::staleness::Suspicion;
use serde_json::{Value, json};

use crate::support::world::CASE;
use crate::support::{World, is, message};

/// Executions with their jobs, whose end can be recorded.
const TABLES: &str = "CREATE TABLE jobs (id bigint PRIMARY KEY, status text NOT NULL, finished_at timestamp); \
     CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, execution_number integer NOT NULL, \
     status text NOT NULL, started_at timestamptz, completed_at timestamptz)";

fn spec(finished_at: bool) -> Value {
    let columns = if finished_at { json!({"finishedAt": "finished_at"}) } else { json!({}) };
    json!({"jobs": {"gracePeriod": "1s", "columns": columns}, "defaultTimeout": "99999h"})
}

const ENDED: &str = "SELECT coalesce(string_agg(concat_ws(' ', execution_id, reason, source), ', ' ORDER BY execution_id::bigint), '') \
     FROM jobexec.events WHERE action = 'Failed'";

/// The founding case: it is unknown whether execution 39 is the one that finished job 21.
#[tokio::test]
async fn a_job_that_was_finished_when_first_seen_makes_a_suspect_and_nothing_is_ended() {
    let world = World::with("suspect", CASE, &spec(false)).await;
    let (operator, https) = world.serving(&[]).await;
    world.store(spec(false)).await;
    let told =
        world.store_until(&operator, |s| is(&s.conditions, "Consistent", "False", "JobFinished")).await;
    let text = message(&told.conditions, "Consistent");
    for part in ["execution 39", "job 21", "nothing is ended for it", "jobexec cleanup --reason JobFinished"]
    {
        assert!(text.contains(part), "{part} not in {text}");
    }
    // It stays finished for longer than the grace period, in several observations.
    world
        .until_true("SELECT EXISTS (SELECT FROM jobexec.suspects WHERE execution_id = '39' AND since < now() - interval '2 s')")
        .await;
    world.request_sweep(&operator).await;
    world.request_sweep(&operator).await;
    assert_eq!(world.status(39).await, "running");

    let admin = https.with(&world.token("jobexec-administrator").await);
    let running = "/api/system/executions/running";
    let answer =
        admin.until(running, |status, body| status == 200 && body["executions"][0]["id"] == "39").await;
    assert_eq!(answer["executions"][0]["suspected"], Suspicion::JobFinished.as_str(), "{answer}");
    assert_eq!(answer["executions"][0]["stale"], json!(null), "{answer}");
    let cleanup = "/api/system/cleanup/stale-executions";
    let (status, both) = admin.post_json(cleanup, &json!({"reason": "JobFinished", "max_hours": 1})).await;
    assert_eq!(status, 400, "{both}");
    let (status, done) = admin.post_json(cleanup, &json!({"reason": "JobFinished"})).await;
    assert_eq!((status, &done["cleaned"]), (200, &json!(1)), "{done}");
    assert_eq!(world.one::<String>(ENDED).await, "39 JobFinished HttpApi");
    world.store_until(&operator, |s| is(&s.conditions, "Consistent", "True", "NoViolations")).await;
}

/// Recurring jobs keep the status of their last run while the next one runs.
#[tokio::test]
async fn where_jobs_keep_the_status_of_their_last_run_nothing_is_ended_when_jobs_is_switched_on() {
    let world = World::with("lastrun", TABLES, &spec(false)).await;
    world
        .sql(
            "INSERT INTO jobs SELECT n, CASE WHEN n <= 450 THEN 'failed' ELSE 'running' END FROM generate_series(1, 500) n; \
             INSERT INTO job_executions SELECT n, n, 2, 'running', now() - interval '10 minutes' FROM generate_series(1, 500) n",
        )
        .await;
    let operator = world.operator();
    world.store(spec(false)).await;
    let told =
        world.store_until(&operator, |s| is(&s.conditions, "Consistent", "False", "JobFinished")).await;
    assert!(message(&told.conditions, "Consistent").contains("and 449 more like it"), "{told:?}");
    world
        .until_true(
            "SELECT count(*) = 450 AND bool_and(since < now() - interval '2 s') FROM jobexec.suspects",
        )
        .await;
    world.request_sweep(&operator).await;
    let running = "SELECT count(*) FROM job_executions WHERE status = 'running'";
    assert_eq!(world.one::<i64>(running).await, 500);
    // The next status again belongs to a run that ended, and to no observed run.
    world.sql("UPDATE jobs SET status = 'completed' WHERE id <= 450").await;
    world.request_sweep(&operator).await;
    world.request_sweep(&operator).await;
    assert_eq!(world.one::<i64>(running).await, 500);
}

#[tokio::test]
async fn that_a_job_was_seen_unfinished_is_known_after_a_restart() {
    let world = World::with("unfinished", TABLES, &spec(false)).await;
    world
        .sql(
            "INSERT INTO jobs VALUES (1, 'running'), (2, 'completed'); INSERT INTO job_executions VALUES \
             (1, 1, 1, 'running', now() - interval '1 hour'), (2, 2, 1, 'running', now() - interval '1 hour')",
        )
        .await;
    let operator = world.operator();
    world.store(spec(false)).await;
    world.until_true("SELECT EXISTS (SELECT FROM jobexec.observations WHERE kind = 'JobUnfinished' AND execution_id = '1')").await;
    operator.kill();
    world.sql("UPDATE jobs SET status = 'completed'").await;
    // An execution that began after its job had finished was not observed with an unfinished job.
    world.sql("INSERT INTO job_executions VALUES (3, 1, 2, 'running', now() - interval '1 minute')").await;
    let operator = world.operator();
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    world.request_sweep(&operator).await;
    assert_eq!(world.one::<String>(ENDED).await, "1 JobFinished ExecutionStore/jobs");
    world.until_true("SELECT count(*) = 0 FROM jobexec.observations").await;

    // With other texts for finished jobs, earlier observations do not count: a job may have been unfinished only by name.
    world.sql("INSERT INTO jobs VALUES (4, 'archived'); INSERT INTO job_executions VALUES (4, 4, 1, 'running', now() - interval '1 minute')").await;
    world.until_true("SELECT EXISTS (SELECT FROM jobexec.observations WHERE execution_id = '4')").await;
    let mut renamed = spec(false);
    renamed["jobs"]["finished"] = json!(["completed", "archived"]);
    world.store_changed(&operator, renamed).await;
    world
        .until_true("SELECT EXISTS (SELECT FROM jobexec.suspects WHERE execution_id = '4' AND since < now() - interval '2 s')")
        .await;
    world.request_sweep(&operator).await;
    assert_eq!(world.status(4).await, "running");
}

#[tokio::test]
async fn where_it_is_known_when_a_job_finished_that_decides() {
    let world = World::with("finishedat", TABLES, &spec(true)).await;
    world
        .sql(
            "INSERT INTO jobs SELECT n, 'completed', (ARRAY[now() - interval '30 minutes', now() - interval '2 hours', NULL, \
                    now() + interval '1 hour', now() - interval '1 hour'])[n] AT TIME ZONE 'UTC' FROM generate_series(1, 5) n; \
             INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '1 hour' FROM generate_series(1, 5) n",
        )
        .await;
    let operator = world.operator();
    world.store(spec(true)).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    let told =
        world.store_until(&operator, |s| is(&s.conditions, "Consistent", "False", "JobFinished")).await;
    // Not the second and the fifth: their jobs finished before these began.
    assert!(message(&told.conditions, "Consistent").contains("execution 3 "), "{told:?}");
    assert!(message(&told.conditions, "Consistent").contains("and 1 more like it"), "{told:?}");
    world.request_sweep(&operator).await;
    assert_eq!(world.one::<String>(ENDED).await, "1 JobFinished ExecutionStore/jobs");
    let file = world.file("store.yaml", &World::store_with("jobs", spec(true)).to_string());
    let explained = world.jobexec(&["explain", "2", "-f", &file]);
    let text = String::from_utf8(explained.stdout).unwrap();
    assert!(text.contains("before it began: that was an earlier run"), "{text}");
    // The time is added later.
    world
        .sql("UPDATE jobs SET finished_at = now() AT TIME ZONE 'UTC' - interval '1 minute' WHERE id = 3")
        .await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 3").await;

    world.sql("ALTER TABLE jobs ALTER finished_at TYPE text").await;
    let told = world
        .store_until(&operator, |s| is(&s.conditions, "SchemaValid", "False", "ColumnTypeUnsupported"))
        .await;
    assert!(message(&told.conditions, "SchemaValid").contains("spec.jobs.columns.finishedAt"), "{told:?}");
}

/// A retry in the same row, or a worker that works again: its heartbeat is later than the end of its job.
#[tokio::test]
async fn who_sends_a_heartbeat_after_the_job_has_finished_is_not_ended_for_it() {
    let tables = TABLES.replace("completed_at timestamptz", "completed_at timestamptz, beat timestamptz");
    let mut described = spec(true);
    described["table"] = json!({"columns": {"heartbeatAt": "beat"}});
    let world = World::with("outlived", &tables, &described).await;
    world
        .sql(
            "INSERT INTO jobs SELECT n, 'completed', now() AT TIME ZONE 'UTC' - interval '30 minutes' FROM generate_series(1, 3) n; \
             INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '1 hour', NULL, \
                    (ARRAY[now() - interval '10 minutes', now() - interval '40 minutes', NULL])[n] FROM generate_series(1, 3) n",
        )
        .await;
    let operator = world.operator();
    world.store(described).await;
    world.until_true("SELECT count(*) = 2 FROM job_executions WHERE status = 'failed' AND id > 1").await;
    world.request_sweep(&operator).await;
    assert_eq!(world.status(1).await, "running");
    let told =
        world.store_until(&operator, |s| is(&s.conditions, "Consistent", "False", "JobFinished")).await;
    assert!(message(&told.conditions, "Consistent").contains("execution 1 "), "{told:?}");
}
