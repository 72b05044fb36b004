//! Object sync: how fast objects follow rows, compared with a bare client that writes the same objects; the writes after
//! a restart; and the memory of an object. `make bench ARGS='--bench object_sync'`, docs/performance.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it stands on the support of the tests"
)]

#[allow(dead_code, unused_imports, reason = "the tests use more of it")]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::pin::pin;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jobexec_operator::api::{ExecutionStore, JobExecution, Phase};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use support::{Operator, World, is};

/// The number of rows.
const ROWS: i64 = 10_000;

/// The number of objects that the operator and the bare client write at the same time.
const CONCURRENCY: usize = 8;

/// The number of measurements of each contender.
const ROUNDS: usize = 3;

/// Room for all objects.
const ROOM: (&str, &str) = ("EXECUTION_BUDGET", "64");

/// The default log level.
const QUIET: [(&str, &str); 2] = [("RUST_LOG", "info"), ROOM];

/// Set for the process that holds a plain reflector.
const REFLECTOR: &str = "JOBEXEC_BENCH_REFLECTOR";

#[tokio::main]
async fn main() {
    if let Ok(namespace) = std::env::var(REFLECTOR) {
        return plain(&namespace).await;
    }
    // `cargo test --benches` runs this too, without the argument; it is not a test.
    if std::env::args().any(|argument| argument == "--bench") {
        Box::pin(speed()).await;
    }
}

async fn speed() {
    let rounds = if std::env::args().any(|argument| argument == "memory") { 1 } else { ROUNDS };
    let mut times = [const { Vec::new() }; 4];
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        let (world, operator, made) = Box::pin(synced()).await;
        times[0].push(made);
        let objects = list(&world).await;
        let bare = World::new("bare").await;
        times[1].push(create(&bare, &objects).await);
        if round == 1 {
            Box::pin(restart(&world, operator.stop().success())).await;
        } else {
            assert!(operator.stop().success());
        }
        let operator = world.operator_with(&QUIET);
        times[2].push(finish(&world, &operator).await);
        assert!(operator.stop().success());
        times[3].push(label_and_tell(&bare, &list(&world).await).await);
        for world in [&world, &bare] {
            let all = ListParams::default();
            world.api::<JobExecution>().delete_collection(&DeleteParams::default(), &all).await.unwrap();
        }
    }
    println!("\n{ROWS} objects, {CONCURRENCY} at a time, medians of {rounds}");
    println!("what | the operator, objects/s | a bare client, objects/s | ratio");
    for (what, ours, theirs) in [("made, with a status", 0, 1), ("told of their end", 2, 3)] {
        let (ours, theirs) = (rate(&mut times[ours]), rate(&mut times[theirs]));
        println!("{what} | {ours:.0} | {theirs:.0} | {:.2}", ours / theirs);
    }
}

fn rate(times: &mut [Duration]) -> f64 {
    times.sort();
    ROWS as f64 / times[times.len() / 2].as_secs_f64()
}

/// Measures the time from a store with many new rows to their objects.
async fn synced() -> (World, Operator, Duration) {
    let world = World::new("sync").await;
    world
        .sql(&format!(
            "INSERT INTO job_executions SELECT n, n % 1000, n, 'running', now() - interval '5 minutes' \
             FROM generate_series(1, {ROWS}) n; ANALYZE job_executions"
        ))
        .await;
    let operator = world.operator_with(&QUIET);
    let spec = json!({"pollInterval": "15s", "executionObjects": {"enabled": false, "limit": ROWS}});
    world.store(spec).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    let begun = Instant::now();
    world.store(json!({"pollInterval": "15s", "executionObjects": {"enabled": true, "limit": ROWS}})).await;
    world.synced().await;
    let took = begun.elapsed();
    let told = list(&world).await.into_iter().filter(|e| phase(e) == Some(Phase::Running));
    assert_eq!(told.count(), usize::try_from(ROWS).unwrap());
    (world, operator, took)
}

fn phase(execution: &JobExecution) -> Option<Phase> {
    execution.status.as_ref().and_then(|status| status.phase)
}

impl World {
    /// Waits until the store reports that all rows have objects, which takes longer than in a test.
    async fn synced(&self) {
        loop {
            let store = self.api::<ExecutionStore>().get("jobs").await.unwrap();
            let objects = store.status.and_then(|status| status.execution_objects);
            if objects.is_some_and(|o| (o.objects, o.executions_without_object) == (ROWS, 0)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn list(world: &World) -> Vec<JobExecution> {
    world.api::<JobExecution>().list(&ListParams::default()).await.unwrap().items
}

/// The bare client, with the operator's `ServiceAccount`, since an administrator bypasses the API server's queues.
async fn bare_client(world: &World) -> Api<JobExecution> {
    let kubeconfig = Kubeconfig::read_from(world.kubeconfig()).unwrap();
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Api::namespaced(Client::try_from(config).unwrap(), &world.namespace)
}

/// Creates the same objects with the same status.
async fn create(world: &World, objects: &[JobExecution]) -> Duration {
    let api = &bare_client(world).await;
    let begun = Instant::now();
    stream::iter(objects)
        .for_each_concurrent(CONCURRENCY, |object| async move {
            let mut new = JobExecution::new(&object.name_any(), object.spec.clone());
            new.metadata.labels.clone_from(&object.metadata.labels);
            api.create(&PostParams::default(), &new).await.unwrap();
            tell(api, object).await;
        })
        .await;
    begun.elapsed()
}

async fn tell(api: &Api<JobExecution>, object: &JobExecution) {
    let patch = body(json!({"status": object.status}));
    let params = PatchParams::apply("bare").force();
    api.patch_status(&object.name_any(), &params, &Patch::Apply(patch)).await.unwrap();
}

fn body(mut content: Value) -> Value {
    content["apiVersion"] = "jobexec.dev/v1alpha1".into();
    content["kind"] = "JobExecution".into();
    content
}

/// Finishes all rows at once.
async fn finish(world: &World, operator: &Operator) -> Duration {
    world.store_until(operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    let begun = Instant::now();
    world.sql("UPDATE job_executions SET status = 'completed', completed_at = now()").await;
    world.annotate("jobexec.dev/sweep-requested", "finished").await;
    let running = ListParams::default().labels("jobexec.dev/phase=running").limit(1);
    while !world.api::<JobExecution>().list_metadata(&running).await.unwrap().items.is_empty() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    begun.elapsed()
}

/// Writes the same labels and statuses.
async fn label_and_tell(world: &World, objects: &[JobExecution]) -> Duration {
    let api = &bare_client(world).await;
    let begun = Instant::now();
    stream::iter(objects)
        .for_each_concurrent(CONCURRENCY, |object| async move {
            tell(api, object).await;
            let patch = body(json!({"metadata": {"labels": object.metadata.labels}}));
            let params = PatchParams::apply("bare-labels").force();
            api.patch(&object.name_any(), &params, &Patch::Apply(patch)).await.unwrap();
        })
        .await;
    begun.elapsed()
}

/// Starts the operator again while all objects are up to date.
async fn restart(world: &World, stopped: bool) {
    assert!(stopped);
    let empty = World::new("empty").await;
    let operator = empty.operator();
    empty.store(json!({"executionObjects": {"enabled": true}})).await;
    empty.store_until(&operator, |s| is(&s.conditions, "ObjectsSynced", "True", "Synced")).await;
    let before = operator.memory("VmRSS");
    assert!(operator.stop().success());

    let operator = world.operator_with(&[ROOM]);
    world.store_until(&operator, |s| is(&s.conditions, "ObjectsSynced", "True", "Synced")).await;
    // Long enough for several polls.
    tokio::time::sleep(Duration::from_mins(1)).await;
    let writes = operator
        .log()
        .lines()
        .filter(|l| l.contains("\"message\":\"requesting\"") && l.contains("/jobexecutions"))
        .filter(|l| !l.contains("\"http.method\":\"GET\""))
        .count();
    println!("\nstarted anew beside {ROWS} objects: {writes} writes to them");
    let (rss, peak) = (operator.memory("VmRSS"), operator.memory("VmHWM"));
    assert!(operator.stop().success());
    let each = |with: f64, without: f64| (with - without) * 1024.0 / ROWS as f64;
    println!(
        "{rss:.1} MiB with {ROWS} objects ({peak:.1} at the most), {before:.1} without: {:.1} KiB an object",
        each(rss, before)
    );
    let [none, all] = [reflected(&empty), reflected(world)];
    println!(
        "a plain reflector of whole objects: {all:.1} MiB, {none:.1} without: {:.1} KiB an object",
        each(all, none)
    );
    println!("the operator's to the plain reflector's: {:.2}", each(rss, before) / each(all, none));
}

/// The memory of a process that caches the unchanged objects of a namespace, in MiB.
fn reflected(world: &World) -> f64 {
    let output = Command::new(std::env::current_exe().unwrap())
        .env(REFLECTOR, &world.namespace)
        .env("KUBECONFIG", world.kubeconfig())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

async fn plain(namespace: &str) {
    let client = Client::try_default().await.unwrap();
    let (reader, writer) = reflector::store::<JobExecution>();
    let api: Api<JobExecution> = Api::namespaced(client, namespace);
    let mut events = pin!(watcher(api, watcher::Config::default()).reflect(writer));
    while !matches!(events.try_next().await.unwrap(), Some(watcher::Event::InitDone)) {}
    reader.wait_until_ready().await.unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    println!("{}", kib / 1024.0);
}
