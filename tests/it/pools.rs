//! Stores with the same login share their connections, and nothing else: a problem of one of them does not affect the
//! others.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use jobexec_operator::api::{ExecutionStore, Table};
use jobexec_operator::db::extras::{Extra, Retries};
use jobexec_operator::db::{Database, DbError, Pools, url};
use jobexec_operator::net::Dialer;
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{World, is};

/// The number of stores that share a database.
const STORES: usize = 40;

impl World {
    fn connections(&self) -> String {
        format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", self.role)
    }

    /// Polls the number of connections of the operator's role.
    fn most_connections(self: &Arc<Self>) -> (Arc<AtomicI64>, AbortOnDropHandle<()>) {
        let (most, world) = (Arc::new(AtomicI64::new(0)), self.clone());
        let kept = most.clone();
        let task = tokio::spawn(async move {
            loop {
                kept.fetch_max(world.one(&world.connections()).await, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        (most, AbortOnDropHandle::new(task))
    }
}

#[tokio::test]
async fn forty_stores_of_one_database_take_three_connections_and_one_to_listen() {
    let world = Arc::new(World::new("sharing").await);
    let (most, _watch) = world.most_connections();
    let operator = world.operator();
    world.tables(STORES, json!({"pollInterval": "1h"})).await;
    for n in 0..STORES {
        let table: Table = serde_json::from_value(json!({"name": format!("t{n}")})).unwrap();
        for statement in Extra::Notify.statements(&table, None, Retries::Unknown) {
            world.sql(&statement).await;
        }
    }
    world.overdue(STORES, 1).await;
    // The triggers were created after the stores, so the operator is made to validate again.
    for n in 0..STORES {
        let change = json!({"pollInterval": "1h", "sweepInterval": "2h", "table": {"name": format!("t{n}")}});
        let name = format!("s{n}");
        world.apply::<ExecutionStore>(&name, World::store_with(&name, change)).await.unwrap();
    }
    world.until_failed(STORES, 1).await;
    let listening = format!(
        "SELECT count(*) = 1 FROM pg_stat_activity WHERE usename = '{}' AND query ILIKE 'LISTEN%'",
        world.role
    );
    world.until_true(&listening).await;
    for n in 0..STORES {
        world.store_named_until(&operator, &format!("s{n}"), |s| s.last_sweep.is_some()).await;
    }
    // The one connection that listens reports it: there is no poll.
    world.overdue(STORES, 2).await;
    world.until_failed(STORES, 2).await;
    assert!(most.load(Ordering::Relaxed) <= 4, "{most:?} connections");

    // A lost connection affects all of them, and all of them continue, on no more connections than before.
    world.terminate().await;
    world.until_true(&listening).await;
    world.overdue(STORES, 3).await;
    world.until_failed(STORES, 3).await;
    world.until_true(&format!("SELECT ({}) <= 4", world.connections())).await;
}

#[tokio::test]
async fn what_goes_wrong_with_one_store_leaves_the_others_on_their_connections() {
    let world = World::new("neighbours").await;
    let operator = world.operator();
    world.tables(3, json!({})).await;
    for name in ["s0", "s1", "s2"] {
        world.store_named_until(&operator, name, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    }
    let pids: Vec<i32> = world
        .one(&format!("SELECT array_agg(pid) FROM pg_stat_activity WHERE usename = '{}'", world.role))
        .await;
    assert!(pids.len() <= 3, "{pids:?}");

    world.secret("wrong", json!({"uri": world.url("wrong-password")})).await;
    let wrong = json!({"connection": {"secretRef": {"name": "wrong"}}, "table": {"name": "t0"}});
    world.apply::<ExecutionStore>("s0", World::store_with("s0", wrong)).await.unwrap();
    world
        .store_named_until(&operator, "s0", |s| is(&s.conditions, "Ready", "False", "AuthenticationFailed"))
        .await;
    world.sql("DROP TABLE t1").await;
    world.store_named_until(&operator, "s1", |s| is(&s.conditions, "Ready", "False", "TableNotFound")).await;
    world.delete::<ExecutionStore>("s1").await;
    world.sql("INSERT INTO t2 VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    world.until_true("SELECT status = 'failed' FROM t2").await;
    let there: i64 = world
        .one(&format!("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ('{{{}}}')", list(&pids)))
        .await;
    assert_eq!(usize::try_from(there).unwrap(), pids.len(), "connections of the others were closed");

    // With the right password, they share the connections again.
    world.secret("wrong", json!({"uri": world.url("right/password")})).await;
    world.store_named_until(&operator, "s0", |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    world.until_true(&format!("SELECT ({}) <= 3", world.connections())).await;
    drop(operator);
}

fn list(pids: &[i32]) -> String {
    pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[tokio::test]
async fn tables_that_are_locked_hold_up_no_deadline_of_others() {
    let world = World::new("lockedout").await;
    let operator = world.operator();
    world.tables(3, json!({"executionObjects": {"enabled": true}})).await;
    for name in ["s0", "s1", "s2"] {
        world.store_named_until(&operator, name, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    }
    let mut lock = world.pool.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE t0 IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let waiting =
        format!("FROM pg_stat_activity WHERE usename = '{}' AND wait_event_type = 'Lock'", world.role);
    world.until_true(&format!("SELECT count(*) > 0 {waiting}")).await;
    // Each is due a moment after it is inserted, and is ended although the lock is never released.
    for id in 1..6 {
        for table in ["t1", "t2"] {
            world
                .sql(&format!(
                    "INSERT INTO {table} VALUES ({id}, 1, 1, 'running', now() - interval '24 hours' + interval '1 s')"
                ))
                .await;
        }
        world.until_true(&format!("SELECT (SELECT status FROM t1 WHERE id = {id}) = 'failed'")).await;
        world.until_true(&format!("SELECT (SELECT status FROM t2 WHERE id = {id}) = 'failed'")).await;
        assert!(world.one::<i64>(&format!("SELECT count(*) {waiting}")).await <= 2);
    }
    for name in ["s1", "s2"] {
        world.store_named_until(&operator, name, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    }
    lock.rollback().await.unwrap();
    world.overdue(1, 1).await;
    world.until_true("SELECT status = 'failed' FROM t0").await;
}

#[tokio::test]
async fn a_store_never_takes_the_last_connection_that_others_share() {
    let world = World::new("lastone").await;
    let pools = Pools::new(Dialer::unrestricted());
    let login = url::login(&world.url("right/password"), None).unwrap();
    let open = async || Database::shared(&pools, &login, 3, Duration::from_secs(30)).await.unwrap();
    let one = open().await;
    let alone = [one.read().await.unwrap(), one.read().await.unwrap(), one.read().await.unwrap()];
    drop(alone);

    let other = open().await;
    assert_eq!((one.connections(), one.pool_usage().2, one.pool_usage().3), (2, 3, 2));
    let held = [one.read().await.unwrap(), one.read().await.unwrap()];
    assert!(one.read().now_or_never().is_none(), "a third one would be the last");
    let theirs = other.read().await.unwrap();
    assert!(other.read().now_or_never().is_none(), "there are three");

    // A store that leaves disturbs no other, and its own work ends.
    drop((held, theirs));
    other.close().await;
    let refused = other.read().await.map_err(DbError::from);
    assert!(refused.is_err());
    let alone = [one.read().await.unwrap(), one.read().await.unwrap(), one.read().await.unwrap()];
    drop(alone);

    // Unusable connections are replaced for all, once.
    let third = open().await;
    third.read().await.unwrap().commit().await.unwrap();
    one.renew();
    assert_eq!(third.pool_usage().0, 0, "there are new ones");
    one.read().await.unwrap().commit().await.unwrap();
    third.renew();
    assert_eq!(third.pool_usage().0, 1, "what it says is about the old ones");

    // A store that asks for more connections gets more, for all of them.
    let large = Database::shared(&pools, &login, 5, Duration::from_secs(30)).await.unwrap();
    assert_eq!((large.connections(), one.connections(), one.pool_usage().2), (4, 3, 5));
    for database in [&one, &third, &large] {
        database.close().await;
    }
    world.until_true(&format!("SELECT ({}) = 0", world.connections())).await;
}
