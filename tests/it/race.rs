//! Workers and sweeps on the same rows at the same moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::time::Instant;

use crate::support::{World, is};

/// Rows come in groups with the same deadline, to the second.
const GROUPS: usize = 25;
const GROUP: i64 = 8_000;
const ROWS: i64 = 200_000;
const WORKERS: usize = 20;

/// Workers begin with a group this long before its deadline, so that some rows are finished in time and some are not.
const LEAD: Duration = Duration::from_millis(200);

/// Finishes the next row of the current group as fast as it can, until the last group has passed. Returns the rows for
/// which Postgres said that they are completed.
async fn complete_rows(pool: PgPool, next: Arc<[AtomicI64; GROUPS]>, first: Instant) -> Vec<i64> {
    let mut won = Vec::new();
    tokio::time::sleep_until(first - LEAD).await;
    loop {
        let group = usize::try_from((first - LEAD).elapsed().as_secs()).unwrap();
        if group >= GROUPS {
            return won;
        }
        let place = next[group].fetch_add(1, Ordering::Relaxed);
        if place >= GROUP {
            let turn = Duration::from_secs(u64::try_from(group + 1).unwrap());
            tokio::time::sleep_until(first - LEAD + turn).await;
            continue;
        }
        let id = i64::try_from(group).unwrap() * GROUP + place;
        let done = sqlx::query(
            "UPDATE job_executions SET status = 'completed', completed_at = clock_timestamp() \
             WHERE id = $1 AND status = 'running'",
        )
        .bind(id)
        .execute(&pool)
        .await
        .unwrap();
        if done.rows_affected() == 1 {
            won.push(id);
        }
    }
}

/// Checks that each completion that a worker won is still there, and that the operator failed all other rows, none of
/// them before its deadline. Returns the number of completions.
async fn completions_kept(world: &World, won: &[i64], timeout: i64) -> i64 {
    let overwritten: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM job_executions WHERE id = ANY ($1) AND status <> 'completed'",
    )
    .bind(won)
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert_eq!(overwritten, 0, "of {} completions", won.len());
    let counts: (i64, i64, i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE status = 'failed'), \
                count(*) FILTER (WHERE completed_at IS NULL), \
                count(*) FILTER (WHERE status = 'failed' AND completed_at < started_at + $1 * interval '1 second') \
         FROM job_executions",
    )
    .bind(timeout)
    .fetch_one(&world.pool)
    .await
    .unwrap();
    let completed = i64::try_from(won.len()).unwrap();
    assert_eq!(counts, (completed, ROWS - completed, 0, 0));
    assert!(completed > 1_000 && completed < ROWS - 1_000, "no race: {completed} of {ROWS} completed");
    completed
}

#[tokio::test]
async fn no_completion_is_ever_overwritten() {
    let world = World::new("race").await;
    let base: String = world
        .one(&format!(
            "WITH base AS (SELECT clock_timestamp() - interval '1 hour' AS start), \
             rows AS (INSERT INTO job_executions \
                 SELECT n, n % 100, n, 'running', start + n / {GROUP} * interval '1 second' \
                 FROM base, generate_series(0, {ROWS} - 1) n) \
             SELECT start::text FROM base"
        ))
        .await;
    let operator = world.operator();
    world.store(json!({"defaultTimeout": "24h"})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    // Now that everything is ready, the first deadline comes in three seconds.
    let timeout: i64 = world
        .one(&format!("SELECT ceil(extract(epoch FROM clock_timestamp() - '{base}') + 3)::bigint"))
        .await;
    let until_first = format!("SELECT extract(epoch FROM '{base}' - clock_timestamp())::float8 + {timeout}");
    let first = Instant::now() + Duration::from_secs_f64(world.one(&until_first).await);
    world.store(json!({"defaultTimeout": format!("{timeout}s")})).await;

    let pool = PgPoolOptions::new().max_connections(20).connect(&world.superuser()).await.unwrap();
    let next: Arc<[AtomicI64; GROUPS]> = Arc::new(std::array::from_fn(|_| AtomicI64::new(0)));
    let workers = (0..WORKERS).map(|_| {
        let (pool, next) = (pool.clone(), next.clone());
        tokio::spawn(complete_rows(pool, next, first))
    });
    let won: Vec<i64> =
        futures::future::join_all(workers).await.into_iter().flat_map(Result::unwrap).collect();

    world.store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.running_executions == 0)).await;
    let completed = completions_kept(&world, &won, timeout).await;
    eprintln!(
        "{completed} of {ROWS} executions were completed by their workers, the others failed by the operator"
    );
    let recorded: String = world
        .one(
            "SELECT concat_ws(' ', count(*), count(DISTINCT execution_id), \
                 count(*) FILTER (WHERE x.status = 'failed' AND x.completed_at = e.at)) \
             FROM jobexec.events e JOIN job_executions x ON x.id::text = e.execution_id WHERE e.action = 'Failed'",
        )
        .await;
    let failed = ROWS - completed;
    assert_eq!(recorded, format!("{failed} {failed} {failed}"));
}
