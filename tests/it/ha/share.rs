//! Many stores and three replicas.

use std::time::Instant;

use serde_json::json;

use crate::support::World;
use crate::support::replica::{settled, shared};

/// The number of stores; set `JOBEXEC_TEST_STORES=300` to test with more.
fn stores() -> usize {
    std::env::var("JOBEXEC_TEST_STORES").map_or(20, |stores| stores.parse().unwrap())
}

impl World {
    /// Waits until every row has failed, and checks that each is recorded once.
    async fn all_failed(&self, rows: usize) {
        for id in 1..=rows {
            self.until_failed(stores(), id).await;
        }
        let running = (0..stores()).map(|n| format!("SELECT FROM t{n} WHERE status = 'running'"));
        let running = running.collect::<Vec<_>>().join(" UNION ALL ");
        assert!(!self.one::<bool>(&format!("SELECT EXISTS ({running})")).await);
        let recorded: i64 = self.one("SELECT count(*) FROM jobexec.events WHERE action = 'Failed'").await;
        assert_eq!(recorded, i64::try_from(rows * stores()).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_store_is_one_replicas_and_nothing_is_lost_or_doubled_when_replicas_come_and_go() {
    let world = World::with_leases("share").await;
    world.tables(stores(), json!({"connection": {"poolSize": 2}, "pollInterval": "2s"})).await;
    let [first, second, third] = ["a", "b", "c"].map(|name| world.replica(name, &[]));
    let shares = shared(&[&first, &second, &third], stores()).await;
    println!("shares of {} stores: {shares:?}", stores());
    let most = stores() * 7 / 10;
    assert!(shares.iter().all(|share| (1..=most).contains(share)), "{shares:?}");
    world.overdue(stores(), 1).await;
    world.all_failed(1).await;

    let killed = Instant::now();
    second.operator.kill();
    world.overdue(stores(), 2).await;
    world.all_failed(2).await;
    println!("killed one of three: all stores looked after again after {:?}", killed.elapsed());
    shared(&[&first, &third], stores()).await;

    // A rolling update, while rows become stale all the time.
    let fourth = world.replica("d", &[]);
    world.overdue(stores(), 3).await;
    settled(&[&first, &third, &fourth]).await;
    first.stop().await;
    world.overdue(stores(), 4).await;
    let fifth = world.replica("e", &[]);
    world.overdue(stores(), 5).await;
    settled(&[&third, &fourth, &fifth]).await;
    third.stop().await;
    world.overdue(stores(), 6).await;
    world.all_failed(6).await;
    shared(&[&fourth, &fifth], stores()).await;
    fourth.stop().await;
    fifth.stop().await;
}
