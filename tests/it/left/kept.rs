//! Time that people granted is kept when tables are renamed, built again or claimed by another store, and ends no
//! execution of another table.

use std::time::Duration;

use jobexec_operator::db::{Database, Layout, extend, url, validate};
use serde_json::json;

use super::{CLAIMED_BEFORE, left, of_another};
use crate::identity::{LATER, granted, only_the_granted_one_lives, rebuild, run};
use crate::support::world::TABLE;
use crate::support::{World, is};

#[tokio::test]
async fn columns_of_the_table_with_names_of_ours_lose_nothing() {
    let (world, operator) = granted("names").await;
    world
        .sql(
            "ALTER TABLE job_executions ADD COLUMN key text DEFAULT 'x', ADD COLUMN scope text DEFAULT 'x', \
             ADD COLUMN store_id text DEFAULT 'x', ADD COLUMN execution_id text DEFAULT 'x', ADD COLUMN kind text DEFAULT 'x', \
             ADD COLUMN since text DEFAULT 'x', ADD COLUMN k text DEFAULT 'x', ADD COLUMN moves text DEFAULT 'x', \
             ADD COLUMN promised text DEFAULT 'x', ADD COLUMN extend_by text DEFAULT 'x', ADD COLUMN extend_source text DEFAULT 'x', \
             ADD COLUMN earliest text DEFAULT 'x', ADD COLUMN action text DEFAULT 'x', ADD COLUMN reason text DEFAULT 'x', \
             ADD COLUMN uid text DEFAULT 'x', ADD COLUMN table_oid text DEFAULT 'x', ADD COLUMN detail text DEFAULT 'x'",
        )
        .await;
    operator.kill();
    rebuild(&world).await;
    world.sql(LATER).await;
    let operator = world.operator();
    left(&world, &operator).await;
    only_the_granted_one_lives(&world).await;
    let told = run(&world, &["list", "--overdue", "-o", "name", "--table", "public.job_executions"]);
    assert_eq!(told, "", "nor does any other statement stumble over them");
}

#[tokio::test]
async fn of_many_records_that_are_left_the_newest_count() {
    let world = World::new("manyleft").await;
    world
        .sql(
            "INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name) \
             SELECT 1, n, 'public', 'job_executions' FROM generate_series(1, 10) AS n; \
             INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '20 hours'), \
             (2, 1, 2, 'running', now() - interval '20 hours')",
        )
        .await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    run(&world, &["extend", "1", "--by", "48h"]);
    operator.kill();
    rebuild(&world).await;
    world.sql(LATER).await;
    let _operator = world.operator();
    only_the_granted_one_lives(&world).await;
}

#[tokio::test]
async fn nobody_is_given_more_time_in_a_record_that_a_person_has_to_choose_first() {
    let (world, operator) = granted("unchosen").await;
    operator.kill();
    rebuild(&world).await;
    let refused = run(&world, &["extend", "2", "--by", "1h", "--table", "public.job_executions"]);
    assert!(refused.contains("were given more time") && refused.contains("jobexec adopt"), "{refused}");
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.stores").await, 1);
}

#[tokio::test]
async fn a_table_that_was_entered_before_the_first_claim_keeps_what_people_granted() {
    let (world, operator) = granted("entered").await;
    operator.kill();
    rebuild(&world).await;
    // As a command line did that does not refuse this.
    world
        .sql(
            "INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name) \
             VALUES ('jobexec.stores'::regclass, 'job_executions'::regclass, 'public', 'job_executions')",
        )
        .await;
    world.sql(LATER).await;
    let direct = run(&world, &["cleanup", "--yes", "--id", "1", "--table", "public.job_executions"]);
    assert_eq!(world.status(1).await, "running", "{direct}");
    assert!(direct.contains("left alone until a person has said"), "{direct}");
    let _operator = world.operator();
    only_the_granted_one_lives(&world).await;
}

#[tokio::test]
async fn names_that_are_swapped_under_a_running_operator_end_nothing_by_the_record_of_the_other_table() {
    let (world, operator) = granted("swapping").await;
    world.sql(&TABLE.replace("job_executions", "others")).await;
    world.prepare_for(&json!({"table": {"name": "others"}})).await;
    world
        .sql(
            "INSERT INTO others SELECT * FROM job_executions; UPDATE others SET started_at = now() - interval '30 hours'; \
             INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name) \
             VALUES ('jobexec.stores'::regclass, 'others'::regclass, 'public', 'others'); \
             INSERT INTO jobexec.rules (store_id, scope, key, extend_by, extend_source, overruled, earliest, fixed) \
             SELECT store_id, 'execution', '2', interval '48 hours', 'CommandLine/somebody', '{}', interval '0', false \
             FROM jobexec.stores WHERE table_name = 'others'",
        )
        .await;
    world
        .sql(
            "ALTER TABLE job_executions RENAME TO tmp; ALTER TABLE others RENAME TO job_executions; \
             ALTER TABLE tmp RENAME TO others",
        )
        .await;
    let paused = |s: &jobexec_operator::api::ExecutionStoreStatus| {
        is(&s.conditions, "EnforcementPaused", "True", "RecordsContradict")
    };
    world.store_until(&operator, paused).await;
    assert_eq!((world.status(1).await, world.status(2).await), ("running".into(), "running".into()));
}

#[tokio::test]
async fn what_people_granted_is_dropped_by_no_look_at_another_table() {
    let (world, operator) = granted("dropped").await;
    operator.kill();
    let options = url::parse(&world.superuser(), None).unwrap();
    let database = Database::connect(options, 2, Duration::from_secs(30)).await.unwrap();
    world.sql(&TABLE.replace("job_executions", "others")).await;
    let mapping = async || validate::validate(&database, &Layout::default()).await.unwrap().unwrap().mapping;
    let store_id = world.one("SELECT store_id FROM jobexec.stores").await;
    let granted = "SELECT count(*) FROM jobexec.rules WHERE extend_by = '48 hours'";
    world.sql("ALTER TABLE job_executions RENAME TO tmp; ALTER TABLE others RENAME TO job_executions").await;
    extend::prune(&database, &mapping().await, store_id).await.unwrap();
    assert_eq!(world.one::<i64>(granted).await, 1);
    world.sql("ALTER TABLE job_executions RENAME TO others; ALTER TABLE tmp RENAME TO job_executions").await;
    world.sql("DELETE FROM job_executions").await;
    extend::prune(&database, &mapping().await, store_id).await.unwrap();
    assert_eq!(world.one::<i64>(granted).await, 0, "it has ended");
}

/// The table is built again, and filled only after a store has claimed it.
#[tokio::test]
async fn executions_that_come_into_a_claimed_table_keep_what_people_granted() {
    let (world, operator) = granted("filled").await;
    operator.kill();
    world
        .sql(
            "ALTER TABLE job_executions RENAME TO job_executions_old; \
             CREATE TABLE job_executions (LIKE job_executions_old INCLUDING ALL)",
        )
        .await;
    world.prepare_for(&json!({})).await;
    let operator = world.operator();
    left(&world, &operator).await;
    world.sql(&format!("INSERT INTO job_executions SELECT * FROM job_executions_old; {LATER}")).await;
    only_the_granted_one_lives(&world).await;
    operator.kill();
    // The next claim finds the execution alive.
    let _operator = world.operator();
    let kept = "SELECT count(*) = 1 FROM jobexec.rules JOIN jobexec.stores USING (store_id) \
                WHERE table_oid = 'job_executions'::regclass AND key = '1' AND extend_by = '48 hours'";
    world.until_true(kept).await;
    assert_eq!(world.status(1).await, "running");
}

#[tokio::test]
async fn a_table_that_another_store_claimed_meanwhile_keeps_what_people_granted() {
    let (world, operator) = granted("between").await;
    operator.kill();
    rebuild(&world).await;
    world.sql(CLAIMED_BEFORE).await;
    world.sql(LATER).await;
    let _operator = world.operator();
    only_the_granted_one_lives(&world).await;
    let kept = "SELECT count(*) FROM jobexec.rules JOIN jobexec.stores USING (store_id) \
                WHERE table_oid = 'job_executions'::regclass AND key = '1' AND extend_by = '48 hours'";
    assert_eq!(world.one::<i64>(kept).await, 1);
}

#[tokio::test]
async fn the_command_line_ends_nobody_before_a_table_that_was_renamed_is_claimed() {
    let (world, operator) = granted("unclaimed").await;
    operator.kill();
    world.sql(&TABLE.replace("job_executions", "others")).await;
    world
        .sql(
            "INSERT INTO others SELECT * FROM job_executions; \
             INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name, table_owner, uid, namespace, name, watched_since) \
             SELECT registry, 'others'::regclass, 'public', 'others', table_owner, uid, namespace, name, watched_since FROM jobexec.stores; \
             DROP TABLE job_executions; ALTER TABLE others RENAME TO job_executions",
        )
        .await;
    world.prepare_for(&json!({})).await;
    world.sql(LATER).await;
    let told = run(&world, &["cleanup", "--yes", "--id", "1", "--table", "public.job_executions"]);
    assert_eq!(world.status(1).await, "running", "{told}");
    assert!(told.contains("left alone until a person has said"), "{told}");
}

#[tokio::test]
async fn no_record_with_what_people_granted_is_hidden_by_newer_ones() {
    let (world, operator) = granted("hidden").await;
    operator.kill();
    of_another(&world).await;
    world
        .sql(
            "INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name) \
             SELECT 1, n, 'public', 'job_executions' FROM generate_series(1, 12) AS n",
        )
        .await;
    let refused = run(&world, &["cleanup", "--yes", "--id", "1", "--table", "public.job_executions"]);
    assert!(refused.contains("were given more time"), "{refused}");
    world.sql(LATER).await;
    let operator = world.operator();
    let text = left(&world, &operator).await;
    assert!(text.contains("1 executions that were given more time in it are not ended"), "{text}");
    only_the_granted_one_lives(&world).await;
}

#[tokio::test]
async fn where_nothing_can_be_recorded_what_was_granted_to_a_table_of_the_name_holds_everything_up() {
    let (world, operator) = granted("unrecorded").await;
    operator.kill();
    rebuild(&world).await;
    world.sql(&format!("REVOKE INSERT ON jobexec.events FROM {}", world.role)).await;
    world.sql(LATER).await;
    let operator = world.operator();
    world.store_until(&operator, |s| is(&s.conditions, "EnforcementPaused", "True", "TablesMissing")).await;
    world.store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.stale_executions == 2)).await;
    assert_eq!((world.status(1).await, world.status(2).await), ("running".into(), "running".into()));
}
