//! Rows that a constraint or a trigger of the table keeps from being failed.

use serde_json::json;

use super::{all_failed_once, left, stale, trigger};
use crate::support::{World, is, message};

#[tokio::test]
async fn a_row_that_cannot_be_failed_holds_up_no_other() {
    let world = World::new("poisoned").await;
    world.sql(&stale(12_000)).await;
    // One row is refused for each of these: a constraint, a trigger that raises, one that divides by zero, one that lacks
    // a permission.
    world
        .sql(
            "ALTER TABLE job_executions ADD CONSTRAINT never CHECK (id <> 1 OR status <> 'failed'); CREATE TABLE secret (id bigint)",
        )
        .await;
    world
        .sql(&trigger(
            "OLD.id IN (2, 6000, 11999)",
            "CASE OLD.id WHEN 2 THEN RAISE 'row 2 is mine'; WHEN 6000 THEN PERFORM 1 / 0; ELSE INSERT INTO secret VALUES (1); END CASE",
        ))
        .await;
    world.execution("e", "1", json!({"timeout": "1h"})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "EnforcementPaused", "True", "ExecutionsRefused") && left(s, 4)
        })
        .await;
    assert!(is(&status.conditions, "Ready", "False", "ExecutionsRefused"));
    assert!(is(&status.conditions, "DatabaseReachable", "True", "Connected"));
    let text = message(&status.conditions, "EnforcementPaused");
    for part in [
        "\"never\"",
        "2: ",
        "row 2 is mine",
        "6000: ",
        "division by zero",
        "11999: ",
        "permission denied for table secret",
    ] {
        assert!(text.contains(part), "{part} not in {text}");
    }
    let counts: String = world
        .one(
            "SELECT concat_ws(' ', (SELECT string_agg(id::text, ',' ORDER BY id) FROM job_executions WHERE status = 'running'), \
             count(*), count(DISTINCT execution_id)) FROM jobexec.events WHERE action = 'Failed'",
        )
        .await;
    assert_eq!(counts, "1,2,6000,11999 11996 11996");
    assert!(operator.log().contains("a stale execution cannot be ended"));

    // Rows that become stale later are failed too, and the refused ones once the obstacles are gone.
    world.sql("INSERT INTO job_executions VALUES (20000, 1, 1, 'running', now() - interval '2 days')").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 20000").await;
    world.sql("DROP TRIGGER bites ON job_executions; ALTER TABLE job_executions DROP CONSTRAINT never").await;
    // Does not wait for the next retry.
    world.request_sweep(&operator).await;
    all_failed_once(&world, &operator, 12_001).await;
    world
        .execution_until(&operator, "e", |s| is(&s.conditions, "Succeeded", "False", "DeadlineExceeded"))
        .await;
}

#[tokio::test]
async fn a_block_of_rows_that_cannot_be_failed_starves_no_other() {
    let world = World::new("block").await;
    // The oldest 6,000, more than a batch, cannot be failed. So many are narrowed down only to hundreds, from either end.
    world.sql(&stale(12_000)).await;
    world
        .sql("UPDATE job_executions SET job_id = -1 WHERE id IN (SELECT id FROM job_executions ORDER BY started_at LIMIT 6000)")
        .await;
    world.sql(&trigger("NEW.status = 'failed' AND NEW.job_id = -1", "RAISE 'not these'")).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "EnforcementPaused", "True", "ExecutionsRefused")
                && s.metrics.as_ref().is_some_and(|m| m.running_executions < 6_200)
        })
        .await;
    let text = message(&status.conditions, "EnforcementPaused");
    assert!(text.contains("not these") && text.ends_with(" more"), "{text}");
    let bad: i64 =
        world.one("SELECT count(*) FROM job_executions WHERE status = 'failed' AND job_id = -1").await;
    assert_eq!(bad, 0);
    // Right behind the block, where it is in one batch with others.
    world.sql("INSERT INTO job_executions SELECT 20000, 1, 1, 'running', max(started_at) FROM job_executions WHERE job_id = -1").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 20000").await;
    world.sql("DROP TRIGGER bites ON job_executions").await;
    // Does not wait for the next retry.
    world.request_sweep(&operator).await;
    all_failed_once(&world, &operator, 12_001).await;
}

#[tokio::test]
async fn a_row_that_a_trigger_leaves_running_is_not_taken_for_failed() {
    let world = World::new("swallow").await;
    world.sql(&stale(12_000)).await;
    world
        .sql("UPDATE job_executions SET job_id = CASE WHEN id <= 5500 THEN -1 ELSE -2 END WHERE id <= 6000")
        .await;
    world
        .sql(&trigger(
            "NEW.status = 'failed' AND NEW.job_id < 0",
            "IF NEW.job_id = -1 THEN RETURN NULL; END IF; NEW := OLD",
        ))
        .await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "EnforcementPaused", "True", "ExecutionsRefused")
                && s.metrics.as_ref().is_some_and(|m| m.running_executions == 6_000)
        })
        .await;
    let text = message(&status.conditions, "EnforcementPaused");
    assert!(
        text.contains("a trigger of the table leaves it unchanged") && text.ends_with("and 5995 more"),
        "{text}"
    );
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.events").await, 6_000);
    world.sql("DROP TRIGGER bites ON job_executions").await;
    // Does not wait for the next retry.
    world.request_sweep(&operator).await;
    all_failed_once(&world, &operator, 12_000).await;
}

#[tokio::test]
async fn a_table_that_refuses_every_row_is_told_and_not_hammered() {
    let world = World::new("refusing").await;
    world.sql(&stale(2_000)).await;
    world.sql(&format!("CREATE SEQUENCE tries; GRANT USAGE ON tries TO {}", world.role)).await;
    world.sql(&trigger("NEW.status = 'failed'", "PERFORM nextval('tries'); RAISE 'nobody fails here'")).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "EnforcementPaused", "True", "ExecutionsRefused")
                && is(&s.conditions, "Ready", "False", "ExecutionsRefused")
        })
        .await;
    assert!(message(&status.conditions, "Ready").contains("nobody fails here"), "{:#?}", status.conditions);
    let tries: i64 = world.one("SELECT last_value FROM tries").await;
    assert!(
        tries < 2_000,
        "{tries} tries: it does not look for one row that is not refused among all of them"
    );
    world.sql("DROP TRIGGER bites ON job_executions").await;
    // Does not wait for the next retry.
    world.request_sweep(&operator).await;
    all_failed_once(&world, &operator, 2_000).await;
}
