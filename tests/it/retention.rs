//! Old records are deleted, except for those of executions that still run.

use chrono::TimeDelta;
use jobexec_operator::db::retention::{BATCH, Pruned, prune};
use jobexec_operator::db::validate::validate;
use jobexec_operator::db::{Database, Layout, Mapping};
use serde_json::json;

use crate::support::World;

/// Opens the database with the permissions of the operator's role, and validates its table.
async fn open(world: &World) -> (Database, Mapping) {
    let options: sqlx::postgres::PgConnectOptions = world.url("right/password").parse().unwrap();
    let database = Database::connect(options, 1, std::time::Duration::from_secs(30)).await.unwrap();
    let store: jobexec_operator::api::ExecutionStoreSpec =
        serde_json::from_value(json!({"connection": {"secretRef": {"name": "-"}}})).unwrap();
    let mapping = validate(&database, &Layout::of(&store)).await.unwrap().unwrap().mapping;
    (database, mapping)
}

const STORES: &str = "INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name, uid) \
                      VALUES ('jobexec.stores'::regclass, 'job_executions'::regclass, 'public', 'job_executions', 'a'), \
                      ('jobexec.stores'::regclass, 1, 'public', 'others', 'b'), ('jobexec.stores'::regclass, 2, 'public', 'left', NULL)";

/// Inserts this many records of store 1 with this age, for a row that does not exist.
async fn records(world: &World, count: i64, age: &str) {
    world
        .sql(&format!(
            "INSERT INTO jobexec.events (at, store_id, execution_id, action, reason, source) \
             SELECT now() - interval '{age}', 1, '99', 'Failed', 'r', 's' FROM generate_series(1, {count})"
        ))
        .await;
}

const KEEP: TimeDelta = TimeDelta::days(90);

#[tokio::test]
async fn old_records_go_but_for_those_of_running_executions_and_of_others() {
    let world = World::new("retention").await;
    world.sql(STORES).await;
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 1, 1, 'failed', now() - interval '100 days', now()), \
                 (2, 1, 2, 'running', now() - interval '100 days', NULL); \
             INSERT INTO jobexec.events (at, store_id, execution_id, action, reason, source, note) \
             SELECT now() - age, store, id, action, 'r', 's', note FROM (VALUES \
                 ('91 days'::interval, 1, '1', 'Failed', '-'), ('91 days', 1, '1', 'Warned', '-'), \
                 ('91 days', 1, '2', 'Warned', 'runs'), ('91 days', 1, '2', 'DeadlineMoved', 'runs'), \
                 ('91 days', 1, 'no id', 'Failed', '-'), ('91 days', 1, '99999999999999999999', 'Failed', '-'), \
                 ('89 days', 1, '1', 'Failed', 'young'), \
                 ('91 days', 2, '1', 'Failed', 'of another'), \
                 ('91 days', 3, '1', 'Failed', 'of nobody')) AS v (age, store, id, action, note)",
        )
        .await;
    let (database, mapping) = open(&world).await;
    let left = "SELECT string_agg(note, ', ' ORDER BY event_id) FROM jobexec.events";
    assert_eq!(prune(&database, &mapping, 1, KEEP, 0).await.unwrap(), Pruned::All);
    assert_eq!(world.one::<String>(left).await, "runs, runs, young, of another, of nobody");
    // Once it has ended, its records are deleted too. A short retention of one store does not affect the records of
    // another.
    world.sql("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 2").await;
    assert_eq!(prune(&database, &mapping, 1, TimeDelta::days(1), 0).await.unwrap(), Pruned::All);
    assert_eq!(world.one::<String>(left).await, "of another, of nobody");
}

/// Inserts a sweep of this store that began this long ago, and whether it was announced.
async fn swept(world: &World, store: i32, age: &str, announced: &str) {
    world
        .sql(&format!(
            "INSERT INTO jobexec.sweeps VALUES (gen_random_uuid(), {store}, '{age}', now() - interval '{age}', 1, {announced})"
        ))
        .await;
}

#[tokio::test]
async fn old_sweeps_go_with_their_records_where_the_login_may() {
    let world = World::new("oldsweeps").await;
    world.sql(STORES).await;
    for (store, age, announced) in [
        (1, "91 days", "now()"),
        (1, "92 days", "NULL"),
        (1, "89 days", "now()"),
        (1, "1 hour", "NULL"),
        (2, "93 days", "now()"),
    ] {
        swept(&world, store, age, announced).await;
    }
    world.sql(&format!("REVOKE DELETE ON jobexec.sweeps FROM {}", world.role)).await;
    let (database, mapping) = open(&world).await;
    let left = "SELECT string_agg(trigger, ', ' ORDER BY started_at) FROM jobexec.sweeps";
    assert_eq!(prune(&database, &mapping, 1, KEEP, 0).await.unwrap(), Pruned::All);
    assert_eq!(world.one::<String>(left).await, "93 days, 92 days, 91 days, 89 days, 1 hour");
    world.sql(&format!("GRANT DELETE ON jobexec.sweeps TO {}", world.role)).await;
    assert_eq!(prune(&database, &mapping, 1, KEEP, 0).await.unwrap(), Pruned::All);
    assert_eq!(world.one::<String>(left).await, "93 days, 89 days, 1 hour");
}

#[tokio::test]
async fn no_statement_is_about_more_than_a_piece() {
    let world = World::new("pieces").await;
    world.sql(STORES).await;
    records(&world, BATCH, "91 days").await;
    // One with a wrong date, and then young ones.
    records(&world, 1, "-1 days").await;
    records(&world, BATCH, "91 days").await;
    records(&world, BATCH, "1 day").await;
    let (database, mapping) = open(&world).await;
    let (mut after, mut left) = (0, Vec::new());
    while let Pruned::UpTo(record) = prune(&database, &mapping, 1, KEEP, after).await.unwrap() {
        assert!(record > after);
        after = record;
        left.push(world.one::<i64>("SELECT count(*) FROM jobexec.events").await);
    }
    assert_eq!(left, [2 * BATCH + 1, BATCH + 2, BATCH + 1]);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.events").await, BATCH + 1);
}

#[tokio::test]
async fn without_the_right_they_stay_and_that_is_said() {
    let world = World::new("unpruned").await;
    world.sql(STORES).await;
    records(&world, 1, "91 days").await;
    world.sql(&format!("REVOKE DELETE ON jobexec.events FROM {}", world.role)).await;
    let (database, mapping) = open(&world).await;
    assert_eq!(prune(&database, &mapping, 1, KEEP, 0).await.unwrap(), Pruned::Forbidden);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.events").await, 1);
}
