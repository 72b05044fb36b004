//! Three replicas share 300 stores of one database: how soon another replica manages the stores of one that is gone, and
//! the load of so many stores when nothing happens. `make bench ARGS='--bench replicas'`, docs/performance.md.

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
use support::World;
use support::replica::{Replica, shared};

const STORES: usize = 300;

/// Healthy running executions in each table.
const HEALTHY: usize = 1_000;

/// The number of times that a replica is killed, and that one is asked to stop.
const ROUNDS: usize = 3;

/// The time for which transferred stores have to open, so that this does not disturb the next measurement.
const SETTLE: Duration = Duration::from_secs(20);

/// The duration of the idle phase.
const IDLE: Duration = Duration::from_mins(1);

/// The default log level of an operator; tests log more.
const QUIET: &[(&str, &str)] = &[("RUST_LOG", "info")];

#[tokio::main]
async fn main() {
    // `cargo test --benches` runs this too, without the argument; it is not a test.
    if std::env::args().any(|argument| argument == "--bench") {
        let one = Box::pin(measure(1)).await;
        let many = Box::pin(measure(STORES)).await;
        println!(
            "\n{STORES} stores to one, medians: killed {:.2}, stopped {:.2}",
            many.0 / one.0,
            many.1 / one.1
        );
    }
}

/// Returns the medians over all rounds of how long the last store waited, for a replica that was killed and for one that
/// was asked to stop.
async fn measure(stores: usize) -> (f64, f64) {
    let world = World::with_leases("replicas").await;
    world.tables(stores, json!({"pollInterval": "15s"})).await;
    for n in 0..stores {
        let healthy = format!(
            "INSERT INTO t{n} SELECT -n, n, n, 'running', now() - interval '1 hour' FROM generate_series(1, {HEALTHY}) n"
        );
        world.sql(&healthy).await;
    }
    world.sql("ANALYZE").await;
    let mut replicas: Vec<_> = ["a", "b", "c"].map(|name| world.replica(name, QUIET)).into();
    let shares = shared(&replicas.iter().collect::<Vec<_>>(), stores).await;
    println!("\n{stores} stores with {HEALTHY} running executions each, shared as {shares:?}");
    tokio::time::sleep(SETTLE).await;
    if stores > 1 {
        idle(&world, &replicas).await;
    }
    let mut id = 0;
    let mut medians = [0.0; 2];
    for (kill, median) in [true, false].into_iter().zip(&mut medians) {
        let mut last = Vec::new();
        for _ in 0..ROUNDS {
            id += 1;
            last.push(round(&world, &mut replicas, stores, id, kill).await);
        }
        last.sort_by(f64::total_cmp);
        let what = if kill { "killed" } else { "asked to stop" };
        let (min, max) = (last[0], last[ROUNDS - 1]);
        *median = last[ROUNDS / 2];
        println!("{what}: the last of its stores waited, s: median {median:.2}, {min:.2}..{max:.2}");
    }
    for replica in replicas {
        replica.stop().await;
    }
    (medians[0], medians[1])
}

/// Ends the replica that has most stores, puts an overdue execution into each of them, and returns the seconds until the
/// last of them was failed. Another replica of the same name replaces it.
async fn round(world: &World, replicas: &mut Vec<Replica>, stores: usize, id: usize, kill: bool) -> f64 {
    let mut owned = Vec::new();
    for replica in &*replicas {
        owned.push(replica.stores().await);
    }
    let victim = (0..owned.len()).max_by_key(|&n| owned[n].len()).unwrap();
    let tables: Vec<_> = owned[victim].iter().map(|store| store.replacen('s', "t", 1)).collect();
    let replica = replicas.remove(victim);
    let name = replica.name.clone();
    let ended: chrono::DateTime<chrono::Utc> = world.one("SELECT clock_timestamp()").await;
    if kill {
        replica.operator.kill();
    } else {
        replica.stop().await;
    }
    world.overdue_in(tables.iter().cloned(), id).await;
    world.until_failed(tables.len(), id).await;
    let late =
        |table: &String| format!("SELECT pg_xact_commit_timestamp(xmin) AS at FROM {table} WHERE id = {id}");
    let last: chrono::DateTime<chrono::Utc> = world
        .one(&format!(
            "SELECT max(at) FROM ({}) AS ends",
            tables.iter().map(late).collect::<Vec<_>>().join(" UNION ALL ")
        ))
        .await;
    replicas.insert(victim, world.replica(&name, QUIET));
    shared(&replicas.iter().collect::<Vec<_>>(), stores).await;
    tokio::time::sleep(SETTLE).await;
    (last - ended).as_seconds_f64()
}

/// Measures the load on the database and the replicas when nothing happens.
async fn idle(world: &World, replicas: &[Replica]) {
    let role = &world.role;
    let connections: i64 =
        world.one(&format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'")).await;
    let active = async || -> (f64, i64) {
        sqlx::query_as(
            "SELECT active_time, xact_commit FROM pg_stat_database WHERE datname = current_database()",
        )
        .fetch_one(&world.pool)
        .await
        .unwrap()
    };
    eprintln!("watching it idle for {} s", IDLE.as_secs());
    let before = active().await;
    tokio::time::sleep(IDLE).await;
    let after = active().await;
    let seconds = IDLE.as_secs_f64();
    let busy = (after.0 - before.0) / 1_000.0 / seconds;
    println!(
        "idle: {connections} connections, {:.1} transactions a second, {:.1} % of one connection's time",
        (after.1 - before.1) as f64 / seconds,
        busy * 100.0
    );
    for replica in replicas {
        println!("replica {}: {:.1} MiB", replica.name, replica.operator.memory("VmRSS"));
    }
}
