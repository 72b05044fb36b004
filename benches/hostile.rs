//! The operator under the memory limit of the chart, while somebody with control over objects, rows or a server attacks
//! it: whether it survives, how much memory it takes, and how late other deadlines are met.
//! Run with `make bench ARGS='--bench hostile'`; see docs/reliability.md. `-- policies objects` runs only these attacks.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it stands on the support of the tests"
)]

#[path = "hostile/attacks.rs"]
mod attacks;
#[path = "hostile/cage.rs"]
mod cage;
#[allow(dead_code, unused_imports, reason = "the tests use more of it")]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::time::Duration;

use attacks::Attack;
use cage::Cage;
use serde_json::json;
use support::{Operator, World, is, rbac};

/// The number of deadlines in a phase, one each second.
const DEADLINES: i64 = 40;

/// The time from the first row of a phase to its first deadline.
const LEAD: Duration = Duration::from_secs(5);

/// The time for which the victim's executions have already run.
const TIMEOUT: &str = "1h";

#[tokio::main]
async fn main() {
    // `cargo test --benches` runs this too, without the argument; it is not a test.
    let arguments: Vec<String> = std::env::args().collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let attacks: Vec<Attack> = attacks::ALL
        .into_iter()
        .filter(|attack| {
            let named = |name: &str| arguments.iter().any(|argument| argument == name);
            named(attack.name()) || !attacks::ALL.iter().any(|attack| named(attack.name()))
        })
        .collect();
    let left_out: Vec<_> = attacks::ALL.iter().filter(|a| !attacks.contains(a)).map(|a| a.name()).collect();
    let cage = Cage::of_chart();
    let (victim, hostile) = (World::new("victim").await, World::new("hostile").await);
    rbac::lend(&victim.client, &victim.namespace, &hostile.namespace).await;
    let namespaces = format!("{},{}", victim.namespace, hostile.namespace);
    let start = |log: &str| {
        let operator = victim.operator_in(&namespaces, log, &[("RUST_LOG", "info")]);
        cage.hold(operator.pid());
        operator
    };
    let mut operator = start("first");
    victim.store(json!({"defaultTimeout": TIMEOUT, "pollInterval": "15s"})).await;
    victim.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;

    println!("\n{DEADLINES} deadlines of the victim, one a second, under {}", cage.describe());
    if !left_out.is_empty() {
        println!("LEFT OUT: {}", left_out.join(", "));
    }
    println!("\n| when | median s | max s | to quiet (median) | peak MiB |\n| --- | --- | --- | --- | --- |");
    let quiet = phase(&victim, &mut operator, 0, std::future::ready(())).await;
    tell("quiet", &quiet, &quiet);
    let flood = async {
        for attack in &attacks {
            attack.launch(&hostile).await;
        }
    };
    let flooded = phase(&victim, &mut operator, 1, flood).await;
    tell("while all of it arrives", &flooded, &quiet);
    let stayed = phase(&victim, &mut operator, 2, std::future::ready(())).await;
    tell("beside it", &stayed, &quiet);
    operator.kill();
    let mut operator = start("second");
    let restarted = phase(&victim, &mut operator, 3, std::future::ready(())).await;
    tell("after a restart beside it", &restarted, &quiet);
    assert!(operator.is_alive(), "the operator has ended\n{}", operator.log());
    assert!(operator.stop().success());
    println!("\nThe operator survived{}", if left_out.is_empty() { " all of it" } else { "" });
}

/// The result of a phase.
struct Phase {
    median: f64,
    max: f64,
    peak: f64,
}

/// Measures how late deadlines are met while something else happens.
async fn phase(
    victim: &World,
    operator: &mut Operator,
    number: i64,
    meanwhile: impl Future<Output = ()>,
) -> Phase {
    let first = number * DEADLINES;
    victim
        .sql(&format!(
            "INSERT INTO job_executions SELECT {first} + n, n, n, 'running', \
                 clock_timestamp() - interval '{TIMEOUT}' + interval '{} s' + n * interval '1 s' \
             FROM generate_series(1, {DEADLINES}) n",
            LEAD.as_secs()
        ))
        .await;
    let of = format!("id > {first} AND id <= {first} + {DEADLINES}");
    let met = async {
        let all = format!("SELECT count(*) = 0 FROM job_executions WHERE status = 'running' AND {of}");
        tokio::time::sleep(LEAD + Duration::from_secs(DEADLINES.unsigned_abs())).await;
        victim.until_true(&all).await;
    };
    tokio::join!(met, meanwhile);
    assert!(operator.is_alive(), "the operator has ended\n{}", operator.log());
    let (median, max): (f64, f64) = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY late)::float8, max(late)::float8
         FROM (SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - started_at - interval '{TIMEOUT}') AS late
               FROM job_executions WHERE status = 'failed' AND {of}) AS failed"
    )))
    .fetch_one(&victim.pool)
    .await
    .unwrap();
    Phase { median, max, peak: operator.memory("VmHWM") }
}

fn tell(when: &str, phase: &Phase, quiet: &Phase) {
    let Phase { median, max, peak } = phase;
    println!("| {when} | {median:.3} | {max:.3} | {:.2} | {peak:.1} |", median / quiet.median);
}
