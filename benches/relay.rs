//! The cost of the relay before sqlx: the same statements through it and directly, with TLS and without.
//! `make bench ARGS='--bench relay'`, docs/performance.md.

use std::error::Error;
use std::time::{Duration, Instant};

use jobexec_operator::db::{Database, url};
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnection;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The number of measurements of each, in turn.
const ROUNDS: usize = 7;

/// Statements one after the other.
const STATEMENTS: usize = 2_000;

/// Rows of one statement, of about 100 bytes each.
const ROWS: i64 = 100_000;

/// Logins.
const LOGINS: usize = 20;

const TIMEOUT: Duration = Duration::from_mins(1);

/// The measured work.
const WORK: [&str; 3] =
    ["2,000 statements, each a round trip", "100,000 rows of 100 bytes", "20 logins (SCRAM)"];

#[tokio::main]
async fn main() -> Outcome<()> {
    // `cargo test --benches` runs this too, without the argument; it is not a test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let uri = std::env::var("DATABASE_URL")
        .map_err(|_| "DATABASE_URL is not set: use `make bench`, which brings a throwaway Postgres")?;
    println!(
        "| what | TLS | straight, ms | through the relay, ms | ratio |\n| --- | --- | --- | --- | --- |"
    );
    for tls in ["require", "disable"] {
        let uri = uri.replace("sslmode=require", &format!("sslmode={tls}"));
        let (mut straight, mut relayed) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
        for _ in 0..ROUNDS {
            let mut connection = url::parse(&uri, None)?.connect().await?;
            for (times, time) in straight.iter_mut().zip([
                statements(&mut connection).await?,
                rows(&mut connection).await?,
                logins(&uri, false).await?,
            ]) {
                times.push(time);
            }
            let database = Database::connect(url::login(&uri, None)?, 1, TIMEOUT).await?;
            let mut transaction = database.read().await?;
            for (times, time) in relayed.iter_mut().zip([
                statements(&mut transaction).await?,
                rows(&mut transaction).await?,
                logins(&uri, true).await?,
            ]) {
                times.push(time);
            }
            transaction.rollback().await?;
            database.close().await;
        }
        for ((what, straight), relayed) in WORK.iter().zip(&mut straight).zip(&mut relayed) {
            let (straight, relayed) = (median(straight), median(relayed));
            println!("| {what} | {tls} | {straight:.1} | {relayed:.1} | {:.2} |", relayed / straight);
        }
    }
    Ok(())
}

/// The median, in milliseconds.
fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times.get(times.len() / 2).map_or(0.0, Duration::as_secs_f64) * 1_000.0
}

async fn statements(connection: &mut PgConnection) -> Outcome<Duration> {
    let start = Instant::now();
    for _ in 0..STATEMENTS {
        sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(&mut *connection).await?;
    }
    Ok(start.elapsed())
}

async fn rows(connection: &mut PgConnection) -> Outcome<Duration> {
    let start = Instant::now();
    let query = sqlx::query("SELECT n, repeat('x', 80) FROM generate_series(1, $1) n").bind(ROWS);
    let rows = query.fetch_all(connection).await?;
    if i64::try_from(rows.len())? == ROWS { Ok(start.elapsed()) } else { Err("rows are missing".into()) }
}

async fn logins(uri: &str, relayed: bool) -> Outcome<Duration> {
    let start = Instant::now();
    for _ in 0..LOGINS {
        if relayed {
            Database::connect(url::login(uri, None)?, 1, TIMEOUT).await?.close().await;
        } else {
            sqlx::Connection::close(url::parse(uri, None)?.connect().await?).await?;
        }
    }
    Ok(start.elapsed())
}
