//! The time until `jobexec list` prints something about a large table, compared with psql:
//! `make bench ARGS='--bench list'`, docs/performance.md. `BENCH_ROWS` is the number of running rows.

#[allow(dead_code, reason = "the other benchmarks use more of it")]
mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use jobexec_operator::api::{Limit, Table};
use jobexec_operator::rules::Policy;
use sqlx::{AssertSqlSafe, Executor as _};
use support::{Operator, Outcome, ROLE, Server, median, seconds, settle};

/// The number of running rows, unless `BENCH_ROWS` is set.
const ROWS: i64 = 1_000_000;

/// Each contender runs once a round, so that a slow minute of the machine hits all of them.
const ROUNDS: usize = 15;

const POLICIES: i64 = 1_000;

const DATABASE: &str = "jobexec_bench_list";

const TABLE: &str = "
    CREATE TABLE job_executions (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, job_id bigint NOT NULL, execution_number bigint NOT NULL,
        status text NOT NULL, started_at timestamptz, completed_at timestamptz
    )";

/// `$1` running rows of 10,000 jobs, one in a thousand overdue.
const FILL: &str = "
    INSERT INTO job_executions (job_id, execution_number, status, started_at)
    SELECT n % 10000, n / 10000, 'running',
           now() - CASE WHEN n % 1000 = 0 THEN interval '50 hours' ELSE n * interval '36 ms' / ($1 / 1e6) END
    FROM generate_series(1, $1::bigint) AS n";

/// The query that an administrator would run in psql.
const OLDEST: &str = "SELECT id, job_id, execution_number, now() - started_at AS runtime FROM job_executions \
     WHERE status = 'running' ORDER BY started_at, id LIMIT 100";

#[tokio::main]
async fn main() -> Outcome<()> {
    // `cargo test --benches` runs this too, without the argument; it is not a test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let server = Server::from_env()?;
    server.remove(&[DATABASE]).await?;
    let measured = measure(&server).await;
    server.remove(&[DATABASE]).await?;
    measured
}

async fn measure(server: &Server) -> Outcome<()> {
    let rows = std::env::var("BENCH_ROWS").map_or(Ok(ROWS), |text| text.parse())?;
    server.execute(format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'")).await?;
    let mut connection = server.create(DATABASE).await?;
    connection.execute(TABLE).await?;
    sqlx::query(AssertSqlSafe(FILL)).bind(rows).execute(&mut connection).await?;
    let layout = Table::default().into();
    server.apply_schema(DATABASE, &layout).await?;
    settle(&mut connection).await?;
    println!("\nPostgres {}, {rows} running rows, medians of {ROUNDS}", server.version().await?);

    let url = url()?;
    let list = |args: &'static [&'static str]| {
        let url = url.clone();
        move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_jobexec"));
            command.args(args).env("DATABASE_URL", url.as_str());
            command
        }
    };
    let psql = || {
        let mut command = Command::new("psql");
        command.args([url.as_str(), "-X", "-c", OLDEST]);
        command
    };
    for (what, policies) in [("the store's default alone", Vec::new()), ("1,000 policies", policies())] {
        let operator = Operator::open(server, DATABASE, &layout, TimeDelta::hours(24), policies).await?;
        operator.database.close().await;
        println!("\n{what}\n{:<28}{:>14}{:>12}{:>8}", "", "first line, s", "| head, s", "ratio");
        let contenders: [(&str, &dyn Fn() -> Command); 3] = [
            ("psql, the 100 oldest", &psql),
            ("jobexec list", &list(&["list"])),
            ("jobexec list --overdue", &list(&["list", "--overdue"])),
        ];
        compare(&contenders)?;
    }
    Ok(())
}

/// Prints the times of each contender, and the ratio of its first line to that of the first contender.
fn compare(contenders: &[(&str, &dyn Fn() -> Command)]) -> Outcome<()> {
    let mut times = vec![(Vec::new(), Vec::new()); contenders.len()];
    for round in 0..=ROUNDS {
        for ((name, command), (first, head)) in contenders.iter().zip(&mut times) {
            let (line, end) = run(command()).map_err(|error| format!("{name}: {error}"))?;
            // The first round is a warm-up.
            if round > 0 {
                first.push(line);
                head.push(end);
            }
        }
    }
    let mut baseline = None;
    for ((name, _), (mut first, mut head)) in contenders.iter().zip(times) {
        let (line, end) = (median(&mut first), median(&mut head));
        let ratio = line / *baseline.get_or_insert(line);
        println!("{name:<28}{line:>14.3}{end:>12.3}{ratio:>8.2}   at the most {:.3}", seconds(first.last()));
    }
    Ok(())
}

/// Measures the time from the start of a program to its first line, and to its end after ten lines, as with `head`.
fn run(mut command: Command) -> Outcome<(Duration, Duration)> {
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("it has no output")?).lines();
    lines.next().ok_or("it printed nothing")??;
    let first = begun.elapsed();
    for line in lines.by_ref().take(9) {
        line?;
    }
    drop(lines);
    child.wait()?;
    Ok((first, begun.elapsed()))
}

/// The URL for the operator's role.
fn url() -> Outcome<url::Url> {
    let mut url: url::Url = std::env::var("DATABASE_URL")?.parse()?;
    url.set_path(DATABASE);
    url.set_username(ROLE)
        .and_then(|()| url.set_password(Some(ROLE)))
        .map_err(|()| "not a URL of a server")?;
    Ok(url)
}

/// Half of the timeouts are shorter than the default, half longer.
fn policies() -> Vec<Policy> {
    let one = |n: i64| Policy {
        name: format!("job-{n}"),
        jobs: [(n * 10).to_string()].into_iter().collect(),
        timeout: Some(Limit::After(TimeDelta::hours(if n % 2 == 0 { 12 } else { 48 }))),
        ..Policy::default()
    };
    (0..POLICIES).map(one).collect()
}
