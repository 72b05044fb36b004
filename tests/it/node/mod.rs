//! A release of the chart on a real node: the image runs as a Pod, and no Helm command loses or repeats work. It needs a
//! node and the image, so only `make test-node` runs it.

mod database;
mod names;
mod pod;
mod release;

use std::time::{Duration, Instant};

use database::Database;
use names::Names;
use release::Release;

/// The time to wait for something that must happen, even on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);
/// The pause between two checks.
const PAUSE: Duration = Duration::from_millis(50);

#[tokio::test]
#[ignore = "takes a node: make test-node"]
async fn a_release_lives_and_goes() {
    let database = Database::create().await;
    let release = Release::prepare(&database).await;
    let _names = Names::serve(release.client.clone(), database::HOST, &address()).await;
    let mut clock = Clock(Instant::now());

    release.helm(&["install", "--wait", "--timeout=3m"]).await;
    clock.told("helm install --wait");

    database.stale(1).await;
    release.watch_table().await;
    database.until_all_failed_once().await;
    clock.told("the first stale row failed by the Pod");
    pod::is_confined(&release.pod().await);
    pod::is_small(&release, &address()).await;
    clock.told("confined and small");
    let said = release.helm(&["test", "--timeout=3m"]).await;
    assert!(said.contains("Succeeded"), "nothing was tested: {said}");
    clock.told("helm test");

    killed(&release, &database).await;
    clock.told("killed by SIGKILL, and back");
    updated(&release, &database).await;
    clock.told("helm upgrade and rollback, with stale rows coming in");
    uninstalled(&release, &database).await;
    clock.told("helm uninstall, and install again");
}

/// The address at which Pods reach servers beside the cluster.
fn address() -> String {
    std::env::var("DEVCLUSTER_NODE_ADDRESS").expect("not on a node: run this with `make test-node`")
}

/// Prints how long each step took, for `make test-node`.
struct Clock(Instant);

impl Clock {
    fn told(&mut self, step: &str) {
        println!("{:6.1} s  {step}", self.0.elapsed().as_secs_f32());
        self.0 = Instant::now();
    }
}

/// Rows that arrive while the process is dead, and those that it was working on, are failed once.
async fn killed(release: &Release, database: &Database) {
    let pod = release.pod().await;
    let before = pod::restarts(&pod);
    database.stale(5000).await;
    pod::kill(&pod);
    database.stale(100).await;
    release.pod_until(|pod| pod::restarts(pod) > before && pod::is_ready(pod)).await;
    database.until_all_failed_once().await;
}

/// Two rolling updates under load.
async fn updated(release: &Release, database: &Database) {
    let first = release.pod().await.metadata.uid;
    let load = database.load();
    release.helm(&["upgrade", "--wait", "--timeout=3m", "--set=podAnnotations.test=upgraded"]).await;
    let second = release.pod().await;
    assert_ne!(second.metadata.uid, first, "the Pod was not replaced");
    assert!(second.metadata.annotations.as_ref().is_some_and(|all| all.contains_key("test")));
    release.helm(&["rollback", "1", "--wait", "--timeout=3m"]).await;
    let third = release.pod().await;
    assert!(!third.metadata.annotations.as_ref().is_some_and(|all| all.contains_key("test")));
    load.stop().await;
    database.until_all_failed_once().await;
}

/// Uninstalling the release leaves everything that users created, and the next release continues with it.
async fn uninstalled(release: &Release, database: &Database) {
    let before = database.rows().await;
    release.helm(&["uninstall", "--wait", "--timeout=3m"]).await;
    release.is_gone_but_for_what_people_made().await;
    assert_eq!(database.rows().await, before);
    database.stale(10).await;
    release.helm(&["install", "--wait", "--timeout=3m"]).await;
    database.until_all_failed_once().await;
}
