//! The time of a sweep whose executions run again: `make bench ARGS='--bench retry'`, docs/performance.md.

mod support;

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use jobexec_operator::api::Table;
use jobexec_operator::api::retry::{RetryMethod, TableRetry};
use jobexec_operator::db::Layout;
use sqlx::{Connection as _, Executor as _};
use support::{Operator, Outcome, ROLE, Server, median, same, seconds, settle};

/// Each contender runs once a round, so that a slow minute of the machine hits all of them.
const ROUNDS: usize = 5;

const STALE: i64 = 100_000;

const TEMPLATE: &str = "jobexec_bench_template";
const COPY: &str = "jobexec_bench";
const DATABASES: [&str; 2] = [COPY, TEMPLATE];

/// Stale executions, and as many finished ones, with the indexes of an application.
const TABLES: &str = "
    CREATE TABLE job_executions (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, job_id bigint NOT NULL, execution_number bigint NOT NULL,
        status text NOT NULL, started_at timestamptz, completed_at timestamptz, run_at timestamptz, attempt integer,
        retry_of bigint, payload text, UNIQUE (job_id, execution_number)
    ) WITH (autovacuum_enabled = false);
    INSERT INTO job_executions (job_id, execution_number, status, started_at, completed_at, payload)
    SELECT n % 1000, n / 1000, CASE WHEN n % 2 = 0 THEN 'running' ELSE 'completed' END, now() - interval '4 hours',
           CASE WHEN n % 2 = 1 THEN now() - interval '2 hours' END, 'x'
    FROM generate_series(1, 200000) AS n";

/// The same work as that of [`Contender::NewExecution`], by one statement in one transaction.
const TRANSACTION: &str = "
    WITH ended AS (
        UPDATE job_executions SET status = 'failed', completed_at = statement_timestamp()
        WHERE status = 'running' AND started_at < statement_timestamp() - interval '65 minutes'
        RETURNING id, job_id, execution_number, started_at, payload
    ),
    next AS (
        INSERT INTO job_executions (job_id, execution_number, status, run_at, attempt, retry_of, payload)
        SELECT job_id, latest.number + row_number() OVER (PARTITION BY job_id), 'scheduled',
               statement_timestamp() + interval '30 seconds', 2, id, payload
        FROM ended
        JOIN (SELECT job_id, max(execution_number) AS number FROM job_executions GROUP BY job_id) AS latest USING (job_id)
        RETURNING id, retry_of
    ),
    noted AS (
        INSERT INTO jobexec.retries (
            store_id, execution_id, attempt, reason, source, ended_at, due_at, waits, forced, tries, next_id, decided_at, outcome
        )
        SELECT (SELECT store_id FROM jobexec.stores), retry_of, 1, 'DeadlineExceeded', 'ExecutionStore/jobs', statement_timestamp(),
               statement_timestamp() + interval '30 seconds', false, false, 0, id, statement_timestamp(), 'Retried'
        FROM next
    )
    INSERT INTO jobexec.events (at, store_id, execution_id, job_id, execution_number, action, reason, source, note, started_at)
    SELECT statement_timestamp(), (SELECT store_id FROM jobexec.stores), ended.id, job_id, execution_number, action,
           'DeadlineExceeded', 'ExecutionStore/jobs', 'attempt 2 may start at ' || statement_timestamp(), started_at
    FROM ended, (VALUES ('Failed'), ('Retried')) AS of (action)";

#[derive(Clone, Copy)]
enum Contender {
    /// The baseline of [`Self::InPlace`].
    Fail,
    InPlace,
    /// The baseline of [`Self::NewExecution`].
    Transaction,
    NewExecution,
}

const CONTENDERS: [Contender; 4] =
    [Contender::Fail, Contender::InPlace, Contender::Transaction, Contender::NewExecution];

impl Contender {
    const fn name(self) -> &'static str {
        match self {
            Self::Fail => "a  a sweep with Fail",
            Self::InPlace => "b  a sweep with Retry, rows are set back",
            Self::Transaction => "c  one transaction that fails, inserts and records",
            Self::NewExecution => "d  a sweep with Retry, new rows",
        }
    }

    fn layout(self) -> Layout {
        let mut table = Table::default();
        let method = match self {
            Self::InPlace => Some(RetryMethod::InPlace),
            Self::NewExecution => Some(RetryMethod::NewExecution),
            Self::Fail | Self::Transaction => None,
        };
        table.retry = method.map(|method| TableRetry { method, copy_columns: vec!["payload".into()] });
        table.columns.scheduled_at = Some("run_at".into());
        table.columns.attempt = Some("attempt".into());
        table.columns.retry_of = Some("retry_of".into());
        Layout { table, ..Layout::default() }
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    // `cargo test --benches` runs this too, without the argument; it is not a test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let server = Server::from_env()?;
    let measured = sweeps(&server).await;
    server.remove(&DATABASES).await?;
    measured
}

async fn sweeps(server: &Server) -> Outcome<()> {
    server.remove(&DATABASES).await?;
    server.execute(format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'")).await?;
    let mut connection = server.create(TEMPLATE).await?;
    connection.execute(TABLES).await?;
    connection.close().await?;
    server.apply_schema(TEMPLATE, &Layout::default()).await?;
    let mut times: [Vec<Duration>; CONTENDERS.len()] = Default::default();
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        for (contender, times) in CONTENDERS.into_iter().zip(&mut times) {
            times.push(sweep(server, contender).await?);
        }
    }
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    println!("\nPostgres {}, a sweep of {STALE} stale rows", server.version().await?);
    println!("{:<54}{:>8}{:>16}{:>10}", "median of the rounds", "s", "min..max", "rows/s");
    for ((contender, times), time) in CONTENDERS.iter().zip(&times).zip(&medians) {
        let range = format!("{:.2}..{:.2}", seconds(times.first()), seconds(times.last()));
        println!("{:<54}{time:>8.3}{range:>16}{:>10.0}", contender.name(), STALE as f64 / time);
    }
    println!("b/a {:.2}   d/c {:.2}", medians[1] / medians[0], medians[3] / medians[2]);
    Ok(())
}

/// Sweeps a fresh copy of the template, so that all contenders start from the same bytes on disk.
async fn sweep(server: &Server, contender: Contender) -> Outcome<Duration> {
    server.copy(TEMPLATE, COPY).await?;
    let layout = contender.layout();
    server.apply_schema(COPY, &layout).await?;
    let mut connection = server.connect(COPY).await?;
    settle(&mut connection).await?;
    let operator = Operator::open(server, COPY, &layout, TimeDelta::hours(1), Vec::new()).await?;
    let (time, done) = match contender {
        Contender::Fail => operator.sweep().await?,
        Contender::InPlace | Contender::NewExecution => operator.retrying().sweep().await?,
        Contender::Transaction => {
            let start = Instant::now();
            connection.execute(TRANSACTION).await?;
            (start.elapsed(), STALE)
        }
    };
    same("rows ended", done, STALE)?;
    let count = "SELECT count(*) FILTER (WHERE status = 'failed'), count(*) FILTER (WHERE status = 'scheduled') FROM job_executions";
    let (failed, scheduled): (i64, i64) = sqlx::query_as(count).fetch_one(&mut connection).await?;
    let expected = match contender {
        Contender::Fail => (STALE, 0),
        Contender::InPlace => (0, STALE),
        Contender::Transaction | Contender::NewExecution => (STALE, STALE),
    };
    same("rows failed", failed, expected.0)?;
    same("rows scheduled", scheduled, expected.1)?;
    connection.close().await?;
    Ok(time)
}
