//! Many stores and three replicas.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::json;

use super::{Replica, owners, settled};
use crate::support::{PATIENCE, World};

/// How many stores; more where somebody wants to see how it goes with many: `JOBEXEC_TEST_STORES=300`.
fn stores() -> usize {
    std::env::var("JOBEXEC_TEST_STORES").map_or(20, |stores| stores.parse().unwrap())
}

fn named(store: usize) -> String {
    format!("s{store}")
}

impl World {
    /// A table for each store, all in one database, and the stores.
    async fn tables_for_all(&self) {
        for store in (0..stores()).map(named) {
            self.sql(&format!(
                "CREATE TABLE {store} (LIKE job_executions INCLUDING ALL); \
                 GRANT SELECT, UPDATE ON {store} TO {}",
                self.role
            ))
            .await;
            let spec = json!({"table": {"name": store}, "connection": {"poolSize": 2}, "pollInterval": "2s"});
            let object = Self::store_with(&store, spec);
            self.apply::<jobexec_operator::api::ExecutionStore>(&store, object).await.unwrap();
        }
    }

    /// A row in each table that is stale, or will be in a moment.
    async fn rows(&self, id: i64) {
        let insert = |store: String| {
            format!("INSERT INTO {store} VALUES ({id}, 1, {id}, 'running', now() - interval '1 day')")
        };
        self.sql(&(0..stores()).map(named).map(insert).collect::<Vec<_>>().join(";")).await;
    }

    /// Waits until every row has failed, and sees that each is recorded once.
    async fn all_failed(&self, rows: usize) {
        let running =
            (0..stores()).map(|n| format!("SELECT status FROM s{n}")).collect::<Vec<_>>().join(" UNION ALL ");
        self.until_true(&format!("SELECT bool_and(status = 'failed') FROM ({running}) AS all_rows")).await;
        let recorded: (i64, i64) = sqlx::query_as(
            "SELECT count(*), count(DISTINCT (store_id, execution_id)) FROM jobexec.events WHERE action = 'Failed'",
        )
        .fetch_one(&self.pool)
        .await
        .unwrap();
        let expected = i64::try_from(rows * stores()).unwrap();
        assert_eq!(recorded, (expected, expected));
    }
}

/// Waits until the stores are shared between these, and returns how many each has.
async fn shared(replicas: &[&Replica]) -> Vec<usize> {
    settled(replicas).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for replica in replicas {
        while replica.figure("jobexec_stores_owned").await != replica.stores().await.len() {
            assert!(tokio::time::Instant::now() < deadline, "{} has other stores than it says", replica.name);
        }
    }
    owners(replicas, stores()).await.values().map(BTreeSet::len).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_store_is_one_replicas_and_nothing_is_lost_or_doubled_when_replicas_come_and_go() {
    let world = World::with_leases("share").await;
    world.tables_for_all().await;
    let [first, second, third] = ["a", "b", "c"].map(|name| world.replica(name, &[]));
    let shares = shared(&[&first, &second, &third]).await;
    println!("shares of {} stores: {shares:?}", stores());
    let most = stores() * 7 / 10;
    assert!(shares.iter().all(|share| (1..=most).contains(share)), "{shares:?}");
    world.rows(1).await;
    world.all_failed(1).await;

    let killed = Instant::now();
    second.operator.kill();
    world.rows(2).await;
    world.all_failed(2).await;
    println!("killed one of three: all stores looked after again after {:?}", killed.elapsed());
    shared(&[&first, &third]).await;

    // A rolling update, with rows that become stale all the while.
    let fourth = world.replica("d", &[]);
    world.rows(3).await;
    settled(&[&first, &third, &fourth]).await;
    first.stop().await;
    world.rows(4).await;
    let fifth = world.replica("e", &[]);
    world.rows(5).await;
    settled(&[&third, &fourth, &fifth]).await;
    third.stop().await;
    world.rows(6).await;
    world.all_failed(6).await;
    shared(&[&fourth, &fifth]).await;
    fourth.stop().await;
    fifth.stop().await;
}
