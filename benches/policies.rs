//! The cost of policies for a decision, compared with the store's default alone, and the cost of timeouts from history:
//! `make bench`, docs/performance.md. The argument `decision` or `history` selects one:
//! `make bench ARGS='--bench policies -- history'`.

mod support;

use std::ops::Range;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use jobexec_operator::api::{Limit, Table};
use jobexec_operator::db::history::{self, Question};
use jobexec_operator::db::{Layout, list, observe};
use jobexec_operator::rules::Policy;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use support::{Operator, Outcome, ROLE, Server, median, same, settle};

/// Each contender runs once a round, so that a slow minute of the machine hits all of them.
const ROUNDS: usize = 15;
const SWEEP_ROUNDS: usize = 5;

const JOBS: i64 = 10_000;
const TYPES: i64 = 1_000;
const RUNNING: i64 = 1_000_000;

/// Finished rows of the table with much history.
const FINISHED: i64 = 10_000_000;
const LIVE: i64 = 100_000;

const TEMPLATE: &str = "jobexec_bench_template";
/// The databases for the store's default alone, and for policies.
const COPIES: [&str; 2] = ["jobexec_bench_default", "jobexec_bench_policies"];
const HISTORY: &str = "jobexec_bench_history";
const DATABASES: [&str; 4] = [COPIES[0], COPIES[1], TEMPLATE, HISTORY];

const TABLE: &str = "
    CREATE TABLE job_executions (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, job_id bigint NOT NULL, job_type text,
        execution_number bigint NOT NULL, status text NOT NULL, started_at timestamptz, completed_at timestamptz
    ) WITH (autovacuum_enabled = false)";

/// `$1`: the number of running rows; `$2`: about one in this many is stale by any timeout.
const ROWS: &str = "
    INSERT INTO job_executions (job_id, job_type, execution_number, status, started_at)
    SELECT n % 10000, 'type ' || n % 1000, n / 10000, 'running',
           now() - CASE WHEN abs(hashint8(n)::bigint) % $2 = 0 THEN interval '5 days' + n * interval '1 ms'
                        ELSE {age} END
    FROM generate_series(1, $1::bigint) AS n";

/// `$1` finished rows of `$2` jobs, over thirty days.
const PAST: &str = "
    INSERT INTO job_executions (job_id, job_type, execution_number, status, started_at, completed_at)
    SELECT n % $2::bigint, 'type ' || n % 1000, n / $2::bigint, 'completed',
           now() - n * (interval '30 days' / $1::bigint) - interval '1 second' * (1 + abs(hashint8(n)::bigint) % 600),
           now() - n * (interval '30 days' / $1::bigint)
    FROM generate_series(1, $1::bigint) AS n";

/// `$1` running rows of `$2` jobs.
const PRESENT: &str = "
    INSERT INTO job_executions (job_id, job_type, execution_number, status, started_at)
    SELECT n % $2::bigint, 'type ' || n % 1000, n, 'running', now() - interval '5 minutes'
    FROM generate_series(1, $1::bigint) AS n";

/// A case for the decision.
struct Case {
    name: &'static str,
    /// About one in this many running rows is stale.
    stale: i64,
    /// The time for which the others have run.
    age: &'static str,
    /// The store's default, alone and with the policies, in hours.
    defaults: [i64; 2],
    policies: fn() -> Vec<Policy>,
}

const CASES: [Case; 4] = [
    Case {
        name: "500 policies by job, 500 by type; 1,000 stale",
        stale: 1_000,
        age: "n * interval '36 ms'",
        defaults: [24, 24],
        policies: mixed,
    },
    Case {
        name: "500 policies by job, 500 by type; 20,000 stale",
        stale: 50,
        age: "n * interval '36 ms'",
        defaults: [24, 24],
        policies: mixed,
    },
    Case {
        name: "900 types may run for longer than the default, and do; 1,000 stale",
        stale: 1_000,
        age: "CASE WHEN n % 1000 < 900 THEN interval '2 hours' + n * interval '64 ms' ELSE n * interval '3 ms' END",
        defaults: [24, 1],
        policies: longer_types,
    },
    Case {
        name: "9,000 jobs may run for longer than the default, and do; 1,000 stale",
        stale: 1_000,
        age: "CASE WHEN n % 10000 < 9000 THEN interval '2 hours' + n * interval '64 ms' ELSE n * interval '3 ms' END",
        defaults: [24, 1],
        policies: longer_jobs,
    },
];

/// Half of the timeouts are shorter than the default, half longer.
fn mixed() -> Vec<Policy> {
    let timeout = |n: i64| TimeDelta::hours(if n % 2 == 0 { 12 } else { 48 });
    let by_job = (0..500).map(move |n| policy(format!("job-{n}"), n * 19..n * 19 + 1, 0..0, timeout(n)));
    let by_type = (0..500).map(move |n| policy(format!("type-{n}"), 0..0, n * 2 + 1..n * 2 + 2, timeout(n)));
    by_job.chain(by_type).collect()
}

fn longer_types() -> Vec<Policy> {
    vec![policy("long".to_owned(), 0..0, 0..900, TimeDelta::hours(24))]
}

fn longer_jobs() -> Vec<Policy> {
    let policies =
        (0..9).map(|n| policy(format!("long-{n}"), n * 1_000..(n + 1) * 1_000, 0..0, TimeDelta::hours(24)));
    policies.collect()
}

fn policy(name: String, jobs: Range<i64>, types: Range<i64>, timeout: TimeDelta) -> Policy {
    Policy {
        name,
        jobs: jobs.map(|n| n.to_string()).collect(),
        types: types.map(|n| format!("type {n}")).collect(),
        timeout: Some(Limit::After(timeout)),
        ..Policy::default()
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let asked = |what: &str| std::env::args().any(|argument| argument == what);
    // `cargo test --benches` runs this too, without the argument; it is not a test.
    if !asked("--bench") {
        return Ok(());
    }
    let bench = Bench { server: Server::from_env()?, layout: layout() };
    let both = !asked("decision") && !asked("history");
    let measured = async {
        bench.server.remove(&DATABASES).await?;
        bench.server.execute(format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'")).await?;
        println!("\nPostgres {}", bench.server.version().await?);
        if both || asked("decision") {
            for case in &CASES {
                Box::pin(bench.decision(case)).await?;
            }
        }
        if both || asked("history") {
            bench.history().await?;
        }
        Ok(())
    }
    .await;
    bench.server.remove(&DATABASES).await?;
    measured
}

/// The default table, with the job type.
fn layout() -> Layout {
    let mut table = Table::default();
    table.columns.job_type = serde_json::from_value(json!("job_type")).ok();
    table.into()
}

struct Bench {
    server: Server,
    layout: Layout,
}

impl Bench {
    /// Compares decisions about [`RUNNING`] rows by the default alone and by policies, which give the same rows.
    async fn decision(&self, case: &Case) -> Outcome<()> {
        println!("\n{RUNNING} running rows of {JOBS} jobs and {TYPES} types: {}", case.name);
        println!(
            "{:<34}{:>12}{:>12}{:>8}{:>16}",
            "medians", "default, ms", "policies, ms", "ratio", "ratios"
        );
        let stale = self.prepare(case).await?;
        let operators = self.operators(case).await?;
        let mut looks = [Vec::new(), Vec::new()];
        let mut counts = [Vec::new(), Vec::new()];
        let mut lists = [Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            for (n, operator) in operators.iter().enumerate() {
                let (look, pulse) = operator.look().await?;
                same("stale", pulse.stale, stale)?;
                let start = Instant::now();
                let live = observe::live(&operator.database, &operator.predicate()).await?;
                let count = start.elapsed();
                same("stale", live.stale, stale)?;
                let start = Instant::now();
                let listed = list::stale(&operator.database, &operator.predicate(), 100).await?;
                let list = start.elapsed();
                same("listed", i64::try_from(listed.len())?, 100)?;
                // The first round is a warm-up.
                if round > 0 {
                    looks[n].push(look);
                    counts[n].push(count);
                    lists[n].push(list);
                }
            }
        }
        for operator in &operators {
            operator.database.close().await;
        }
        report("a look", looks);
        report("the list of what is stale", lists);
        report("the figures of the status", counts);
        let mut sweeps = [Vec::new(), Vec::new()];
        for round in 1..=SWEEP_ROUNDS {
            // The second of two has the advantage of a warm cache.
            self.copy().await?;
            let operators = self.operators(case).await?;
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            for n in order {
                let mut connection = self.server.connect(COPIES[n]).await?;
                settle(&mut connection).await?;
                operators[n].look().await?;
                let (time, ended) = operators[n].sweep().await?;
                same("ended", ended, stale)?;
                sweeps[n].push(time);
                operators[n].database.close().await;
            }
        }
        report("a sweep", sweeps);
        Ok(())
    }

    /// Measures the cost of timeouts from history, and how much they delay reconciliation meanwhile.
    async fn history(&self) -> Outcome<()> {
        println!("\n{FINISHED} finished rows of {JOBS} jobs within 30 days, {LIVE} running ones");
        let mut connection = self.server.create(HISTORY).await?;
        connection.execute(TABLE).await?;
        sqlx::query(PAST).bind(FINISHED).bind(JOBS).execute(&mut connection).await?;
        sqlx::query(PRESENT).bind(LIVE).bind(JOBS).execute(&mut connection).await?;
        connection.execute("CREATE INDEX ON job_executions (completed_at)").await?;
        self.server.apply_schema(HISTORY, &self.layout).await?;
        settle(&mut connection).await?;
        let operator =
            Operator::open(&self.server, HISTORY, &self.layout, TimeDelta::hours(24), Vec::new()).await?;
        let quiet = median(&mut looks(&operator, |made| made < 50).await?);
        let question = Question {
            uid: "1".to_owned(),
            name: "learnt".to_owned(),
            generation: 1,
            jobs: Vec::new(),
            types: Vec::new(),
            all: true,
            spec: serde_json::from_value(json!({}))?,
        };
        for window in ["720h", "24h"] {
            let mut question = question.clone();
            question.spec.window = window.parse()?;
            let (database, mapping) = (operator.database.clone(), operator.mapping.clone());
            let asked = tokio::spawn(async move {
                let begun = Instant::now();
                (history::ask(&database, &mapping, &question).await, begun.elapsed())
            });
            let beside = median(&mut looks(&operator, |_| !asked.is_finished()).await?);
            let (figures, took) = asked.await?;
            println!(
                "window {window}: {} timeouts in {:.2} s; a look beside it {:.2} ms, else {:.2} ms (medians), ratio {:.2}",
                figures?.computed.len(),
                took.as_secs_f64(),
                beside * 1e3,
                quiet * 1e3,
                beside / quiet
            );
        }
        operator.database.close().await;
        connection.close().await?;
        Ok(())
    }

    /// Creates the template and its copies; returns the number of stale rows.
    async fn prepare(&self, case: &Case) -> Outcome<i64> {
        self.server.execute(format!("DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)")).await?;
        let mut connection = self.server.create(TEMPLATE).await?;
        connection.execute(TABLE).await?;
        sqlx::query(AssertSqlSafe(ROWS.replace("{age}", case.age)))
            .bind(RUNNING)
            .bind(case.stale)
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        self.server.apply_schema(TEMPLATE, &self.layout).await?;
        let mut connection = self.server.connect(TEMPLATE).await?;
        settle(&mut connection).await?;
        let stale = "SELECT count(*) FROM job_executions WHERE started_at < now() - interval '4 days'";
        let stale = sqlx::query_scalar(stale).fetch_one(&mut connection).await?;
        connection.close().await?;
        self.copy().await?;
        Ok(stale)
    }

    async fn copy(&self) -> Outcome<()> {
        for copy in COPIES {
            self.server.copy(TEMPLATE, copy).await?;
        }
        Ok(())
    }

    async fn operators(&self, case: &Case) -> Outcome<[Operator; 2]> {
        let [alone, beside] = case.defaults.map(TimeDelta::hours);
        Ok([
            Operator::open(&self.server, COPIES[0], &self.layout, alone, Vec::new()).await?,
            Operator::open(&self.server, COPIES[1], &self.layout, beside, (case.policies)()).await?,
        ])
    }
}

/// The times of reads, a tenth of a second apart, while `wanted` is true for their number.
async fn looks(operator: &Operator, wanted: impl Fn(usize) -> bool) -> Outcome<Vec<Duration>> {
    let mut times = Vec::new();
    while wanted(times.len()) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        times.push(operator.look().await?.0);
    }
    Ok(times)
}

/// Prints the medians of both, and of the ratios of each round.
fn report(what: &str, times: [Vec<Duration>; 2]) {
    let mut ratios: Vec<f64> =
        times[0].iter().zip(&times[1]).map(|(a, b)| b.as_secs_f64() / a.as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    let [mut default, mut policies] = times;
    let (default, policies) = (median(&mut default), median(&mut policies));
    println!(
        "{what:<34}{:>12.2}{:>12.2}{:>8.2}{:>16}",
        default * 1e3,
        policies * 1e3,
        policies / default,
        format!("{:.2}..{:.2}", ratios.first().unwrap_or(&0.0), ratios.last().unwrap_or(&0.0))
    );
}
