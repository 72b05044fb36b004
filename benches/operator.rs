//! The operator as a process: how soon a deadline is met, how much memory it takes, and which requests it sends to the
//! API server when nothing happens. `make bench ARGS='--bench operator'`, docs/performance.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it stands on the support of the tests"
)]

#[allow(dead_code, unused_imports, reason = "the tests use more of it")]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::time::Duration;

use serde_json::json;
use support::{Operator, World, is};

/// The number of deadlines, spread over [`SPREAD`].
const DEADLINES: i64 = 1_000;
const SPREAD: Duration = Duration::from_mins(1);

/// Healthy running executions.
const HEALTHY: i64 = 100_000;

/// The duration of the idle phase.
const IDLE: Duration = Duration::from_mins(5);

#[tokio::main]
async fn main() {
    // `cargo test --benches` runs this too, without the argument; it is not a test.
    if std::env::args().any(|argument| argument == "--bench") {
        Box::pin(latency()).await;
        Box::pin(memory()).await;
    }
}

/// Measures the time from a deadline to the commit.
async fn latency() {
    let world = World::new("latency").await;
    world.sql(&healthy(HEALTHY)).await;
    world
        .sql(&format!(
            "INSERT INTO job_executions SELECT -n, n, n, 'running', \
                 clock_timestamp() - interval '1 hour' + interval '10 seconds' + n * interval '{} ms' \
             FROM generate_series(1, {DEADLINES}) n; ANALYZE job_executions",
            SPREAD.as_millis() / u128::try_from(DEADLINES).unwrap_or(1)
        ))
        .await;
    let operator = world.operator();
    world.store(json!({"defaultTimeout": "1h", "pollInterval": "15s"})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    let looks = async || -> i64 {
        world.one("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()").await
    };
    let before = looks().await;
    let all = format!("running_executions = {HEALTHY}");
    eprintln!("waiting until {all}");
    tokio::time::sleep(SPREAD).await;
    world
        .store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.running_executions == HEALTHY))
        .await;
    let transactions = looks().await - before;
    let row: (i64, f64, f64, f64, f64) = sqlx::query_as(
        "SELECT count(*), min(late)::float8, percentile_cont(0.5) WITHIN GROUP (ORDER BY late)::float8,
                percentile_cont(0.99) WITHIN GROUP (ORDER BY late)::float8, max(late)::float8
         FROM (SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - started_at - interval '1 hour') AS late
               FROM job_executions WHERE status = 'failed') AS failed",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    let (count, min, median, p99, max) = row;
    println!(
        "\n{count} deadlines within {} s beside {HEALTHY} healthy executions, pollInterval 15s",
        SPREAD.as_secs()
    );
    println!("deadline to commit, s: min {min:.3}, median {median:.3}, p99 {p99:.3}, max {max:.3}");
    // A poll once a second is half a second late on average, and a second late at worst.
    println!("to a poll once a second (0.500, 0.990): median {:.2}, p99 {:.2}", median / 0.5, p99 / 0.99);
    let seconds = SPREAD.as_secs_f64();
    println!(
        "transactions: {:.1} a second; status writes: {:.1} a minute; Events: {}",
        transactions as f64 / seconds,
        writes(&operator, "PATCH") as f64 / seconds * 60.0,
        writes(&operator, "POST")
    );
    assert!(operator.stop().success());
}

/// Measures the memory with few and many running executions, and the requests of an idle operator.
async fn memory() {
    let mut peaks = Vec::new();
    println!();
    for running in [1_000, 1_000_000] {
        let world = World::new("memory").await;
        world.sql(&healthy(running)).await;
        let operator = world.operator();
        world.store(json!({"pollInterval": "15s"})).await;
        world
            .store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.running_executions == running))
            .await;
        let peak = operator.memory("VmHWM");
        println!("start beside {running:>7} running executions: {peak:.1} MiB at the most");
        peaks.push(peak);
        if running == 1_000_000 {
            eprintln!("watching it idle for {} s", IDLE.as_secs());
            let (patches, posts) = (writes(&operator, "PATCH"), writes(&operator, "POST"));
            tokio::time::sleep(IDLE).await;
            let minutes = IDLE.as_secs_f64() / 60.0;
            println!(
                "idle for {minutes:.0} minutes: {:.1} MiB; status writes {:.2} a minute, Events {}",
                operator.memory("VmRSS"),
                (writes(&operator, "PATCH") - patches) as f64 / minutes,
                writes(&operator, "POST") - posts
            );
        }
        assert!(operator.stop().success());
    }
    println!("the second start to the first: {:.2}", peaks[1] / peaks[0]);
}

fn healthy(rows: i64) -> String {
    format!(
        "INSERT INTO job_executions SELECT n, n % 1000, n, 'running', now() - interval '5 minutes' + n * interval '100 us' \
         FROM generate_series(1, {rows}) n; ANALYZE job_executions"
    )
}

/// The number of requests with this method that the operator has sent.
fn writes(operator: &Operator, method: &str) -> usize {
    let sent = format!("\"http.method\":\"{method}\"");
    operator.log().lines().filter(|l| l.contains("\"message\":\"requesting\"") && l.contains(&sent)).count()
}
