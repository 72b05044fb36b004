//! Any replica answers for every store, with the same result as the one that manages it.

use futures::future::join_all;
use jobexec_operator::api::ExecutionStore;
use serde_json::{Value, json};

use super::first_has;
use crate::support::https::Https;
use crate::support::proxy::{Mode, Proxies};
use crate::support::replica::settled;
use crate::support::{World, is, rbac};

const HEALTH: &str = "/api/system/health";
const RUNNING: &str = "/api/system/executions/running";
const CLEANUP: &str = "/api/system/cleanup/stale-executions";

/// Removes fields that depend on the time of the request.
fn timeless(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            fields.retain(|key, _| {
                key != "timestamp" && key != "now" && key != "runtime_seconds" && key != "until"
            });
            fields.values_mut().for_each(|field| *field = timeless(field.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = timeless(item.take())),
        _ => {}
    }
    value
}

/// Sends requests to both until they agree: counts are at most a few seconds old.
async fn agree(owner: &Https, other: &Https, path: &str) -> Value {
    let mut seen = Vec::new();
    for _ in 0..60 {
        let (left, right) = (owner.get(path).await, other.get(path).await);
        let (left, right) = ((left.0, timeless(left.1)), (right.0, timeless(right.1)));
        if left == right {
            assert_eq!(left.0, 200, "{path}: {:#}", left.1);
            return left.1;
        }
        seen = vec![left, right];
        // As often as a browser that shows the page.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    panic!("{path}: {seen:#?}");
}

/// Lists, explanations, history, statistics and errors are the same from both.
async fn same_answers(owner: &Https, other: &Https, store: &str) {
    let explain = |id: &str| format!("/api/system/executions/{store}/{id}/explain");
    for path in [
        RUNNING.to_owned(),
        format!("{RUNNING}?store={store}&limit=2"),
        explain("1"),
        explain("2"),
        explain("7"),
        format!("/api/system/history?store={store}"),
        format!("/api/system/stats?store={store}"),
        format!("/api/system/trends?store={store}"),
    ] {
        agree(owner, other, &path).await;
    }
    let told = other.get(&explain("2")).await.1;
    assert!(told["rules"].to_string().contains("JobExecution/e"), "{told:#}");
    for (path, status) in [(explain("4711"), 404), (explain("x"), 400)] {
        assert_eq!((owner.get(&path).await.0, other.get(&path).await.0), (status, status), "{path}");
    }
}

#[tokio::test]
async fn a_replica_answers_for_stores_of_another_one_as_that_one_does() {
    let world = World::with_leases("hareads").await;
    rbac::install_api(&world.client, &world.namespace).await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, n % 3, n, 'running', now() - interval '2 hours' FROM generate_series(1, 6) n; \
             INSERT INTO job_executions VALUES (7, 1, 7, 'running', now() - interval '2 days', NULL), (8, 1, 8, 'scheduled', NULL, NULL), \
                 (9, 2, 9, 'completed', now() - interval '3 hours', now() - interval '2 hours')",
        )
        .await;
    let (a, b) = (world.replica("a", &[]), world.replica("b", &[]));
    settled(&[&a, &b]).await;
    world.store(json!({})).await;
    world.execution("e", "2", json!({"timeout": "48h"})).await;
    world.policy("p", json!({"selector": {"jobIds": ["1"]}, "timeout": "36h"})).await;
    let (owner, other) = first_has("jobs", a, b).await;
    world.execution_until(&owner.operator, "e", |s| s.timeout.as_deref() == Some("2d")).await;
    world
        .store_until(&owner.operator, |s| is(&s.conditions, "Healthy", "False", "LongRunningExecutions"))
        .await;
    world.policy_until(&owner.operator, "p", |s| is(&s.conditions, "Accepted", "True", "InForce")).await;

    let token = world.token("jobexec-administrator").await;
    let owners = world.api_of(&owner.operator).await.with(&token);
    let others = world.api_of(&other.operator).await.with(&token);
    let store = world.named("jobs");
    let health = agree(&owners, &others, &format!("{HEALTH}?store={store}")).await;
    assert_eq!(health["metrics"]["running_executions"], 6, "{health:#}");
    same_answers(&owners, &others, &store).await;
    // A dry run gives the same result, and a clean-up on either replica does the same.
    let dry = format!("{CLEANUP}?store={store}&max_hours=1&dry_run=true");
    let (left, right) = (owners.post(&dry).await, others.post(&dry).await);
    assert_eq!((left.0, timeless(left.1)), (right.0, timeless(right.1.clone())));
    assert!(right.1["cleaned"].as_i64().is_some_and(|cleaned| cleaned > 0), "{:#}", right.1);
    let (status, done) = others.post(&format!("{CLEANUP}?store={store}&max_hours=1")).await;
    assert_eq!((status, &done["cleaned"]), (200, &right.1["cleaned"]), "{done:#}");
    assert_eq!(world.status(2).await, "running", "an object governs it");
    // It counts its own actions, and has no other series of the store.
    let page = other.operator.metrics().await;
    let series = page.lines().filter(|line| line.contains("store=\"jobs\"") && !line.ends_with(" 0"));
    let expected = format!(
        "jobexec_store_executions_ended_total{{namespace=\"{}\",store=\"jobs\",status=\"failed\",reason=\"ManualCleanup\"}} {}",
        world.namespace, right.1["cleaned"]
    );
    assert_eq!(series.collect::<Vec<_>>(), [expected]);
    let path = format!("{HEALTH}?store={store}");
    let health = agree(&owners, &others, &path).await;
    assert_eq!(health["status"], "healthy", "{health:#}");
    agree(&owners, &others, &format!("/api/system/history?store={store}")).await;
    assert!(!other.stores().await.contains("jobs"), "it looks after it no more than before");

    // It takes over the store when the owner stops, and continues to answer.
    owner.stop().await;
    settled(&[&other]).await;
    others.until(RUNNING, |status, _| status == 200).await;
    other.stop().await;
}

/// The number of concurrent requests, which are all accepted.
const CROWD: usize = 12;

/// One attempt to open it counts for all requests, and nothing of them is left after their responses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_database_of_a_store_of_another_replica_holds_up_no_request_about_other_stores() {
    let world = World::with_leases("hasilent").await;
    rbac::install_api(&world.client, &world.namespace).await;
    let rows = "VALUES (1, 1, 1, 'running', now())";
    world
        .sql(&format!(
            "CREATE TABLE silent (LIKE job_executions INCLUDING ALL); GRANT SELECT, UPDATE ON silent TO {}; \
             INSERT INTO job_executions {rows}; INSERT INTO silent {rows}",
            world.role
        ))
        .await;
    let gate = Proxies::before_postgres(&world, "silent").await;
    let crowd = CROWD.to_string();
    // One caller sends all of them.
    let all = crowd.as_str();
    let env = [("REQUEST_TIMEOUT", "15s"), ("MAX_REQUESTS", all), ("MAX_REQUESTS_PER_CALLER", all)];
    let (a, b) = (world.replica("a", &env), world.replica("b", &env));
    settled(&[&a, &b]).await;
    world.store(json!({})).await;
    let spec = json!({"table": {"name": "silent"}, "connection": {"secretRef": {"name": "silent"}}});
    world.apply::<ExecutionStore>("silent", World::store_with("silent", spec)).await.unwrap();
    let (owner, other) = first_has("silent", a, b).await;
    for store in ["jobs", "silent"] {
        let ready = world.store_named_until(&owner.operator, store, |s| {
            is(&s.conditions, "Ready", "True", "Enforcing") && s.metrics.is_some()
        });
        ready.await;
    }
    let others = world.api_of(&other.operator).await.with(&world.token("jobexec-administrator").await);
    let healthy = format!("{RUNNING}?store={}", world.named("jobs"));
    others.until(&healthy, |status, _| status == 200).await;

    gate.set(Mode::Silent);
    for _ in 0..2 {
        for (status, page) in join_all((0..CROWD).map(|_| others.get(RUNNING))).await {
            assert_eq!(status, 200, "{page:#}");
            assert_eq!(page["executions"][0]["store"], world.named("jobs"), "{page:#}");
            assert_eq!(page["unavailable"][0]["store"], world.named("silent"), "{page:#}");
        }
        let path = format!("{HEALTH}?store={}", world.named("silent"));
        for (status, health) in join_all((0..CROWD).map(|_| others.get(&path))).await {
            assert!(health["metrics"].is_object(), "what was known last is told: {status} {health:#}");
        }
        assert_eq!(others.get(&healthy).await.0, 200);
    }
    gate.set(Mode::Open);
    gate.cut();
    world.sql("INSERT INTO silent VALUES (2, 1, 2, 'running', now())").await;
    let path = format!("{RUNNING}?store={}", world.named("silent"));
    others.until(&path, |status, page| status == 200 && page["executions"][1]["id"] == "2").await;
    let path = format!("{HEALTH}?store={}", world.named("silent"));
    others.until(&path, |_, health| health["metrics"]["running_executions"] == 2).await;
    owner.stop().await;
    other.stop().await;
}
