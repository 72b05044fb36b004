//! Executions of a finished job, and executions that a later one of their job supersedes.

use jobexec_operator::api::Phase;
use serde_json::json;

use super::{ENDED, look, told};
use crate::support::World;
use crate::support::world::CASE;

#[tokio::test]
async fn an_execution_of_a_finished_job_fails_once_the_job_was_seen_finished_for_the_grace() {
    let spec = |grace: &str| json!({"jobs": {"gracePeriod": grace}, "defaultTimeout": "99999h"});
    let world = World::with("finished", CASE, &spec("1h")).await;
    world
        .sql(
            "INSERT INTO job_executions (id, job_id, execution_number, status, started_at) VALUES \
             (41, 20, 4, 'running', now() - interval '1 minute'), (42, 22, 2, 'running', now() - interval '1 day'); \
             UPDATE jobs SET status = 'running'",
        )
        .await;
    world.execution("the-case", "39", json!({})).await;
    let operator = world.operator();
    world.store(spec("1h")).await;
    world.until_true("SELECT count(*) = 4 FROM jobexec.observations WHERE kind = 'JobUnfinished'").await;
    world.sql("UPDATE jobs SET status = 'completed' WHERE id < 22").await;
    let suspects =
        "SELECT COALESCE(string_agg(execution_id, ' ' ORDER BY execution_id), '') FROM jobexec.suspects";
    world.until_true(&format!("SELECT ({suspects}) = '39 41'")).await;
    look(&world, &operator).await;
    let running: i64 = world.one("SELECT count(*) FROM job_executions WHERE status = 'running'").await;
    assert_eq!(running, 4, "nothing is failed within the grace");

    // A job that continues after all removes the suspicion, which starts again when the job ends.
    let since = "SELECT since FROM jobexec.suspects WHERE execution_id = '39'";
    let first: chrono::DateTime<chrono::Utc> = world.one(since).await;
    world.sql("UPDATE jobs SET status = 'running' WHERE id = 21").await;
    world.until_true(&format!("SELECT ({suspects}) = '41'")).await;
    world.sql("UPDATE jobs SET status = 'completed' WHERE id = 21").await;
    world.until_true(&format!("SELECT ({suspects}) = '39 41'")).await;
    let again: chrono::DateTime<chrono::Utc> = world.one(since).await;
    assert!(again > first);

    // A worker that commits in between wins.
    let mut worker = world.pool.begin().await.unwrap();
    sqlx::raw_sql("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 41")
        .execute(&mut *worker)
        .await
        .unwrap();
    world.store(spec("1s")).await;
    told(&world, &operator, "the-case", "JobFinished", "still running although its job is finished").await;
    worker.commit().await.unwrap();
    look(&world, &operator).await;
    assert_eq!(world.status(41).await, "completed");
    assert_eq!((world.status(40).await, world.status(42).await), ("running".into(), "running".into()));
    assert_eq!(world.one::<String>(ENDED).await, "39 Failed JobFinished");
    let source: String = world.one("SELECT source FROM jobexec.events WHERE action = 'Failed'").await;
    assert_eq!(source, "ExecutionStore/jobs");
    let note = world.event_until(&operator, "jobs", "StaleExecutionsFailed").await;
    assert!(note.contains("39 (job 21, #5, ") && note.contains("JobFinished"), "{note}");
    world.until_true(&format!("SELECT ({suspects}) = ''")).await;
}

#[tokio::test]
async fn of_executions_that_come_one_after_the_other_only_the_last_can_run() {
    let world = World::new("sequence").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT j * 10 + n, j, n, 'running', now() - (3 - n) * interval '1 hour' \
             FROM generate_series(1, 5) j, generate_series(1, 2) n; \
             UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 22; \
             UPDATE job_executions SET status = 'scheduled', started_at = NULL WHERE id = 32; \
             UPDATE job_executions SET started_at = now() + interval '1 hour' WHERE id = 42; \
             UPDATE job_executions SET execution_number = 1, started_at = now() WHERE id = 52",
        )
        .await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    let running: i64 = world.one("SELECT count(*) FROM job_executions WHERE status = 'running'").await;
    assert_eq!(running, 8, "without singleActiveExecution they may run beside each other");
    // The later executions of jobs 1 and 2 have run for an hour.
    world.store(json!({"singleActiveExecution": {"gracePeriod": "61m"}})).await;
    world.execution("eleven", "11", json!({})).await;
    world.execution_until(&operator, "eleven", |s| s.phase == Some(Phase::Running)).await;
    look(&world, &operator).await;
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.events WHERE action = 'Failed'").await, 0);

    world.store(json!({"singleActiveExecution": {"gracePeriod": "59m"}})).await;
    told(&world, &operator, "eleven", "Superseded", "a later execution of its job has started").await;
    look(&world, &operator).await;
    assert_eq!(world.one::<String>(ENDED).await, "11 Failed Superseded, 21 Failed Superseded");
}

#[tokio::test]
async fn a_later_execution_that_never_ran_supersedes_nothing() {
    let world = World::new("skipped").await;
    // Job 1 is at work, and five ticks of its schedule were skipped. Job 2 has run again, and was then cancelled. The
    // first run of job 3 is retried, in its own row, after the second one.
    let ago = |minutes: u32| format!("now() - interval '{minutes} minutes'");
    let rows = [
        format!("(15, 1, 5, 'running', {}, NULL)", ago(50)),
        format!("(16, 1, 6, 'cancelled', {0}, {0})", ago(40)),
        format!("(17, 1, 7, 'skipped', {0}, {0})", ago(35)),
        format!("(18, 1, 8, 'cancelled', {0}, {0} + interval '9 ms')", ago(30)),
        format!("(19, 1, 9, 'completed', {0}, {0})", ago(20)),
        format!("(20, 1, 10, 'skipped', {}, NULL)", ago(10)),
        // It waited for its job for less than the grace period, and gave up.
        format!("(24, 1, 11, 'failed', {}, {})", ago(30), ago(26)),
        format!("(21, 2, 1, 'running', {}, NULL)", ago(50)),
        format!("(22, 2, 2, 'cancelled', {}, {})", ago(40), ago(30)),
        format!("(31, 3, 1, 'running', {}, NULL)", ago(20)),
        format!("(32, 3, 2, 'completed', {}, {})", ago(50), ago(40)),
    ];
    world.sql(&format!("INSERT INTO job_executions VALUES {}", rows.join(", "))).await;
    world.execution("superseded", "21", json!({})).await;
    let operator = world.operator();
    world.store(json!({"singleActiveExecution": {"gracePeriod": "5m"}})).await;
    told(&world, &operator, "superseded", "Superseded", "a later execution of its job has started").await;
    look(&world, &operator).await;
    assert_eq!(world.one::<String>(ENDED).await, "21 Failed Superseded");
}
