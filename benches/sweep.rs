//! The time of a sweep compared with plain SQL, on generated tables: `make bench`, docs/performance.md. The argument
//! `large` uses a table of 10,000,000 rows: `make bench ARGS='--bench sweep -- large'`.

mod support;

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use jobexec_operator::db::Layout;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use support::{Operator, Outcome, ROLE, Server, median, same, seconds, settle};

/// The number of rows, and their kinds.
#[derive(Clone, Copy)]
struct Scale {
    /// Each contender runs once a round, so that a slow minute of the machine hits all of them.
    rounds: usize,
    /// The number of all rows.
    rows: i64,
    /// One row in this many is stale,
    kinds: i64,
    /// and this many of them run healthily; the others are finished.
    healthy: i64,
}

const SMALL: Scale = Scale { rounds: 9, rows: 400_000, kinds: 4, healthy: 1 };
const LARGE: Scale = Scale { rounds: 3, rows: 10_000_000, kinds: 100, healthy: 9 };

impl Scale {
    const fn stale(self) -> i64 {
        self.rows / self.kinds
    }
}

const TEMPLATE: &str = "jobexec_bench_template";
const COPY: &str = "jobexec_bench";
const DATABASES: [&str; 2] = [COPY, TEMPLATE];

const TABLE: &str = "
    CREATE TABLE job_executions (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, job_id bigint NOT NULL, execution_number bigint NOT NULL,
        status text NOT NULL, started_at timestamptz, completed_at timestamptz, payload text NOT NULL
    ) WITH (autovacuum_enabled = false)";

/// `$1` and `$2`: the first and the last number; `$3`: the number of kinds of rows; `$4` and `$5`: how many of these are
/// stale and healthy.
const ROWS: &str = "
    INSERT INTO job_executions (job_id, execution_number, status, started_at, completed_at, payload)
    SELECT n % 1000, n / 1000, CASE WHEN n % $3 >= $3 - $4 - $5 THEN 'running' ELSE 'completed' END,
           CASE WHEN n % $3 BETWEEN $3 - $4 - $5 AND $3 - $4 - 1 THEN now() - interval '30 minutes'
                ELSE now() - interval '4 hours' END + n % 500000 * interval '2 milliseconds',
           CASE WHEN n % $3 < $3 - $4 - $5 THEN now() - interval '2 hours' END, repeat(md5(n::text), 3)
    FROM generate_series($1::bigint, $2) AS n";

const CONTENDERS: [Contender; 5] = [
    Contender::Update,
    Contender::Transaction,
    Contender::Sweep,
    Contender::HeldSweep,
    Contender::UnsecuredSweep,
];

/// Turns row security of the operator's tables on or off, to measure its cost.
fn secured(secured: bool) -> String {
    let how = if secured { "ENABLE" } else { "DISABLE" };
    format!(
        "DO $$ DECLARE own name; BEGIN
             FOR own IN SELECT DISTINCT c.relname FROM pg_class AS c JOIN pg_policy AS p ON p.polrelid = c.oid
                        WHERE c.relnamespace = 'jobexec'::regnamespace LOOP
                 EXECUTE format('ALTER TABLE jobexec.%I {how} ROW LEVEL SECURITY', own);
             END LOOP; END $$"
    )
}

#[derive(Clone, Copy)]
enum Contender {
    /// The least that any sweep has to do.
    Update,
    /// The same work as a sweep, by one statement in one transaction: the baseline.
    Transaction,
    /// The operator's sweep.
    Sweep,
    /// The same while another transaction holds its snapshot, so that dead rows stay in the index.
    HeldSweep,
    /// The operator's sweep without row security on the operator's tables.
    UnsecuredSweep,
}

impl Contender {
    const fn name(self) -> &'static str {
        match self {
            Self::Update => "a  bare UPDATE",
            Self::Transaction => "b  UPDATE … RETURNING into INSERT, one transaction",
            Self::Sweep => "c  the operator's sweep",
            Self::HeldSweep => "d  the same beside an open REPEATABLE READ",
            Self::UnsecuredSweep => "e  the operator's sweep without row security",
        }
    }

    const fn sql(self) -> &'static str {
        match self {
            Self::Transaction => {
                "WITH failed AS (
                     UPDATE job_executions SET status = 'failed', completed_at = now()
                     WHERE status = 'running' AND started_at <= now() - interval '1 hour 5 minutes'
                     RETURNING id, job_id, execution_number, started_at)
                 INSERT INTO jobexec.events (at, store_id, sweep_id, execution_id, job_id, execution_number, action,
                                             reason, source, started_at, deadline)
                 SELECT now(), 1, '00000000-0000-4000-8000-000000000000', id, job_id, execution_number, 'Failed',
                        'DeadlineExceeded', 'ExecutionStore/jobs', started_at,
                        started_at + interval '1 hour 5 minutes' FROM failed"
            }
            Self::Update | Self::Sweep | Self::HeldSweep | Self::UnsecuredSweep => {
                "UPDATE job_executions SET status = 'failed', completed_at = now()
                 WHERE status = 'running' AND started_at <= now() - interval '1 hour 5 minutes'"
            }
        }
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    // `cargo test --benches` runs this too, without the argument; it is not a test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let large = std::env::args().any(|argument| argument == "large");
    let bench = Bench { server: Server::from_env()?, scale: if large { LARGE } else { SMALL } };
    let measured = bench.measure().await;
    bench.server.remove(&DATABASES).await?;
    measured
}

struct Bench {
    server: Server,
    scale: Scale,
}

impl Bench {
    async fn measure(&self) -> Outcome<()> {
        self.server.remove(&DATABASES).await?;
        self.prepare().await?;
        let mut times: [Vec<Duration>; CONTENDERS.len()] = Default::default();
        let Scale { rounds, rows, healthy, .. } = self.scale;
        let stale = self.scale.stale();
        for round in 1..=rounds {
            eprintln!("round {round} of {rounds}");
            for (contender, times) in CONTENDERS.into_iter().zip(&mut times) {
                times.push(self.run(contender).await?);
            }
        }
        let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
        println!(
            "\nPostgres {}, {} stale and {} healthy running rows, {} finished ones",
            self.server.version().await?,
            stale,
            stale * healthy,
            rows - stale * (1 + healthy)
        );
        println!(
            "{:<52}{:>8}{:>16}{:>12}{:>7}{:>7}",
            "median of the rounds", "s", "min..max", "rows/s", "/b", "/a"
        );
        for ((contender, times), time) in CONTENDERS.iter().zip(&times).zip(&medians) {
            let range = format!("{:.2}..{:.2}", seconds(times.first()), seconds(times.last()));
            let (rate, by_b, by_a) = (stale as f64 / time, time / medians[1], time / medians[0]);
            println!("{:<52}{time:>8.3}{range:>16}{rate:>12.0}{by_b:>7.2}{by_a:>7.2}", contender.name());
        }
        if rows == SMALL.rows { self.measure_idle().await } else { Ok(()) }
    }

    /// Sweeps that find nothing to do.
    async fn measure_idle(&self) -> Outcome<()> {
        self.server.copy(TEMPLATE, COPY).await?;
        let mut connection = self.server.connect(COPY).await?;
        connection.execute("UPDATE job_executions SET status = 'completed' WHERE id % 4 = 3").await?;
        println!("\nnothing stale, {} healthy running rows", self.scale.stale());
        for finished in [300_000, 2_000_000] {
            let rows: i64 =
                sqlx::query_scalar("SELECT count(*) FROM job_executions WHERE status <> 'running'")
                    .fetch_one(&mut connection)
                    .await?;
            sqlx::query(ROWS)
                .bind(rows + 1)
                .bind(finished)
                .bind(2_i64)
                .bind(0_i64)
                .bind(0_i64)
                .execute(&mut connection)
                .await?;
            settle(&mut connection).await?;
            connection.execute(AssertSqlSafe(secured(true))).await?;
            let operator = self.operator().await?;
            let mut times = Vec::new();
            for _ in 0..100 {
                let (time, failed) = operator.sweep().await?;
                same("rows failed", failed, 0)?;
                times.push(time);
            }
            let median = median(&mut times) * 1e3;
            let mut looks = Vec::new();
            for _ in 0..100 {
                let (time, pulse) = operator.look().await?;
                same("stale", pulse.stale, 0)?;
                looks.push(time);
            }
            connection.execute(AssertSqlSafe(secured(false))).await?;
            let mut unsecured = Vec::new();
            for _ in 0..100 {
                unsecured.push(operator.look().await?.0);
            }
            operator.database.close().await;
            let (look, unsecured) = (self::median(&mut looks) * 1e3, self::median(&mut unsecured) * 1e3);
            println!(
                "beside {finished:>9} finished rows: a sweep {median:.2} ms, a look for the next deadline {look:.2} ms, \
                 {unsecured:.2} ms without row security (medians of {})",
                times.len()
            );
        }
        Ok(())
    }

    /// Runs one contender on a fresh copy of the template, so that all start from the same bytes on disk.
    async fn run(&self, contender: Contender) -> Outcome<Duration> {
        self.server.copy(TEMPLATE, COPY).await?;
        let mut connection = self.server.connect(COPY).await?;
        settle(&mut connection).await?;
        let stale = self.scale.stale();
        let kinds = self.scale.kinds;
        let others = format!(
            "SELECT sum(hashtext(t::text)) FROM job_executions AS t WHERE id % {kinds} <> {}",
            kinds - 1
        );
        let others = || sqlx::query_scalar::<_, i64>(AssertSqlSafe(others.as_str()));
        let before = others().fetch_one(&mut connection).await?;
        let swept = matches!(contender, Contender::Sweep | Contender::HeldSweep | Contender::UnsecuredSweep);
        let time = if swept {
            let mut holder = self.server.connect(COPY).await?;
            if matches!(contender, Contender::HeldSweep) {
                holder
                    .execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
                    .await?;
            }
            let operator = self.operator().await?;
            if matches!(contender, Contender::UnsecuredSweep) {
                connection.execute(AssertSqlSafe(secured(false))).await?;
            }
            let (time, failed) = operator.sweep().await?;
            operator.database.close().await;
            holder.close().await?;
            same("rows reported", failed, stale)?;
            let tallied = "SELECT sum(failed)::bigint FROM jobexec.sweeps";
            same("rows tallied", sqlx::query_scalar(tallied).fetch_one(&mut connection).await?, stale)?;
            time
        } else {
            let start = Instant::now();
            connection.execute(contender.sql()).await?;
            start.elapsed()
        };
        let failed =
            "SELECT count(*) FROM job_executions WHERE status = 'failed' AND completed_at IS NOT NULL";
        same("rows failed", sqlx::query_scalar(failed).fetch_one(&mut connection).await?, stale)?;
        same("other rows", others().fetch_one(&mut connection).await?, before)?;
        let events = "SELECT count(DISTINCT execution_id) FROM jobexec.events";
        let expected = if let Contender::Update = contender { 0 } else { stale };
        same("events", sqlx::query_scalar(events).fetch_one(&mut connection).await?, expected)?;
        connection.close().await?;
        Ok(time)
    }

    /// Creates the template: the table, and the operator's schema.
    async fn prepare(&self) -> Outcome<()> {
        self.server.execute(format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'")).await?;
        let mut connection = self.server.create(TEMPLATE).await?;
        let scale = self.scale;
        connection.execute(TABLE).await?;
        sqlx::query(ROWS)
            .bind(1_i64)
            .bind(scale.rows)
            .bind(scale.kinds)
            .bind(1_i64)
            .bind(scale.healthy)
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        self.server.apply_schema(TEMPLATE, &Layout::default()).await
    }

    async fn operator(&self) -> Outcome<Operator> {
        Operator::open(&self.server, COPY, &Layout::default(), TimeDelta::hours(1), Vec::new()).await
    }
}
