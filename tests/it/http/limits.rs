//! Limits for one client in favour of the others: size of bodies, time, concurrent requests.

use reqwest::{Body, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{CLEANUP, HEALTH, RUNNING};
use crate::support::https::{Https, told};
use crate::support::proxy::{Mode, Proxies};
use crate::support::{Operator, PATIENCE, World};

/// True if a statement waits for the lock on the table.
const WAITING: &str = "SELECT count(*) > 0 FROM pg_stat_activity \
     WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%job_executions%'";

#[tokio::test]
async fn one_clean_up_of_a_store_at_a_time_and_it_goes_on_when_its_client_has_gone() {
    let world = World::new("apiturns").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 hours')").await;
    let (_operator, https) = world.serving(&[]).await;
    world.store(json!({})).await;
    let admin = https.with(&world.token("jobexec-administrator").await);
    let store = world.named("jobs");
    admin.until(&format!("{HEALTH}?store={store}"), |status, _| status == 200).await;

    let mut lock = world.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE job_executions IN EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let path = format!("{CLEANUP}?max_hours=1&store={store}");
    let hung_up = tokio::spawn({
        let (admin, path) = (admin.clone(), path.clone());
        async move { admin.post(&path).await }
    });
    world.until_true(WAITING).await;
    hung_up.abort();
    let (status, problem) = admin.post(&path).await;
    assert_eq!((status, &problem["reason"]), (409, &json!("CleanupUnderWay")), "{problem:#}");
    let dry = admin.post(&format!("{path}&dry_run=true")).await;
    assert_eq!((dry.0, &dry.1["cleaned"]), (200, &json!(1)), "looking is always allowed: {:#}", dry.1);
    lock.rollback().await.unwrap();
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while admin.post(&path).await.0 != 200 {
        assert!(tokio::time::Instant::now() < deadline, "the turn never ended");
    }
}

#[tokio::test]
async fn a_large_body_is_refused_and_not_read() {
    let world = World::new("apibody").await;
    let (operator, https) = world.serving(&[]).await;
    world.store(json!({})).await;
    let admin = https.with(&world.token("jobexec-administrator").await);
    admin.until(RUNNING, |status, _| status == 200).await;
    // One with a length, and one without; the server may close the connection during the upload.
    for chunked in [false, true] {
        let megabyte = vec![b' '; 1 << 20];
        let body = if chunked {
            let (mut sender, body) = http_body_util::channel::Channel::<bytes::Bytes>::new(1);
            tokio::spawn(async move {
                for _ in 0..100 {
                    if sender.send_data(megabyte.clone().into()).await.is_err() {
                        return;
                    }
                }
            });
            Body::wrap(body)
        } else {
            Body::from(megabyte.repeat(100))
        };
        let request =
            admin.request(Method::POST, CLEANUP).header("content-type", "application/json").body(body);
        match request.send().await {
            Ok(answer) => {
                let (status, problem) = told(answer).await;
                assert_eq!((status, &problem["reason"]), (413, &json!("BodyTooLarge")));
            }
            Err(error) => assert!(error.is_request() || error.is_body(), "{error:?}"),
        }
    }
    assert!(operator.memory("VmHWM") < 100.0, "{} MiB", operator.memory("VmHWM"));
    assert_eq!(admin.get(RUNNING).await.0, 200);
}

/// Connections that send nothing, or never finish a request, are closed, and delay nobody meanwhile.
#[tokio::test]
async fn slow_clients_are_hung_up_on() {
    let world = World::new("apislow").await;
    let (operator, https) = world.serving(&[]).await;
    world.store(json!({})).await;
    let reader = https.with(&world.token("jobexec-reader").await);
    reader.until(RUNNING, |status, _| status == 200).await;
    let mut silent = TcpStream::connect(https.address()).await.unwrap();
    let mut slow = Vec::new();
    for _ in 0..50 {
        // The probes have no TLS, but the same limits.
        let mut stream = TcpStream::connect(operator.address("probes").await).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
        slow.push(stream);
    }
    assert_eq!(reader.get(RUNNING).await.0, 200, "others are answered meanwhile");
    for stream in slow.iter_mut().chain([&mut silent]) {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "a connection stayed open");
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
    }
}

#[tokio::test]
async fn the_probes_tell_whether_it_lives_and_is_ready() {
    let world = World::new("apiprobes").await;
    let (operator, _) = world.serving(&[]).await;
    let probes = format!("http://{}", operator.address("probes").await);
    let get = async |path: &str| {
        let answer = reqwest::get(format!("{probes}{path}")).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get("/livez").await, (200, "ok\n".to_owned()));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while get("/readyz").await.0 != 200 {
        assert!(tokio::time::Instant::now() < deadline);
    }
    assert_eq!(get("/api/system/health").await.0, 404);
}

/// A request in progress when the operator is asked to stop is answered.
#[tokio::test]
async fn what_is_under_way_at_the_end_is_answered() {
    let world = World::new("apistop").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 hours')").await;
    let (operator, https) = world.serving(&[]).await;
    world.store(json!({"mode": "Observe", "pollInterval": "1h"})).await;
    let admin = https.with(&world.token("jobexec-administrator").await);
    let store = world.named("jobs");
    admin.until(&format!("{HEALTH}?store={store}"), |status, _| status == 200).await;
    let mut lock = world.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE job_executions IN EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let path = format!("{CLEANUP}?max_hours=1&store={store}");
    let asked = tokio::spawn({
        let admin = admin.clone();
        async move { admin.post(&path).await }
    });
    world.until_true(WAITING).await;
    let log = operator.log_file();
    let stopped = tokio::task::spawn_blocking(move || operator.stop());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !std::fs::read_to_string(&log).unwrap().contains("received a signal to stop") {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    lock.rollback().await.unwrap();
    let (status, report): (u16, Value) = asked.await.unwrap();
    assert_eq!((status, &report["cleaned"]), (200, &json!(1)), "{report:#}");
    assert!(stopped.await.unwrap().success());
}

/// A request that takes too long gets an error, whatever delays it; a clean-up continues nevertheless.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_too_long_is_not_waited_for() {
    let world = World::new("apilong").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 hours')").await;
    let proxies = Proxies::before(&world).await;
    let (_operator, https) = world.serving(&[("REQUEST_TIMEOUT", "2s")]).await;
    world.store(json!({"pollInterval": "1h"})).await;
    let admin = https.with(&world.token("jobexec-administrator").await);
    let (list, clean_up) = (
        format!("{RUNNING}?store={}", world.named("jobs")),
        format!("{CLEANUP}?max_hours=1&store={}", world.named("jobs")),
    );
    admin.until(&list, |status, _| status == 200).await;
    assert_eq!(admin.post(&format!("{clean_up}&dry_run=true")).await.0, 200);

    proxies.database.set(Mode::Silent);
    for outcome in [admin.get(&list).await, admin.post(&clean_up).await] {
        assert_eq!((outcome.0, &outcome.1["reason"]), (503, &json!("TimedOut")), "{:#}", outcome.1);
        assert!(outcome.1["detail"].as_str().unwrap().contains("within 2s"), "{:#}", outcome.1);
    }
    assert_eq!(world.status(1).await, "running");
    proxies.database.set(Mode::Open);
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    admin.until(&list, |status, _| status == 200).await;
}

/// An operator that has answered two requests of a reader for a store: the list, which reads the database, and the
/// health.
async fn answering(world: &World, env: &[(&str, &str)]) -> (Operator, Https, String, String) {
    let (operator, https) = world.serving(env).await;
    world.store(json!({"pollInterval": "1h"})).await;
    let reader = https.with(&world.token("jobexec-reader").await);
    let of_store = |path| format!("{path}?store={}", world.named("jobs"));
    let (list, health) = (of_store(RUNNING), of_store(HEALTH));
    for path in [&list, &health] {
        reader.until(path, |status, _| status == 200).await;
    }
    (operator, reader, list, health)
}

/// A request above the limit is refused at once, even one that would not have to wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_requests_at_once_are_refused() {
    let world = World::new("apimany").await;
    let proxies = Proxies::before(&world).await;
    let (_operator, reader, list, health) = answering(&world, &[("MAX_REQUESTS", "2")]).await;

    proxies.database.set(Mode::Silent);
    let held_up: Vec<_> = (0..2)
        .map(|_| {
            let (reader, list) = (reader.clone(), list.clone());
            // The requests below may come first.
            tokio::spawn(async move { reader.until(&list, |status, _| status == 200).await })
        })
        .collect();
    let problem = reader.until(&health, |status, _| status == 503).await;
    assert_eq!(problem["reason"], "Overloaded", "{problem:#}");
    let refused = reader.request(Method::GET, &health).send().await.unwrap();
    assert_eq!(refused.headers()["retry-after"], "2");
    proxies.database.set(Mode::Open);
    for request in held_up {
        request.await.unwrap();
    }
    assert_eq!(reader.get(&health).await.0, 200);
}

/// Work that continues after its response was too late counts as a request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_on_without_its_client_is_a_request_like_the_others() {
    let world = World::new("apighosts").await;
    let proxies = Proxies::before(&world).await;
    let (_operator, reader, list, health) =
        answering(&world, &[("MAX_REQUESTS", "1"), ("REQUEST_TIMEOUT", "1s")]).await;

    proxies.database.set(Mode::Silent);
    let (status, problem) = reader.get(&list).await;
    assert_eq!((status, &problem["reason"]), (503, &json!("TimedOut")), "{problem:#}");
    let (status, problem) = reader.get(&health).await;
    assert_eq!((status, &problem["reason"]), (503, &json!("Overloaded")), "{problem:#}");
    proxies.database.set(Mode::Open);
    reader.until(&health, |status, _| status == 200).await;
}

/// `--bench api` measures the memory for this.
#[tokio::test]
async fn clean_ups_of_several_large_stores_at_once_end_all_of_them() {
    let world = World::new("apilarge").await;
    // On a busy machine they take long.
    let (_operator, https) = world.serving(&[("REQUEST_TIMEOUT", "5m")]).await;
    let rows = 50_000;
    let admin = world.large_stores(&https, rows).await;
    for path in [format!("{CLEANUP}?dry_run=true"), CLEANUP.to_owned()] {
        let (status, report) = admin.post(&path).await;
        assert_eq!((status, &report["cleaned"]), (200, &json!(3 * rows)), "{:#}", report["unavailable"]);
    }
}
