//! Health comes from what the operator saw last: it costs the database nothing, and is true without Kubernetes.

use serde_json::json;

use super::{HEALTH, figures};
use crate::support::World;
use crate::support::proxy::{Mode, Proxies};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_costs_the_database_nothing_however_often_it_is_asked_for() {
    let world = World::new("apicost").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now())").await;
    let proxies = Proxies::before(&world).await;
    let (_operator, https) = world.serving(&[]).await;
    world.store(json!({"pollInterval": "1h"})).await;
    let reader = https.with(&world.token("jobexec-reader").await);
    let path = format!("{HEALTH}?store={}", world.named("jobs"));
    reader.until(&path, |status, _| status == 200).await;
    let before = proxies.writes.passed().reads;
    for _ in 0..200 {
        assert_eq!(figures(&reader.get(&path).await.1), [1, 0, 0, 1]);
    }
    let reads = proxies.writes.passed().reads - before;
    assert!(reads < 20, "{reads} reads for 200 requests");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_true_also_while_kubernetes_cannot_be_told() {
    let world = World::new("apitruth").await;
    let proxies = Proxies::before(&world).await;
    let (_operator, https) = world.serving(&[]).await;
    world.store(json!({"longRunning": {"warnAbove": 0}})).await;
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
