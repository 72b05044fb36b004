//! The time of a sweep whose end a trigger completes, and of a look with the heartbeats of workers: `make bench`,
//! docs/performance.md. The argument `sweep` or `look` selects one: `make bench ARGS='--bench any_table -- look'`.

mod support;

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use jobexec_operator::api::Table;
use jobexec_operator::api::retry::{RetryMethod, TableRetry};
use jobexec_operator::api::store::WorkerHeartbeat;
use jobexec_operator::db::heartbeats::{self, Watch};
use jobexec_operator::db::{Layout, observe};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use support::{Operator, Outcome, ROLE, Server, median, same, seconds, settle};

/// Each contender runs once a round, so that a slow minute of the machine hits all of them.
const ROUNDS: usize = 7;
const LOOKS: usize = 25;

const STALE: i64 = 60_000;
const RUNNING: i64 = 100_000;
const WORKERS: i64 = 500;

const TEMPLATE: &str = "jobexec_bench_template";
const COPY: &str = "jobexec_bench";
const DATABASES: [&str; 2] = [COPY, TEMPLATE];

/// Stale executions, each with one running step, and as many finished ones.
const TABLES: &str = "
    CREATE TABLE job_executions (
        id bigint PRIMARY KEY, job_id bigint NOT NULL, execution_number bigint NOT NULL, status text NOT NULL,
        started_at timestamptz, completed_at timestamptz, version integer NOT NULL DEFAULT 0, exit_code text
    ) WITH (autovacuum_enabled = false);
    CREATE TABLE steps (
        id bigint PRIMARY KEY, execution_id bigint NOT NULL, status text NOT NULL, ended_at timestamptz,
        version integer NOT NULL DEFAULT 0
    ) WITH (autovacuum_enabled = false);
    INSERT INTO job_executions (id, job_id, execution_number, status, started_at, completed_at)
    SELECT n, n % 1000, n / 1000, CASE WHEN n % 2 = 0 THEN 'running' ELSE 'completed' END, now() - interval '4 hours',
           CASE WHEN n % 2 = 1 THEN now() - interval '2 hours' END
    FROM generate_series(1, 120000) AS n;
    INSERT INTO steps (id, execution_id, status) SELECT id, id, status FROM job_executions;
    CREATE INDEX ON steps (execution_id)";

/// What a job system writes beside the three columns.
const COMPLETE: &str = "
    CREATE FUNCTION complete() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN
        NEW.version := OLD.version + 1;
        NEW.exit_code := pg_catalog.current_setting('jobexec.ending', true);
        RETURN NEW; END $$;
    CREATE TRIGGER complete BEFORE UPDATE OF status ON job_executions FOR EACH ROW
        WHEN (OLD.status = 'running' AND NEW.status = 'failed' AND current_setting('jobexec.ending', true) <> '')
        EXECUTE FUNCTION complete()";

const STEPS: &str = "
    CREATE FUNCTION end_steps() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN
        UPDATE public.steps AS step SET status = 'failed', ended_at = pg_catalog.now(), version = step.version + 1
        FROM ended WHERE step.execution_id = ended.id AND ended.status = 'failed' AND step.status = 'running';
        RETURN NULL; END $$;
    CREATE TRIGGER end_steps AFTER UPDATE ON job_executions REFERENCING NEW TABLE AS ended FOR EACH STATEMENT
        EXECUTE FUNCTION end_steps()";

const VIEW: &str = "
    CREATE VIEW runs AS SELECT id, job_id, execution_number, status, started_at, completed_at FROM job_executions;
    CREATE FUNCTION end_run() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN
        UPDATE public.job_executions AS execution
        SET status = NEW.status, completed_at = NEW.completed_at, version = execution.version + 1
        WHERE execution.id = OLD.id AND execution.status = 'running';
        IF NOT FOUND THEN RETURN NULL; END IF;
        UPDATE public.steps AS step SET status = 'failed', ended_at = pg_catalog.now(), version = step.version + 1
        WHERE step.execution_id = OLD.id AND step.status = 'running';
        RETURN NEW; END $$;
    CREATE TRIGGER end_run INSTEAD OF UPDATE ON runs FOR EACH ROW EXECUTE FUNCTION end_run()";

#[derive(Clone, Copy)]
enum Contender {
    /// The baseline.
    Bare,
    Completed,
    WithSteps,
    Retried,
    View,
}

const CONTENDERS: [Contender; 5] =
    [Contender::Bare, Contender::Completed, Contender::WithSteps, Contender::Retried, Contender::View];

impl Contender {
    const fn name(self) -> &'static str {
        match self {
            Self::Bare => "a  the table alone",
            Self::Completed => "b  a trigger completes the row",
            Self::WithSteps => "c  b, and a statement trigger ends child rows",
            Self::Retried => "d  a trigger turns the failure into a retry",
            Self::View => "e  a view whose trigger ends both, row by row",
        }
    }

    fn triggers(self) -> String {
        match self {
            Self::Bare => "SELECT 1".to_owned(),
            Self::Completed => COMPLETE.to_owned(),
            Self::WithSteps => format!("{COMPLETE}; {STEPS}"),
            Self::Retried => COMPLETE.replace(
                "RETURN NEW;",
                "NEW.status := 'scheduled'; NEW.completed_at := NULL; NEW.started_at := NULL; RETURN NEW;",
            ),
            Self::View => format!("{VIEW}; GRANT SELECT, UPDATE ON runs TO {ROLE}"),
        }
    }

    fn layout(self) -> Layout {
        let mut table = Table::default();
        match self {
            Self::View => {
                table.name = "runs".into();
                table.id_unique = true;
            }
            Self::Retried => {
                table.retry = Some(TableRetry { method: RetryMethod::Trigger, copy_columns: Vec::new() });
            }
            Self::Bare | Self::Completed | Self::WithSteps => {}
        }
        Layout { table, ..Layout::default() }
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let asked = |what: &str| std::env::args().any(|argument| argument == what);
    // `cargo test --benches` runs this too, without the argument; it is not a test.
    if !asked("--bench") {
        return Ok(());
    }
    let server = Server::from_env()?;
    let measured = async {
        if !asked("look") {
            sweeps(&server).await?;
        }
        if !asked("sweep") {
            looks(&server).await?;
        }
        Ok(())
    };
    let measured = measured.await;
    server.remove(&DATABASES).await?;
    measured
}

/// Prepares the template from these statements, with the operator's schema.
async fn prepare(server: &Server, tables: &str) -> Outcome<()> {
    server.remove(&DATABASES).await?;
    server.execute(format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'")).await?;
    let mut connection = server.create(TEMPLATE).await?;
    connection.execute(AssertSqlSafe(tables)).await?;
    connection.close().await?;
    server.apply_schema(TEMPLATE, &Layout::default()).await
}

async fn sweeps(server: &Server) -> Outcome<()> {
    prepare(server, TABLES).await?;
    let mut times: [Vec<Duration>; CONTENDERS.len()] = Default::default();
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        for (contender, times) in CONTENDERS.into_iter().zip(&mut times) {
            times.push(sweep(server, contender).await?);
        }
    }
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    println!("\nPostgres {}, a sweep of {STALE} stale rows", server.version().await?);
    println!("{:<52}{:>8}{:>16}{:>12}{:>7}", "median of the rounds", "s", "min..max", "rows/s", "/a");
    for ((contender, times), time) in CONTENDERS.iter().zip(&times).zip(&medians) {
        let range = format!("{:.2}..{:.2}", seconds(times.first()), seconds(times.last()));
        println!(
            "{:<52}{time:>8.3}{range:>16}{:>12.0}{:>7.2}",
            contender.name(),
            STALE as f64 / time,
            time / medians[0]
        );
    }
    Ok(())
}

/// Sweeps a fresh copy of the template, so that all contenders start from the same bytes on disk.
async fn sweep(server: &Server, contender: Contender) -> Outcome<Duration> {
    server.copy(TEMPLATE, COPY).await?;
    let mut connection = server.connect(COPY).await?;
    connection.execute(AssertSqlSafe(contender.triggers())).await?;
    connection.execute("VACUUM ANALYZE steps").await?;
    settle(&mut connection).await?;
    let operator = Operator::open(server, COPY, &contender.layout(), TimeDelta::hours(1), Vec::new()).await?;
    let operator = if let Contender::Retried = contender { operator.retrying() } else { operator };
    let (time, ended) = operator.sweep().await?;
    operator.database.close().await;
    same("rows ended", ended, STALE)?;
    let wanted = match contender {
        Contender::Bare => "status = 'failed'",
        Contender::Completed => "status = 'failed' AND version = 1 AND exit_code = 'Fail'",
        Contender::WithSteps | Contender::View => {
            "status = 'failed' AND version = 1 AND (SELECT status FROM steps WHERE execution_id = t.id) = 'failed'"
        }
        Contender::Retried => "status = 'scheduled' AND version = 1 AND exit_code = 'Retry'",
    };
    let count = format!("SELECT count(*) FROM job_executions AS t WHERE {wanted}");
    let found = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut connection).await?;
    same("rows as wanted", found, STALE)?;
    connection.close().await?;
    Ok(time)
}

/// Running executions, none of them stale, of workers that all send heartbeats.
fn running() -> String {
    format!(
        "CREATE TABLE job_executions (
             id bigint PRIMARY KEY, job_id bigint NOT NULL, execution_number bigint NOT NULL, status text NOT NULL,
             started_at timestamptz, completed_at timestamptz, worker_id bigint
         );
         CREATE TABLE workers (id bigint PRIMARY KEY, seen timestamptz);
         INSERT INTO workers SELECT n, now() + interval '1 hour' FROM generate_series(0, {WORKERS} - 1) AS n;
         INSERT INTO job_executions
         SELECT n, n % 1000, n / 1000, 'running', now() - n * interval '10 ms', NULL, n % {WORKERS}
         FROM generate_series(1, {RUNNING}) AS n;
         ANALYZE workers"
    )
}

async fn looks(server: &Server) -> Outcome<()> {
    prepare(server, &running()).await?;
    server.copy(TEMPLATE, COPY).await?;
    let of_workers = Layout {
        heartbeat: Some(WorkerHeartbeat {
            schema: "public".into(),
            table: "workers".into(),
            key: "id".into(),
            by: "worker_id".into(),
            at: "seen".into(),
        }),
        ..Layout::default()
    };
    server.apply_schema(COPY, &of_workers).await?;
    settle(&mut server.connect(COPY).await?).await?;
    let open = async |layout| Operator::open(server, COPY, layout, TimeDelta::hours(24), Vec::new()).await;
    let without_workers = Layout::default();
    let plain = open(&without_workers).await?;
    let with_workers = open(&of_workers).await?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let mut watches = [Watch::default(); 2];
    for _ in 0..LOOKS {
        without.push(look(&plain, &mut watches[0]).await?);
        with.push(look(&with_workers, &mut watches[1]).await?);
    }
    plain.database.close().await;
    with_workers.database.close().await;
    let (without, with) = (median(&mut without) * 1e3, median(&mut with) * 1e3);
    println!(
        "\na look at {RUNNING} running rows: {without:.1} ms; with the heartbeats of {WORKERS} workers: {with:.1} ms, {:.2} times \
         (medians of {LOOKS})",
        with / without
    );
    Ok(())
}

/// Measures one look as a poll takes it: for deadlines and for all evidence, with the check whether heartbeats have to be held.
async fn look(operator: &Operator, watch: &mut Watch) -> Outcome<Duration> {
    let start = Instant::now();
    let predicate = operator.predicate();
    heartbeats::update(&operator.database, &predicate, watch, TimeDelta::seconds(30)).await?;
    operator.look().await?;
    let live = observe::live(&operator.database, &predicate).await?;
    let time = start.elapsed();
    same("running", live.running, RUNNING)?;
    same("stale", live.stale, 0)?;
    Ok(time)
}
