//! Records that other tables or stores have left for a table: the time that they granted ends no execution and is not
//! lost, and records that cannot be adopted are reported and stop nothing.

use std::time::Duration;

use jobexec_operator::db::{Database, Layout, extend, url, validate};
use serde_json::json;

use crate::identity::{LATER, granted, only_the_granted_one_lives, rebuild, run};
use crate::support::world::TABLE;
use crate::support::{Operator, World, is, message};

const ADOPT: &str = "jobexec.dev/adopt";

/// Leaves a record of unknown ownership: its table is gone, and another store had claimed it.
async fn of_another(world: &World) {
    rebuild(world).await;
    world.sql("DROP TABLE job_executions_old; UPDATE jobexec.stores SET uid = 'other'").await;
}

/// Waits until a left-over record is reported, and returns the message.
async fn left(world: &World, operator: &Operator) -> String {
    let told =
        world.store_until(operator, |s| is(&s.conditions, "AuditAvailable", "False", "RecordsLeft")).await;
    message(&told.conditions, "AuditAvailable")
}

/// Waits until no left-over record is reported.
async fn settled(world: &World, operator: &Operator) {
    world.store_until(operator, |s| is(&s.conditions, "AuditAvailable", "True", "TablesPresent")).await;
}

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

#[tokio::test]
async fn an_execution_that_was_granted_more_time_by_nobody_knows_whom_is_left_alone_until_a_person_says() {
    for (how, lives) in [("1", true), ("discard", false)] {
        let (world, operator) = granted("undecided").await;
        operator.kill();
        of_another(&world).await;
        world.sql(LATER).await;
        let operator = world.operator();
        let text = left(&world, &operator).await;
        only_the_granted_one_lives(&world).await;
        assert!(text.contains("1 executions that were given more time in it are not ended"), "{text}");
        world.request_sweep(&operator).await;
        for more in [&["--older-than", "1h"][..], &["--id", "1", "--include-governed"], &[]] {
            let table = ["cleanup", "--yes", "--table", "public.job_executions"];
            let told = run(&world, &[&table[..], more].concat());
            assert_eq!(world.status(1).await, "running", "{told}");
            assert!(told.contains("jobexec adopt"), "{told}");
        }
        world.annotate(ADOPT, how).await;
        settled(&world, &operator).await;
        world.request_sweep(&operator).await;
        assert_eq!(world.status(1).await == "running", lives);
    }
}

#[tokio::test]
async fn what_was_granted_is_adopted_beside_what_an_object_says() {
    let (world, operator) = granted("beside").await;
    operator.kill();
    of_another(&world).await;
    // Its computed timeout counts too.
    world
        .sql(
            "INSERT INTO jobexec.figures SELECT store_id, 'uid', 'nightly', 1, now(), '[]' FROM jobexec.stores; \
             INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name) \
             VALUES ('jobexec.stores'::regclass, 'job_executions'::regclass, 'public', 'job_executions'); \
             INSERT INTO jobexec.rules (store_id, scope, key, timeout, timeout_rank, timeout_source, overruled, earliest, fixed) \
             SELECT max(store_id), 'execution', '1', interval '24 hours', 10, 'JobExecution/one', '{}', interval '0', false \
             FROM jobexec.stores",
        )
        .await;
    let adopted = run(&world, &["adopt", "--table", "public.job_executions"]);
    assert!(adopted.contains("is the table's own now"), "{adopted}");
    let computed =
        "SELECT count(*) FROM jobexec.figures JOIN jobexec.stores USING (store_id) WHERE policy_uid = 'uid'";
    assert_eq!(world.one::<i64>(computed).await, 1);
    world.execution("one", "1", json!({"timeout": "24h"})).await;
    world.sql(LATER).await;
    let operator = world.operator();
    settled(&world, &operator).await;
    only_the_granted_one_lives(&world).await;
}

#[tokio::test]
async fn an_adoption_that_fails_is_told_and_stops_nothing() {
    let (world, operator) = granted("failing").await;
    operator.kill();
    of_another(&world).await;
    world.sql(LATER).await;
    world.store(json!({"connection": {"statementTimeout": "1s"}})).await;
    let operator = world.operator();
    left(&world, &operator).await;
    let mut held = world.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM jobexec.stores WHERE uid = 'other' FOR UPDATE")
        .execute(&mut *held)
        .await
        .unwrap();
    world.annotate(ADOPT, "1").await;
    let told = |s: &jobexec_operator::api::ExecutionStoreStatus| {
        message(&s.conditions, "AuditAvailable").contains("jobexec.dev/adopt=1 was not carried out")
            && is(&s.conditions, "Ready", "True", "Enforcing")
    };
    let status = world.store_until(&operator, told).await;
    assert_eq!(status.observed_adopt, None, "{status:#?}");
    world.sql("INSERT INTO job_executions VALUES (3, 1, 3, 'running', now() - interval '2 days')").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 3").await;
    held.rollback().await.unwrap();
    world.annotate(ADOPT, "2").await;
    world.store_until(&operator, |s| s.observed_adopt.as_deref() == Some("2")).await;
    settled(&world, &operator).await;
    only_the_granted_one_lives(&world).await;
}

#[tokio::test]
async fn what_was_not_adopted_is_not_said_to_be() {
    // The operator's tables do not exist.
    let world = World::bare("unadopted").await;
    world.sql(TABLE).await;
    world.sql(&format!("GRANT SELECT, UPDATE ON job_executions TO {}", world.role)).await;
    world.secret("db", json!({"uri": world.url("right/password")})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "AuditAvailable", "False", "TablesMissing")).await;
    world.annotate(ADOPT, "1").await;
    let told = |s: &jobexec_operator::api::ExecutionStoreStatus| {
        message(&s.conditions, "AuditAvailable").contains("jobexec.dev/adopt=1 was not carried out")
    };
    let status = world.store_until(&operator, told).await;
    assert_eq!(status.observed_adopt, None);
    assert!(is(&status.conditions, "AuditAvailable", "False", "TablesMissing"), "{status:#?}");
}

#[tokio::test]
async fn a_record_whose_table_is_where_the_login_may_not_look_stays_and_stops_nothing() {
    let (world, operator) = granted("moved").await;
    operator.kill();
    world.sql("CREATE SCHEMA archive; ALTER TABLE job_executions SET SCHEMA archive").await;
    world.sql(TABLE).await;
    world.prepare_for(&json!({})).await;
    let operator = world.operator();
    left(&world, &operator).await;
    world.annotate(ADOPT, "discard-1").await;
    // A request is carried out only once: it does not cover later records.
    let told = |s: &jobexec_operator::api::ExecutionStoreStatus| {
        is(&s.conditions, "AuditAvailable", "False", "RecordsLeft")
            && is(&s.conditions, "Ready", "True", "Enforcing")
            && s.observed_adopt.as_deref() == Some("discard-1")
    };
    world.store_until(&operator, told).await;
    world.sql(&format!("GRANT USAGE ON SCHEMA archive TO {}", world.role)).await;
    world.annotate(ADOPT, "discard-2").await;
    world.store_until(&operator, |s| s.observed_adopt.as_deref() == Some("discard-2")).await;
    settled(&world, &operator).await;
    assert_eq!(
        world.one::<String>("SELECT string_agg(table_schema, ' ' ORDER BY 1) FROM jobexec.stores").await,
        "archive public"
    );
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

/// The record that another store left after it had claimed the table for a while.
const CLAIMED_BEFORE: &str = "INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name, watched_since) \
     VALUES ('jobexec.stores'::regclass, 'job_executions'::regclass, 'public', 'job_executions', now() - interval '1 day')";

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

/// The longer extension counts, a promise counts only with an extension, and overrides of an object come from the object.
#[tokio::test]
async fn of_two_extensions_the_longer_one_is_adopted() {
    let (world, operator) = granted("longer").await;
    operator.kill();
    world.sql("INSERT INTO job_executions VALUES (3, 1, 3, 'running', now() - interval '20 hours')").await;
    of_another(&world).await;
    world.sql(CLAIMED_BEFORE).await;
    let old = "(SELECT min(store_id) FROM jobexec.stores)";
    let own = "(SELECT max(store_id) FROM jobexec.stores)";
    let rule = "INSERT INTO jobexec.rules (store_id, scope, key, extend_by, extend_source, promised, promised_start, promised_by, \
                overruled, earliest, fixed)";
    world
        .sql(&format!(
            "UPDATE jobexec.rules SET promised = '2026-01-04Z', promised_start = '2026-01-01Z', promised_by = '72 hours' \
             WHERE store_id = {old} AND key = '1'; \
             {rule} VALUES ({own}, 'execution', '1', '1 hour', 'CommandLine/x', NULL, NULL, NULL, '{{}}', '0', false), \
             ({own}, 'execution', '2', '9 hours', 'CommandLine/x', NULL, NULL, NULL, '{{}}', '0', false), \
             ({old}, 'execution', '2', '8 hours', 'CommandLine/x', '2026-01-02Z', '2026-01-01Z', '8 hours', '{{}}', '0', false), \
             ({old}, 'execution', '3', '7 hours', 'JobExecution/x', '2026-01-02Z', '2026-01-01Z', '7 hours', '{{}}', '0', false)"
        ))
        .await;
    let adopted = run(&world, &["adopt", "--table", "public.job_executions"]);
    assert!(adopted.contains("is the table's own now"), "{adopted}");
    let rules = "SELECT string_agg(concat_ws(' ', key, extract(epoch FROM extend_by)::bigint / 3600, promised IS NOT NULL), ', ' ORDER BY key) \
                 FROM jobexec.rules JOIN jobexec.stores USING (store_id) WHERE scope = 'execution'";
    assert_eq!(world.one::<String>(rules).await, "1 48 f, 2 9 t, 3 t");
}

#[tokio::test]
async fn so_many_messages_are_counted_and_no_more() {
    let (world, operator) = granted("many").await;
    operator.kill();
    world
        .sql(
            "UPDATE jobexec.stores SET registry = 1, table_oid = 1, uid = 'production'; \
             INSERT INTO jobexec.outbox (store_id, at, event_ids) SELECT store_id, now(), '{}' FROM jobexec.stores, generate_series(1, 2000)",
        )
        .await;
    let operator = world.operator();
    let text = left(&world, &operator).await;
    assert!(text.contains("delivers more than 1000 messages and events"), "{text}");
    let adopted = run(&world, &["adopt", "--discard", "--table", "public.job_executions"]);
    assert!(adopted.contains("2000 messages and events were dropped"), "{adopted}");
}
