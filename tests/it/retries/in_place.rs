//! Rows that go back to the queue.

use serde_json::json;

use super::{QUEUE, queue, retries};
use crate::support::{World, is, message};

#[tokio::test]
async fn a_row_is_set_back_with_its_attempt_and_its_schedule() {
    let spec = queue(&json!({}));
    let world = World::with("retryqueue", QUEUE, &spec).await;
    world
        .sql(
            "INSERT INTO job_executions (id, job_id, execution_number, status, started_at, heartbeat_at) \
             SELECT n, n, 1, 'running', now() - interval '30 hours', now() - interval '1 hour' FROM generate_series(1, 3) AS n; \
             INSERT INTO job_executions (id, job_id, status, started_at) VALUES (4, 4, 'running', now())",
        )
        .await;
    let retry = json!({"maxAttempts": 3, "after": "0s", "onReasons": ["DeadlineExceeded"],
        "backoff": {"initial": "10m", "factor": 3, "max": "20m", "jitterPercent": 0}});
    world.policy("all", json!({"onStale": "Retry", "retry": retry})).await;
    world.store(spec).await;
    let operator = world.operator();
    world.until_true("SELECT count(*) = 3 FROM jobexec.retries WHERE outcome = 'Retried'").await;
    let rows: Vec<String> = world
        .one(
            "SELECT array_agg(concat_ws(' ', id, status, attempts, started_at IS NULL, completed_at IS NULL, heartbeat_at IS NULL, error, \
             run_at BETWEEN now() + interval '9 minutes' AND now() + interval '10 minutes') ORDER BY id) FROM job_executions",
        )
        .await;
    let set_back = |id: i64| {
        format!(
            "{id} scheduled 2 t t t DeadlineExceeded: still running past its deadline, retried by the jobexec operator t"
        )
    };
    assert_eq!(rows, [set_back(1), set_back(2), set_back(3), "4 running 1 f t t".to_owned()]);
    let recorded: String = world.one("SELECT concat_ws(' | ', action, reason, source, regexp_replace(note, '[0-9]{4}-.*', 'T')) FROM jobexec.events WHERE execution_id = '1'").await;
    assert_eq!(recorded, "Retried | DeadlineExceeded | ExecutionStore/jobs | attempt 2 may start at T");

    // The second attempt waits three times as long, but no more than the longest time.
    let claim =
        "UPDATE job_executions SET status = 'running', started_at = now() - interval '30 hours' WHERE id = 1";
    world.sql(claim).await;
    world.until_true("SELECT count(*) = 2 FROM jobexec.retries WHERE execution_id = '1'").await;
    let due: bool = world
        .one("SELECT run_at BETWEEN now() + interval '19 minutes' AND now() + interval '20 minutes' FROM job_executions WHERE id = 1")
        .await;
    assert!(due);
    // The third is the last.
    world.sql(claim).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    let last: String = world.one("SELECT error FROM job_executions WHERE id = 1").await;
    assert_eq!(
        last,
        "RetriesExhausted: attempt 3, still running past its deadline, failed by the jobexec operator"
    );
    let recorded: String = world
        .one("SELECT concat_ws(' | ', action, reason, note) FROM jobexec.events WHERE reason = 'RetriesExhausted'")
        .await;
    assert_eq!(
        recorded,
        "Failed | RetriesExhausted | DeadlineExceeded: still running past its deadline; it was attempt 3"
    );
    assert_eq!(retries(&world).await, ["1 1 Retried", "1 2 Retried", "2 1 Retried", "3 1 Retried"]);
    world.store_until(&operator, |s| is(&s.conditions, "RetriesAvailable", "True", "Retrying")).await;
    assert!(operator.stop().success());
}

#[tokio::test]
async fn a_retry_waits_until_the_worker_has_been_silent_for_three_timeouts() {
    let spec = queue(&json!({"heartbeatTimeout": "2s"}));
    let world = World::with("retryworker", QUEUE, &spec).await;
    world
        .sql(
            "INSERT INTO job_executions (id, job_id, status, started_at, heartbeat_at) \
             SELECT n, n, 'running', now() - interval '1 hour', now() - interval '50 minutes' FROM generate_series(1, 2) AS n",
        )
        .await;
    world.policy("all", json!({"onStale": "Retry", "retry": {"backoff": {"initial": "0s"}}})).await;
    world.store(spec).await;
    let operator = world.operator();
    world.until_true("SELECT count(*) = 2 FROM jobexec.retries").await;
    // The worker of 2 is alive after all: it sends heartbeats for an execution that was ended.
    let beat = "UPDATE job_executions SET heartbeat_at = clock_timestamp() WHERE id = 2";
    world.sql(beat).await;
    let waiting = |text: &str| text.contains("until the worker of the ended attempt is gone");
    world
        .store_until(&operator, |s| {
            is(&s.conditions, "RetriesAvailable", "True", "Retrying")
                && waiting(&message(&s.conditions, "RetriesAvailable"))
        })
        .await;
    while retries(&world).await != ["1 1 Retried", "2 1 waits"] {
        world.sql(beat).await;
        tokio::task::yield_now().await;
    }
    let rows: Vec<String> = world
        .one("SELECT array_agg(concat_ws(' ', id, status, attempts, started_at IS NULL) ORDER BY id) FROM job_executions")
        .await;
    assert_eq!(rows, ["1 scheduled 2 t", "2 failed 1 f"]);
    let silent: bool = world
        .one(
            "SELECT decided_at >= alive_at + interval '6 seconds' FROM jobexec.retries WHERE execution_id = '1'",
        )
        .await;
    assert!(silent);
    // It finishes, which nothing refuses here: the retry is dropped.
    world
        .sql("UPDATE job_executions SET status = 'completed', completed_at = clock_timestamp() WHERE id = 2")
        .await;
    world.until_true("SELECT outcome = 'Dropped' FROM jobexec.retries WHERE execution_id = '2'").await;
    assert!(operator.stop().success());
}

#[tokio::test]
async fn the_transitions_of_a_table_let_retries_through_and_nothing_else() {
    let spec = queue(&json!({}));
    let world = World::with("retrytransitions", QUEUE, &spec).await;
    let file = world.file("store.yaml", &World::store_with("jobs", spec.clone()).to_string());
    let applied = world.jobexec(&["schema", "-f", &file, "--with", "transitions", "--apply"]);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    world
        .sql("INSERT INTO job_executions (id, job_id, status, started_at) VALUES (1, 1, 'running', now() - interval '30 hours')")
        .await;
    let retry = json!({"after": "0s", "onReasons": ["DeadlineExceeded"]});
    world.policy("all", json!({"onStale": "Retry", "retry": retry})).await;
    world.store(spec).await;
    let operator = world.operator();
    world.until_true("SELECT status = 'scheduled' FROM job_executions").await;
    // The worker of the first attempt wakes up.
    let late = "UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 1";
    let error = sqlx::raw_sql(late).execute(&world.pool).await.unwrap_err().to_string();
    assert!(error.contains("cannot become completed"), "{error}");
    world.sql("UPDATE job_executions SET status = 'running', started_at = now() WHERE id = 1").await;
    let again = "UPDATE job_executions SET status = 'scheduled' WHERE id = 1";
    let error = sqlx::raw_sql(again).execute(&world.pool).await.unwrap_err().to_string();
    assert!(error.contains("cannot become scheduled"), "{error}");
    assert!(operator.stop().success());
}

#[tokio::test]
async fn retries_beyond_the_budget_wait_or_are_dropped() {
    let spec = queue(&json!({"retry": {"budget": 3}}));
    let world = World::with("retrybudget", QUEUE, &spec).await;
    world
        .sql(
            "INSERT INTO job_executions (id, job_id, status, started_at) \
             SELECT n, n, 'running', now() - interval '30 hours' FROM generate_series(1, 8) AS n",
        )
        .await;
    let retry = json!({"after": "0s", "onReasons": ["DeadlineExceeded"]});
    world.policy("all", json!({"onStale": "Retry", "retry": retry})).await;
    world.store(spec.clone()).await;
    let operator = world.operator();
    world.store_until(&operator, |s| is(&s.conditions, "RetriesAvailable", "False", "BudgetSpent")).await;
    let counts = "SELECT concat_ws(' ', count(*) FILTER (WHERE status = 'scheduled'), count(*) FILTER (WHERE status = 'failed')) FROM job_executions";
    assert_eq!(world.one::<String>(counts).await, "3 5");
    // There is room for one more.
    world.sql("UPDATE jobexec.retries SET decided_at = decided_at - interval '2 hours' WHERE execution_id = (SELECT min(execution_id) FROM jobexec.retries WHERE outcome = 'Retried')").await;
    world.until_true("SELECT count(*) = 4 FROM jobexec.retries WHERE outcome = 'Retried'").await;
    assert_eq!(world.one::<String>(counts).await, "4 4");
    let mut spec = spec;
    spec["retry"]["overBudget"] = json!("Fail");
    world.store(spec).await;
    world.until_true("SELECT count(*) = 4 FROM jobexec.retries WHERE outcome = 'Dropped'").await;
    world.store_until(&operator, |s| is(&s.conditions, "RetriesAvailable", "True", "Retrying")).await;
    assert_eq!(world.one::<String>(counts).await, "4 4");
    assert!(operator.stop().success());
}

#[tokio::test]
async fn an_execution_is_not_retried_if_another_reason_speaks_against_it() {
    let spec = queue(&json!({"singleActiveExecution": {"gracePeriod": "1m"}}));
    let world = World::with("retryreasons", QUEUE, &spec).await;
    // While the first is failed, the second is superseded, too.
    world
        .sql(
            "CREATE FUNCTION blocks() RETURNS trigger LANGUAGE plpgsql AS \
                 'BEGIN PERFORM pg_catalog.pg_advisory_xact_lock(21); RETURN NEW; END'; \
             CREATE TRIGGER blocks BEFORE UPDATE ON job_executions FOR EACH ROW WHEN (OLD.id = 1) EXECUTE FUNCTION blocks(); \
             INSERT INTO job_executions (id, job_id, execution_number, status, started_at) VALUES \
                 (1, 1, 1, 'running', now() - interval '30 hours'), (2, 2, 1, 'running', now() - interval '30 hours'), \
                 (3, 3, 1, 'running', now() - interval '30 hours'), (4, 1, 2, 'completed', now() - interval '20 hours')",
        )
        .await;
    let mut holder = world.pool.acquire().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(21)").execute(&mut *holder).await.unwrap();
    world
        .policy(
            "all",
            json!({"onStale": "Retry", "retry": {"after": "0s", "onReasons": ["DeadlineExceeded"]}}),
        )
        .await;
    world.store(spec).await;
    let operator = world.operator();
    world
        .until_true(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 21 AND NOT granted)",
        )
        .await;
    world
        .sql(
            "INSERT INTO job_executions (id, job_id, execution_number, status, started_at) \
             VALUES (5, 2, 2, 'completed', now() - interval '20 hours')",
        )
        .await;
    sqlx::query("SELECT pg_advisory_unlock(21)").execute(&mut *holder).await.unwrap();
    world.until_true("SELECT count(*) = 0 FROM job_executions WHERE status = 'running'").await;
    let rows: Vec<String> = world
        .one("SELECT array_agg(concat_ws(' ', id, status, split_part(error, ':', 1)) ORDER BY id) FROM job_executions WHERE id <= 3")
        .await;
    assert_eq!(rows, ["1 failed Superseded", "2 failed Superseded", "3 scheduled DeadlineExceeded"]);
    assert_eq!(retries(&world).await, ["3 1 Retried"]);
    assert!(operator.stop().success());
}
