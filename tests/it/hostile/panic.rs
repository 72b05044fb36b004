//! Real panics: of sqlx with a server that sends nonsense, and with values that chrono cannot hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use jobexec_operator::api::ExecutionStore;
use jobexec_operator::boundary::{Place, caught};
use jobexec_operator::db::{Database, DbError, Ledger, audit, history, messages, outbox, rules, samples};
use serde_json::json;
use sqlx::AssertSqlSafe;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::support::{World, is, message};

/// Responses of a broken server at which sqlx 0.9 panics.
#[derive(Clone, Copy, Debug)]
enum Broken {
    /// A challenge without any attribute.
    Challenge,
    /// An authentication request without a method.
    Authentication,
    /// A message that is shorter than its own length.
    Length,
    /// It lets everybody in, and reports without a state that it is ready for the next statement.
    Ready,
    /// It lets everybody in, and answers with a row that has none of the announced columns.
    Row,
}

const ALL: [Broken; 5] =
    [Broken::Challenge, Broken::Authentication, Broken::Length, Broken::Ready, Broken::Row];

impl Broken {
    /// The reason why its store is not ready. The relay stops all but the last, which only the driver meets.
    const fn reason(self) -> &'static str {
        match self {
            Self::Row => "InternalError",
            _ => "InvalidMessage",
        }
    }
}

fn framed(type_: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[type_][..], &length[..], body].concat()
}

/// Starts a server that is broken in this way. Returns its port, and the number of its clients.
async fn serve(broken: Broken) -> (u16, Arc<AtomicUsize>, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let clients = Arc::new(AtomicUsize::new(0));
    let count = clients.clone();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            // Clients that disconnect are the purpose of this server.
            tokio::spawn(async move { answer(broken, stream).await.ok() });
        }
    });
    (port, clients, AbortOnDropHandle::new(task))
}

async fn answer(broken: Broken, mut stream: TcpStream) -> std::io::Result<()> {
    let mut read = vec![0; 16_384];
    if stream.read(&mut read).await? == 0 {
        return Ok(());
    }
    let sasl = [&10_u32.to_be_bytes()[..], b"SCRAM-SHA-256\0\0"].concat();
    match broken {
        Broken::Challenge => {
            stream.write_all(&framed(b'R', &sasl)).await?;
            let _ = stream.read(&mut read).await?;
            stream.write_all(&framed(b'R', &[&11_u32.to_be_bytes()[..], b",,"].concat())).await?;
        }
        Broken::Authentication => stream.write_all(&framed(b'R', b"")).await?,
        Broken::Length => stream.write_all(b"R\0\0\0\0aaaa").await?,
        Broken::Ready => {
            let in_order =
                [framed(b'R', &[0; 4]), framed(b'K', &[1, 2, 3, 4, 5, 6, 7, 8]), framed(b'Z', b"I")];
            stream.write_all(&in_order.concat()).await?;
            let _ = stream.read(&mut read).await?;
            stream.write_all(&framed(b'Z', b"")).await?;
        }
        Broken::Row => return statements(&mut stream).await,
    }
    // Until the client disconnects.
    while stream.read(&mut read).await? > 0 {}
    Ok(())
}

/// Lets a client in and answers its statements in the extended protocol with a row without values, until it disconnects.
async fn statements(stream: &mut TcpStream) -> std::io::Result<()> {
    let in_order = [framed(b'R', &[0; 4]), framed(b'K', &[1, 2, 3, 4, 5, 6, 7, 8]), framed(b'Z', b"I")];
    stream.write_all(&in_order.concat()).await?;
    let column = |name: &str, oid: u32| {
        let fixed = [&[0; 6][..], &oid.to_be_bytes(), &[0, 0], &[0xff; 4], &[0, 1]].concat();
        [name.as_bytes(), b"\0", &fixed[..]].concat()
    };
    let columns = [&[0, 3][..], &column("a", 25), &column("b", 16), &column("c", 16)].concat();
    let parameters = [&[0, 1][..], &25_u32.to_be_bytes()].concat();
    let mut bound = false;
    loop {
        let kind = stream.read_u8().await?;
        let length = usize::try_from(stream.read_u32().await?).unwrap();
        stream.read_exact(&mut vec![0; length.saturating_sub(4)]).await?;
        let answer = match kind {
            b'Q' => vec![framed(b'C', b"BEGIN\0"), framed(b'Z', b"T")],
            b'S' if bound => vec![
                framed(b'2', b""),
                framed(b'D', &[0, 0]),
                framed(b'C', b"SELECT 1\0"),
                framed(b'Z', b"T"),
            ],
            b'S' => {
                vec![framed(b'1', b""), framed(b't', &parameters), framed(b'T', &columns), framed(b'Z', b"T")]
            }
            b'X' => return Ok(()),
            _ => Vec::new(),
        };
        bound = kind == b'B' || (bound && kind != b'S');
        stream.write_all(&answer.concat()).await?;
    }
}

/// Parts of the texts of these panics.
const TEXTS: [&str; 4] = ["out of bounds", "cannot advance", "advance out", "range start index"];

#[tokio::test]
async fn a_broken_server_ends_neither_the_process_nor_the_work_on_other_stores() {
    let world = World::new("broken").await;
    let mut servers = Vec::new();
    for (n, broken) in ALL.into_iter().enumerate() {
        let (port, clients, task) = serve(broken).await;
        let url = format!("postgres://u:p@127.0.0.1:{port}/d?sslmode=disable");
        world.secret(&format!("broken{n}"), json!({"uri": url})).await;
        let spec = json!({"connection": {"secretRef": {"name": format!("broken{n}")}}});
        let name = format!("broken{n}");
        world.apply::<ExecutionStore>(&name, World::store_with(&name, spec)).await.unwrap();
        servers.push((name, broken, clients, task));
    }
    world.store(json!({})).await;
    for round in 1..=2 {
        // After a restart the operator meets all of them again, as a new Pod would.
        let operator = world.operator();
        for (name, broken, clients, _) in &servers {
            let status = world
                .store_named_until(&operator, name, |s| is(&s.conditions, "Ready", "False", broken.reason()))
                .await;
            let text = message(&status.conditions, "Ready");
            assert_eq!(text.contains("operator's log"), broken.reason() == "InternalError", "{text}");
            // It is tried again without a change.
            let before = clients.load(Ordering::Relaxed);
            let deadline = tokio::time::Instant::now() + crate::support::PATIENCE;
            while clients.load(Ordering::Relaxed) <= before {
                assert!(
                    tokio::time::Instant::now() < deadline,
                    "{name} was not tried again\n{}",
                    operator.log()
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        world
            .sql(&format!(
                "INSERT INTO job_executions VALUES ({round}, 1, {round}, 'running', now() - interval '24 hours' + interval '1 s')"
            ))
            .await;
        world.until_true(&format!("SELECT status = 'failed' FROM job_executions WHERE id = {round}")).await;
        let log = operator.own_log();
        assert!(log.contains("panic: ") && log.contains("sqlx-postgres-0.9"), "{log}");
        assert!(!TEXTS.iter().any(|text| log.contains(text)), "the text of a panic is logged\n{log}");
        assert!(!log.contains("/registry/src/"), "a folder of who compiled it is logged\n{log}");
        assert!(operator.stop().success());
    }
}

#[tokio::test]
async fn a_connection_on_which_something_panicked_is_closed_and_never_used_again() {
    let world = World::new("panicked").await;
    let options: sqlx::postgres::PgConnectOptions = world.superuser().parse().unwrap();
    let database = Database::connect(options, 1, Duration::from_secs(30)).await.unwrap();
    let pid = async |database: &Database| {
        let mut tx = database.read().await.unwrap();
        let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        pid
    };
    let first = pid(&database).await;
    assert_eq!(pid(&database).await, first, "there is one connection");
    let work = async {
        let mut tx = database.write().await?;
        sqlx::raw_sql("INSERT INTO public.job_executions VALUES (1, 1, 1, 'running', now())")
            .execute(&mut *tx)
            .await?;
        // The test does not decode it as the operator decodes its values.
        let _: DateTime<Utc> =
            sqlx::query_scalar("SELECT timestamptz 'infinity'").fetch_one(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    };
    let outcome = database.within(work).await;
    assert!(matches!(outcome, Err(DbError::Internal)), "{outcome:?}");
    let second = pid(&database).await;
    assert_ne!(second, first, "the connection is used again");
    world.until_true(&format!("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {first})")).await;
    assert_eq!(world.one::<i64>("SELECT count(*) FROM job_executions").await, 0, "it was not rolled back");

    // The same beyond a boundary, in a task of its own.
    let shared = database.clone();
    let task = tokio::spawn(caught(Place::Background, async move {
        let _tx = shared.write().await.unwrap();
        panic!("in the middle of a transaction");
    }));
    let outcome: Result<(), _> = task.await.unwrap();
    assert!(outcome.is_err());
    assert_ne!(pid(&database).await, second);
    world.until_true(&format!("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {second})")).await;

    // A transaction that is only dropped is rolled back, and its connection is used again.
    let third = pid(&database).await;
    drop(database.write().await.unwrap());
    assert_eq!(pid(&database).await, third);
    database.close().await;
}

/// Values that are valid for the type of a column and that nobody expects.
fn hostile(type_: &str) -> &'static [&'static str] {
    match type_ {
        "timestamp with time zone" => &[
            "'infinity'",
            "'-infinity'",
            "'294276-12-31 23:59:59'",
            "'4714-11-24 00:00:00+00 BC'",
            "'9999-12-31 23:59:59'",
            "NULL",
        ],
        "interval" => &["'178000000 years'", "'-178000000 years'", "'-2147483648 days'", "NULL"],
        "integer" => &["2147483647", "-2147483648", "NULL"],
        "smallint" => &["32767", "-32768", "NULL"],
        "bigint" => &["9223372036854775807", "-9223372036854775808", "NULL"],
        "text" => &["''", "repeat('x', 100000)", "E'\\x01\\x1b[31m\\n'", "'{\"a\":1}'", "NULL"],
        "jsonb" => &[
            "'null'",
            "'[]'",
            "'{}'",
            "'\"x\"'",
            "'1e308'",
            "(repeat('[', 500) || repeat(']', 500))::jsonb",
            "'[{\"samples\": -1, \"quantile\": 1e308, \"timeout\": -1e308}]'",
        ],
        "boolean" => &["true", "false", "NULL"],
        "ARRAY" => &["'{}'", "NULL"],
        _ => &[],
    }
}

/// The columns of the operator's tables with their types, except for those that join the tables.
async fn columns(world: &World) -> Vec<(String, String, String)> {
    sqlx::query_as(AssertSqlSafe(
        "SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns
         WHERE table_schema = 'jobexec' AND table_name NOT LIKE '%migrations%' AND column_name NOT IN ('store_id', 'event_id')
         ORDER BY 1, 2",
    ))
    .fetch_all(&world.pool)
    .await
    .unwrap()
}

/// Inserts a row into each of the operator's tables, for the store with this id.
async fn fill(world: &World, store: i64) {
    world
        .sql(&format!(
            "INSERT INTO jobexec.events (at, store_id, execution_id, job_id, action, reason, source, started_at, deadline)
                 VALUES (now(), {store}, '1', '1', 'Failed', 'DeadlineExceeded', 's', now(), now());
             INSERT INTO jobexec.figures VALUES ({store}, 'u', 'p', 1, now(), '[]') ON CONFLICT DO NOTHING;
             INSERT INTO jobexec.suspects VALUES ({store}, 'JobFinished', '1', now(), now(), true) ON CONFLICT DO NOTHING;
             INSERT INTO jobexec.sweeps VALUES (gen_random_uuid(), {store}, 'Interval', now(), 1);
             INSERT INTO jobexec.samples VALUES ({store}, now(), 1, 1, 1, 1, 1) ON CONFLICT DO NOTHING;
             INSERT INTO jobexec.outbox (store_id, at, event_ids) VALUES ({store}, now(), '{{1}}');
             INSERT INTO jobexec.messages (message_id, store_id, channel, recipient, message, created_at, attempts, next_attempt_at)
                 VALUES (gen_random_uuid(), {store}, 'c', '', '{{}}', now(), 0, now())"
        ))
        .await;
}

/// Makes every column nullable, unless something else forbids it.
async fn let_be_null(world: &World, columns: &[(String, String, String)]) {
    for (table, column, _) in columns {
        let sql = format!("ALTER TABLE jobexec.{table} ALTER COLUMN {column} DROP NOT NULL");
        // Keys stay as they are.
        let _ = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&world.pool).await;
    }
}

/// Every read of the operator's own tables returns a value or an error, whatever they contain.
#[tokio::test]
async fn no_value_in_the_operators_own_tables_panics() {
    let world = World::new("ownvalues").await;
    world
        .sql("INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name) VALUES ('jobexec.stores'::regclass, 'job_executions'::regclass, 'public', 'job_executions')")
        .await;
    let options: sqlx::postgres::PgConnectOptions = world.superuser().parse().unwrap();
    let database = Database::connect(options, 2, Duration::from_secs(30)).await.unwrap();
    let columns = columns(&world).await;
    let_be_null(&world, &columns).await;
    let ledger = Ledger::Tables { store_id: 1, outbox: true };
    for (table, column, type_) in &columns {
        for value in hostile(type_) {
            fill(&world, 1).await;
            let sql = format!("UPDATE jobexec.{table} SET {column} = {value}");
            if sqlx::raw_sql(AssertSqlSafe(sql.as_str())).execute(&world.pool).await.is_err() {
                continue;
            }
            let day = chrono::TimeDelta::days(1);
            let outcomes = [
                database.within(history::load(&database, &ledger)).await.map(|all| {
                    for computed in all.values().flat_map(|figures| &figures.computed) {
                        let _ = (computed.timeout(), computed.quantile());
                    }
                }),
                database.within(rules::stored(&database, 1, "s")).await.map(|_| ()),
                database.within(audit::history(&database, 1, &audit::Filter::default(), 9)).await.map(|_| ()),
                database
                    .within(samples::since(&database, 1, day, chrono::TimeDelta::minutes(1)))
                    .await
                    .map(|_| ()),
                database.within(messages::pending(&database, 1, &[])).await.map(|_| ()),
                database.within(messages::take(&database, 1, &[])).await.map(|_| ()),
                database.within(messages::give_up_old(&database, 1, day, &[])).await.map(|_| ()),
                database.within(messages::expire(&database, 1)).await,
                database.within(messages::forget(&database, 1, day)).await.map(|_| ()),
                database.within(outbox::recover(&database, 1, Utc::now())).await.map(|_| ()),
            ];
            for (n, outcome) in outcomes.into_iter().enumerate() {
                assert!(!matches!(outcome, Err(DbError::Internal)), "reading {n} panics after {sql}");
            }
            world.sql("TRUNCATE jobexec.events, jobexec.figures, jobexec.suspects, jobexec.sweeps, jobexec.samples, jobexec.outbox, jobexec.messages, jobexec.rules").await;
        }
    }
}

/// The same at each start of the operator and while it runs: it may report that it cannot read them, but ends neither
/// itself nor live executions.
#[tokio::test]
async fn whatever_the_operators_own_tables_hold_nothing_alive_is_ended_and_other_stores_go_on() {
    let world = World::new("ownrows").await;
    let mut operator = world.operator();
    world.tables(1, json!({})).await;
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now())").await;
    world.store_named_until(&operator, "s0", |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    let columns = columns(&world).await;
    let store: i64 =
        world.one("SELECT store_id FROM jobexec.stores WHERE table_name = 'job_executions'").await;
    let mut id = 10;
    let most = columns.iter().map(|(_, _, type_)| hostile(type_).len()).max().unwrap();
    for n in 0..most {
        fill(&world, store).await;
        // All values of this rank at once, table by table: values that cannot be written are skipped.
        for (table, column, type_) in &columns {
            // A claim of somebody else is valid, and its holder may do anything.
            if table == "stores" && !type_.starts_with("timestamp") {
                continue;
            }
            let Some(value) = hostile(type_).get(n) else { continue };
            let sql = format!("UPDATE jobexec.{table} SET {column} = {value} WHERE store_id = {store}");
            let _ = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&world.pool).await;
        }
        world.annotate("jobexec.dev/sweep-requested", &n.to_string()).await;
        // All of it is read at a start, as by a Pod that replaces another one.
        assert!(operator.stop().success(), "round {n}");
        operator = world.operator();
        // The other store meets deadlines meanwhile, more than once.
        for _ in 0..2 {
            id += 1;
            world.overdue(1, id).await;
            world.until_true(&format!("SELECT status = 'failed' FROM t0 WHERE id = {id}")).await;
        }
        assert_eq!(world.status(1).await, "running", "round {n}");
    }
    // After a repair it recovers without help.
    world
        .sql(&format!(
            "DELETE FROM jobexec.rules WHERE store_id = {store}; DELETE FROM jobexec.figures WHERE store_id = {store};
             UPDATE jobexec.stores SET seen_at = now(), watched_since = now(), paused_at = NULL, paused_why = NULL, told_at = NULL,
                    unwell_since = NULL WHERE store_id = {store}"
        ))
        .await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    assert_eq!(world.status(1).await, "running");
    assert!(operator.stop().success());
}
