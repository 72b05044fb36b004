//! Stale executions whose rows another transaction holds, like the session of a worker whose machine is gone.

use std::process::Command;

use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::support::{World, is, message};

/// Locks a row, and returns the transaction and the pid of its session.
async fn lock(world: &World, id: i64, how: &str) -> (sqlx::Transaction<'static, sqlx::Postgres>, i32) {
    let mut tx = world.pool.begin().await.unwrap();
    let sql = format!("SAVEPOINT a; SELECT FROM job_executions WHERE id = {id} FOR {how}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await.unwrap();
    let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *tx).await.unwrap();
    (tx, pid)
}

fn told(world: &World, args: &[&str]) -> String {
    let mut jobexec = Command::new(env!("CARGO_BIN_EXE_jobexec"));
    let output = jobexec.args(args).env("DATABASE_URL", world.url("right/password")).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[tokio::test]
async fn who_holds_a_stale_execution_for_long_is_told_with_the_way_out() {
    let world = World::new("held").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '2 days' FROM generate_series(1, 3) n",
        )
        .await;
    let (one, pid) = lock(&world, 1, "UPDATE").await;
    let (two, _) = lock(&world, 2, "SHARE").await;
    let (three, _) = lock(&world, 2, "SHARE").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 3").await;
    world.until_true("SELECT count(*) = 2 FROM jobexec.observations WHERE kind = 'PassedOver'").await;
    let holders: String = world
        .one("SELECT string_agg(execution_id || ' ' || COALESCE(detail, 'unknown'), ', ' ORDER BY execution_id) FROM jobexec.observations")
        .await;
    assert_eq!(holders, format!("1 session {pid}, 2 unknown"));
    // A transaction that ends within minutes is not reported.
    let status = world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    assert!(is(&status.conditions, "EnforcementPaused", "False", "Enforcing"), "{:#?}", status.conditions);

    world.sql("UPDATE jobexec.observations SET since = now() - interval '6 minutes'").await;
    let status = world
        .store_until(&operator, |s| is(&s.conditions, "EnforcementPaused", "True", "ExecutionsHeld"))
        .await;
    assert!(is(&status.conditions, "Ready", "False", "ExecutionsHeld"), "{:#?}", status.conditions);
    let text = message(&status.conditions, "EnforcementPaused");
    let way_out = format!("pg_terminate_backend({pid})");
    assert!(
        text.contains(&way_out) && text.contains("2 since") && text.contains("an unknown holder"),
        "{text}"
    );
    let text = told(&world, &["explain", "1"]);
    assert!(text.contains("another transaction has held its row since") && text.contains(&way_out), "{text}");
    let text = told(&world, &["cleanup", "--yes"]);
    assert!(text.contains("another transaction holds 1 since") && text.contains(&way_out), "{text}");

    world.sql(&format!("SELECT {way_out}")).await;
    drop(one);
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    two.rollback().await.unwrap();
    three.rollback().await.unwrap();
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
    world.store_until(&operator, |s| is(&s.conditions, "EnforcementPaused", "False", "Enforcing")).await;
    world.until_true("SELECT NOT EXISTS (SELECT FROM jobexec.observations)").await;
}
