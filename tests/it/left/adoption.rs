//! Adopting and discarding records: by annotation, from the command line, and when it fails.

use serde_json::json;

use super::{CLAIMED_BEFORE, left, of_another, settled};
use crate::identity::{LATER, granted, only_the_granted_one_lives, run};
use crate::support::world::TABLE;
use crate::support::{World, is, message};

const ADOPT: &str = "jobexec.dev/adopt";

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
