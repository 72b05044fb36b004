//! A replica stops, and another one takes over its stores.

use std::time::Instant;

use k8s_openapi::api::coordination::v1::Lease;
use serde_json::json;

use super::{SHORT, first_has};
use crate::support::machine::Part;
use crate::support::proxy::{Mode, Proxies};
use crate::support::replica::settled;
use crate::support::{World, blocking, is, machine};

/// A stale row.
fn stale(id: i64) -> String {
    format!("INSERT INTO job_executions VALUES ({id}, 1, {id}, 'running', now() - interval '2 days')")
}

impl World {
    async fn failed(&self, id: i64) {
        self.until_true(&format!("SELECT status = 'failed' FROM job_executions WHERE id = {id}")).await;
    }

    /// Checks that every failed row is recorded once.
    async fn each_once(&self, rows: i64) {
        let recorded: (i64, i64) = sqlx::query_as(
            "SELECT count(*), count(DISTINCT execution_id) FROM jobexec.events WHERE action = 'Failed'",
        )
        .fetch_one(&self.pool)
        .await
        .unwrap();
        assert_eq!(recorded, (rows, rows));
    }
}

#[tokio::test]
async fn another_replica_takes_over_when_one_stops_or_is_killed() {
    let world = World::with_leases("failover").await;
    world.store(json!({})).await;
    let (a, b) = (world.replica("a", &[]), world.replica("b", &[]));
    settled(&[&a, &b]).await;
    let (owner, other) = first_has("jobs", a, b).await;
    world.sql(&stale(1)).await;
    world.failed(1).await;

    let name = owner.name.clone();
    let asked = Instant::now();
    owner.stop().await;
    let ended = asked.elapsed();
    other.has("jobs").await;
    println!("stopped: ended after {ended:?}, taken over {:?} after that was asked for", asked.elapsed());
    world.sql(&stale(2)).await;
    world.failed(2).await;
    assert!(world.lease(&name).await.is_none(), "it gives its Lease back");

    // With its old name it gets the same stores.
    let owner = world.replica(&name, &[]);
    settled(&[&owner, &other]).await;
    let (owner, other) = first_has("jobs", owner, other).await;
    assert_eq!(owner.name, name);
    world.sql(&stale(3)).await;
    world.failed(3).await;

    let killed = Instant::now();
    owner.operator.kill();
    world.sql(&stale(4)).await;
    world.failed(4).await;
    println!("killed: taken over after {:?}", killed.elapsed());
    settled(&[&other]).await;
    world.each_once(4).await;
    let status =
        world.store_until(&other.operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    assert!(is(&status.conditions, "DatabaseReachable", "True", "Connected"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_cut_off_from_the_api_server_ends_and_another_takes_over() {
    let world = World::with_leases("cutoff").await;
    world.store(json!({})).await;
    let direct = world.file("direct", &std::fs::read_to_string(world.kubeconfig()).unwrap());
    let proxies = Proxies::before(&world).await;
    let a = world.replica("a", &[SHORT]);
    settled(&[&a]).await;
    world.sql(&stale(1)).await;
    world.failed(1).await;
    let b = world.replica_by(direct.as_ref(), "b", &[SHORT]);
    settled(&[&a, &b]).await;

    proxies.api.gate.set(Mode::Silent);
    let mut cut_off = a;
    let status = cut_off.operator.ended().await;
    assert_eq!(status.code(), Some(1), "{}", cut_off.operator.log());
    let words = cut_off.last_words();
    assert!(words.contains("jobexec-operator-a could not be renewed"), "{words}");
    settled(&[&b]).await;
    world.sql(&stale(2)).await;
    world.failed(2).await;
    world.each_once(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_the_only_one_goes_on_while_the_api_server_is_away() {
    let world = World::with_leases("onlyone").await;
    world.store(json!({})).await;
    let proxies = Proxies::before(&world).await;
    let only = world.replica("a", &[SHORT]);
    settled(&[&only]).await;
    world.sql(&stale(1)).await;
    world.failed(1).await;
    let before = world.lease("a").await.unwrap();

    proxies.api.gate.set(Mode::Away);
    // It is tried each 1.2 s, and a replica that is not alone ends 3.6 s after the last renewal.
    only.operator.has_said("could not be renewed, it is tried again", 6).await;
    world.sql(&stale(2)).await;
    world.failed(2).await;
    proxies.api.gate.set(Mode::Open);
    let holder = |lease: &Lease| lease.spec.clone().unwrap().holder_identity;
    let version = |lease: &Lease| lease.metadata.resource_version.clone();
    let renewed = |lease: Option<&Lease>| lease.is_some_and(|lease| version(lease) != version(&before));
    let after = world.lease_until("a", renewed).await.unwrap();
    assert_eq!(holder(&after), holder(&before));
    world.each_once(2).await;
}

#[tokio::test]
async fn clocks_that_differ_by_hours_take_nothing_from_anybody() {
    let library = machine::needs("clocks that differ", Part::Debian("libfaketime"), machine::libfaketime());
    let Some(library) = library else { return };
    let world = World::with_leases("haclocks").await;
    world.store(json!({})).await;
    let at = |shift| {
        [
            SHORT,
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("FAKETIME", shift),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
    };
    let (fast, slow) = (world.replica("fast", &at("+2h")), world.replica("slow", &at("-2h")));
    let right = world.replica("right", &[SHORT]);
    let all = [&fast, &slow, &right];
    settled(&all).await;
    let leases = ["fast", "slow", "right"];
    let mut transitions = Vec::new();
    for name in leases {
        let first = world.lease(name).await.unwrap().spec.unwrap();
        // Several renewals later, only the time of the renewal has changed.
        let renewed = |lease: Option<&k8s_openapi::api::coordination::v1::Lease>| {
            let spec = lease.unwrap().spec.clone().unwrap();
            spec.renew_time.unwrap().0.duration_since(first.renew_time.clone().unwrap().0).as_secs() >= 4
        };
        let later = world.lease_until(name, renewed).await.unwrap().spec.unwrap();
        assert_eq!(later.holder_identity, first.holder_identity);
        transitions.push(later.lease_transitions);
    }
    assert_eq!(transitions, vec![Some(0); 3]);
    settled(&all).await;
    world.sql(&stale(1)).await;
    world.failed(1).await;
    world.each_once(1).await;
    for replica in [fast, slow, right] {
        replica.stop().await;
    }
}

#[tokio::test]
async fn a_restart_under_the_same_name_takes_its_own_lease_at_once() {
    let world = World::with_leases("restart").await;
    world.store(json!({})).await;
    // Too long for others to wait for in this test.
    let minute = [("LEASE_DURATION", "60s")];
    let first = world.replica("a", &minute);
    settled(&[&first]).await;
    let before = world.lease("a").await.unwrap().spec.unwrap();
    blocking(move || {
        first.operator.kill();
        Ok::<_, ()>(())
    })
    .await;
    let second = world.replica("a", &minute);
    settled(&[&second]).await;
    world.sql(&stale(1)).await;
    world.failed(1).await;
    let after = world.lease("a").await.unwrap().spec.unwrap();
    assert_ne!(after.holder_identity, before.holder_identity);
    assert_eq!((before.lease_transitions, after.lease_transitions), (Some(0), Some(1)));
}
