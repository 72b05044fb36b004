//! Health is at most a few seconds old, costs the database little however often it is requested, and is correct without
//! Kubernetes.

use std::time::Instant;

use serde_json::json;

use super::{HEALTH, figures};
use crate::support::World;
use crate::support::proxy::{Mode, Proxies};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_costs_the_database_little_however_often_it_is_asked_for() {
    let world = World::new("apicost").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now())").await;
    let proxies = Proxies::before(&world).await;
    let (_operator, https) = world.serving(&[]).await;
    world.store(json!({"pollInterval": "1h"})).await;
    let reader = https.with(&world.token("jobexec-reader").await);
    let path = format!("{HEALTH}?store={}", world.named("jobs"));
    reader.until(&path, |status, _| status == 200).await;
    let (before, begun) = (proxies.writes.passed().reads, Instant::now());
    for _ in 0..200 {
        assert_eq!(figures(&reader.get(&path).await.1), [1, 0, 0, 1]);
    }
    let reads = proxies.writes.passed().reads - before;
    // One read at once, and one each 4.5 s.
    let looks = 2 + begun.elapsed().as_secs() / 4;
    assert!(reads as u64 <= 6 * looks, "{reads} reads for 200 requests");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_gets_figures_that_are_not_old_although_the_store_is_hardly_polled() {
    let world = World::new("apifresh").await;
    let (_operator, https) = world.serving(&[]).await;
    world.store(json!({"pollInterval": "1h"})).await;
    let reader = https.with(&world.token("jobexec-reader").await);
    let path = format!("{HEALTH}?store={}", world.named("jobs"));
    reader.until(&path, |status, _| status == 200).await;
    for n in 1..=2 {
        world.sql(&format!("INSERT INTO job_executions VALUES ({n}, 1, {n}, 'running', now())")).await;
        reader.until(&path, |_, health| figures(health) == [n, 0, 0, n]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_true_also_while_kubernetes_cannot_be_told() {
    let world = World::new("apitruth").await;
    let proxies = Proxies::before(&world).await;
    let (_operator, https) = world.serving(&[]).await;
    world.store(json!({"longRunning": {"threshold": 0}})).await;
    let reader = https.with(&world.token("jobexec-reader").await);
    let path = format!("{HEALTH}?store={}", world.named("jobs"));
    let health = reader.until(&path, |status, _| status == 200).await;
    assert_eq!((&health["status"], health.get("reason")), (&json!("healthy"), None));
    proxies.api.gate.set(Mode::Away);
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 hours')").await;
    let health = reader.until(&path, |_, health| figures(health) == [1, 0, 1, 1]).await;
    assert_eq!((&health["status"], &health["reason"]), (&json!("warning"), &json!("LongRunningExecutions")));
    proxies.database.set(Mode::Away);
    let health = reader.until(&path, |status, _| status == 503).await;
    assert_eq!(health["status"], "unhealthy", "{health:#}");
    assert!(health["message"].as_str().unwrap().contains("server"), "{health:#}");
    proxies.database.set(Mode::Open);
    reader.until(&path, |status, _| status == 200).await;
}
