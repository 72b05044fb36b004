//! The HTTPS API under load: requests a second for the health, compared with a bare axum handler behind the same TLS that
//! returns a constant of the same size; the load on the database, the age of the counts, and the memory. Then the memory
//! of clean-ups of several large stores at once.
//! Run with `make bench ARGS='--bench api'`; see docs/performance.md. `BENCH_SECONDS` is how long each contender runs in
//! a round.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it stands on the support of the tests"
)]

#[allow(dead_code, unused_imports, reason = "the tests use more of it")]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::{Value, json};
use support::{World, rbac};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Connections that send one request after the other.
const CLIENTS: usize = 32;

/// The number of measurements of each contender, in turn.
const ROUNDS: usize = 3;

/// The seconds of a measurement, unless `BENCH_SECONDS` is set.
const SECONDS: u64 = 15;

/// Running executions.
const RUNNING: i64 = 100_000;

const HEALTH: &str = "/api/system/health";

/// Set for the process that serves a constant: the folder of the certificate and of the constant.
const BARE: &str = "JOBEXEC_BENCH_BARE";

#[tokio::main]
async fn main() {
    if let Ok(folder) = std::env::var(BARE) {
        return bare(&folder).await;
    }
    // `cargo test --benches` runs this too, without the argument; it is not a test.
    if std::env::args().any(|argument| argument == "--bench") {
        Box::pin(health()).await;
        Box::pin(clean_ups()).await;
    }
}

/// Reads and cleans up three stores at once, without keeping the rows.
async fn clean_ups() {
    const CLEANUP: &str = "/api/system/cleanup/stale-executions";
    let world = World::new("cleanups").await;
    let (operator, https) = world.serving(&[("RUST_LOG", "info")]).await;
    let rows = 50_000;
    let admin = world.large_stores(&https, rows).await;
    let before = operator.memory("VmHWM");
    for path in [format!("{CLEANUP}?dry_run=true"), CLEANUP.to_owned()] {
        let (status, report) = admin.post(&path).await;
        assert_eq!((status, &report["cleaned"]), (200, &json!(3 * rows)), "{:#}", report["unavailable"]);
        let most = operator.memory("VmHWM");
        println!(
            "POST {path}, three stores of {rows} rows: {before:.1} MiB before, {most:.1} MiB at the most"
        );
    }
    assert!(operator.stop().success());
}

async fn health() {
    let seconds = std::env::var("BENCH_SECONDS").map_or(SECONDS, |text| text.parse().unwrap());
    let period = Duration::from_secs(seconds);
    let world = World::new("health").await;
    world
        .sql(&format!(
            "INSERT INTO job_executions SELECT n, n % 1000, n, 'running', now() - interval '5 minutes' \
             FROM generate_series(1, {RUNNING}) n; ANALYZE job_executions"
        ))
        .await;
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = world.file("tls.crt", &pair.cert.pem());
    let key = world.file("tls.key", &pair.signing_key.serialize_pem());
    // The default log level.
    let env = [("RUST_LOG", "info"), ("TLS_CERT_FILE", &certificate), ("TLS_KEY_FILE", &key)];
    let (operator, https) = world.serving(&env).await;
    world.store(json!({})).await;
    let token = world.token("jobexec-reader").await;
    let subject = json!({"kind": "ServiceAccount", "name": "jobexec-reader", "namespace": world.namespace});
    rbac::bind(&world.client, None, "jobexec-health", subject).await;
    let counted = |health: &Value| health["metrics"]["running_executions"] == RUNNING;
    let answer = https.with(&token).until(HEALTH, |_, health| counted(health)).await;
    let before = operator.memory("VmRSS");

    let tls = trusting(&certificate);
    let to = |address: &str| Target { address: address.to_owned(), token: token.clone(), tls: tls.clone() };
    world.file("constant", &answer.to_string());
    let bare = Bare::start(certificate.trim_end_matches("/tls.crt"));
    let targets = [to(https.address()), to(&bare.address)];
    // By then, all earlier transactions are counted: servers add up the statistics of a session once it has been idle for
    // a while.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let idle = Transactions::from_now(&world).await;
    tokio::time::sleep(period).await;
    let idle = idle.a_second(&world).await;
    let busy = Transactions::from_now(&world).await;
    let age = tokio::spawn(oldest(targets[0].clone(), period * u32::try_from(2 * ROUNDS).unwrap()));
    let mut rates = [Vec::new(), Vec::new()];
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}, {} s each", period.as_secs());
        for (target, rates) in targets.iter().zip(&mut rates) {
            rates.push(load(target, period).await);
        }
    }
    let busy = busy.a_second(&world).await;
    let [ours, theirs] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!("\n{CLIENTS} connections from this machine, whose cores the clients share; medians of {ROUNDS}");
    println!("GET {HEALTH}: {ours:.0} requests/s");
    println!("a bare axum handler, a constant of {} bytes: {theirs:.0} requests/s", answer.to_string().len());
    println!("the operator's to the bare handler's: {:.2}", ours / theirs);
    println!("transactions of the database meanwhile: {busy:.2} a second, {idle:.2} without requests");
    println!("the oldest figures told, pollInterval 15s: {:.1} s", age.await.unwrap().as_seconds_f64());
    let (rss, peak) = (operator.memory("VmRSS"), operator.memory("VmHWM"));
    println!("memory: {before:.1} MiB before, {rss:.1} MiB after, {peak:.1} MiB at the most");
    println!("the bare handler's: {:.1} MiB", bare.memory());
    assert!(operator.stop().success());
}

/// The transactions of a database from a moment on.
struct Transactions {
    begun: Instant,
    before: i64,
}

impl Transactions {
    async fn from_now(world: &World) -> Self {
        Self { begun: Instant::now(), before: Self::committed(world).await }
    }

    async fn a_second(&self, world: &World) -> f64 {
        // The first of the two queries is a transaction too.
        (Self::committed(world).await - self.before - 1) as f64 / self.begun.elapsed().as_secs_f64()
    }

    async fn committed(world: &World) -> i64 {
        world.one("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()").await
    }
}

/// The server to send requests to, and the credentials.
#[derive(Clone)]
struct Target {
    address: String,
    token: String,
    tls: TlsConnector,
}

impl Target {
    async fn connect(&self) -> SendRequest<Empty<Bytes>> {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let stream = self.tls.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn ask(&self, sender: &mut SendRequest<Empty<Bytes>>) -> Bytes {
        let request = Request::get(HEALTH)
            .header("host", &self.address)
            .header("authorization", format!("Bearer {}", self.token))
            .body(Empty::new())
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.unwrap().to_bytes()
    }
}

/// Sends requests over all connections at once, and returns the number of responses a second.
async fn load(target: &Target, period: Duration) -> f64 {
    let answers = Arc::new(AtomicUsize::new(0));
    let mut connected = Vec::new();
    for _ in 0..CLIENTS {
        connected.push(target.connect().await);
    }
    let begun = Instant::now();
    let clients: Vec<_> = connected
        .into_iter()
        .map(|mut sender| {
            let (target, answers) = (target.clone(), answers.clone());
            tokio::spawn(async move {
                while begun.elapsed() < period {
                    target.ask(&mut sender).await;
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    answers.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

/// Returns the age of the oldest counts that were served within a time.
async fn oldest(target: Target, period: Duration) -> TimeDelta {
    let (mut sender, begun, mut oldest) = (target.connect().await, Instant::now(), TimeDelta::zero());
    while begun.elapsed() < period {
        let health: Value = serde_json::from_slice(&target.ask(&mut sender).await).unwrap();
        let taken: DateTime<Utc> = health["metrics"]["timestamp"].as_str().unwrap().parse().unwrap();
        oldest = oldest.max(Utc::now() - taken);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    oldest
}

fn trusting(certificate: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// The process that serves a constant; killed when dropped.
struct Bare {
    child: Child,
    address: String,
}

impl Bare {
    fn start(folder: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(BARE, folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, address: address.trim().to_owned() }
    }

    /// The peak memory, in MiB.
    fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1_024.0
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn bare(folder: &str) {
    let constant: Bytes = std::fs::read(format!("{folder}/constant")).unwrap().into();
    let answer = move || async move { ([(CONTENT_TYPE, "application/json")], constant) };
    let router = Router::new().route(HEALTH, get(answer));
    let certificate = CertificateDer::from_pem_file(format!("{folder}/tls.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(format!("{folder}/tls.key")).unwrap();
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
            let connection = hyper::server::conn::http1::Builder::new();
            // It ends when the client hangs up.
            let _ = connection.serve_connection(stream, TowerToHyperService::new(router)).await;
        });
    }
}
