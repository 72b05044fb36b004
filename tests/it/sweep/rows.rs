//! Rows that others hold or refer to, or that share an id: a sweep takes nothing from a worker, and
//! no row holds up another.

use serde_json::json;

use crate::support::{World, is};

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
