//! `table.filter`: rows that do not belong to the application do not exist for the operator.

use jobexec_operator::api::ExecutionStoreStatus;
use serde_json::{Value, json};

use crate::support::{World, is, message};

const SHARED: &str = "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint, execution_number integer, \
     status text, started_at timestamptz, completed_at timestamptz, app text, deleted_at timestamptz, tenant integer)";

fn spec(more: &Value) -> Value {
    let mut spec = json!({"singleActiveExecution": {}, "table": {"filter": [{"column": "app", "in": ["mine", "ours"]},
                          {"column": "deleted_at", "isNull": true}]}});
    for (name, value) in more.as_object().unwrap() {
        spec[name] = value.clone();
    }
    spec
}

#[tokio::test]
async fn rows_of_others_do_not_exist_for_the_operator() {
    let spec = spec(&json!({"longRunning": {"after": "10m"}}));
    let world = World::with("filter", SHARED, &spec).await;
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '30 hours', NULL, 'mine', NULL), \
             (2, 2, 1, 'running', now() - interval '30 hours', NULL, 'other', NULL), \
             (3, 3, 1, 'running', now() - interval '30 hours', NULL, 'mine', now()), \
             (4, 4, 1, 'paused', now(), NULL, 'other', NULL), (5, 5, 1, 'running', NULL, NULL, NULL, NULL), \
             (6, 6, 1, 'running', now() - interval '1 hour', NULL, 'ours', NULL), \
             (7, 6, 2, 'running', now() - interval '30 minutes', NULL, 'other', NULL)",
        )
        .await;
    let operator = world.operator();
    // An object requests something for a row that does not belong to the application.
    world.execution("theirs", "2", json!({"cancel": true})).await;
    world.store(spec.clone()).await;
    let settled = |s: &ExecutionStoreStatus| {
        let alone = s.metrics.as_ref().is_some_and(|m| {
            (m.running_executions, m.long_running_executions, m.stale_executions, m.recent_executions_24h)
                == (1, 1, 0, 1)
        });
        alone && is(&s.conditions, "Consistent", "True", "NoViolations")
    };
    world.store_until(&operator, settled).await;
    let bound =
        |s: &jobexec_operator::api::JobExecutionStatus| is(&s.conditions, "Bound", "False", "RowNotFound");
    let status = world.execution_until(&operator, "theirs", bound).await;
    assert!(
        message(&status.conditions, "Bound").contains("outside of the store's table.filter"),
        "{status:#?}"
    );
    let statuses: Vec<String> = world.one("SELECT array_agg(status ORDER BY id) FROM job_executions").await;
    assert_eq!(statuses, ["failed", "running", "running", "paused", "running", "running", "running"]);
    let told: Vec<String> =
        world.one("SELECT array_agg(DISTINCT execution_id ORDER BY execution_id) FROM jobexec.events").await;
    assert_eq!(told, ["1", "6"]);

    let run = |args: &[&str]| {
        let output = world.jobexec(args);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, _, err) = run(&["explain", "2"]);
    assert!(code == Some(1) && err.contains("execution 2 does not match table.filter"), "{err}");
    assert!(run(&["explain", "22"]).2.contains("execution 22 does not exist in the table"));
    assert_eq!(run(&["list", "--all", "-o", "name"]).1.lines().collect::<Vec<_>>(), ["6", "1"]);
    for args in [&["cancel", "2"][..], &["extend", "2", "--by", "1h"]] {
        let (code, _, err) = run(args);
        assert!(code == Some(1) && err.contains("execution 2 does not exist in the table"), "{args:?} {err}");
    }
    let (_, named, _) = run(&["cleanup", "--yes", "--id", "2", "-o", "json"]);
    assert!(named.contains("NotFound"), "{named}");
    assert_eq!(world.status(2).await, "running");
    let index: String = world.one("SELECT pg_get_indexdef('job_executions_running'::regclass)").await;
    assert!(index.contains("deleted_at IS NULL") && index.contains("'ours'"), "{index}");

    // A row that belongs to the application again is judged again.
    world.sql("UPDATE job_executions SET deleted_at = NULL WHERE id = 3").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 3").await;
    drop(operator);
}

#[tokio::test]
async fn a_filter_that_cannot_be_asked_is_told_with_the_words_of_postgres() {
    let world = World::with("badfilter", SHARED, &json!({})).await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '30 hours')").await;
    world.sql(&format!("GRANT SELECT ON job_executions TO {}", world.role)).await;
    let operator = world.operator();
    for (filter, reason, told) in [
        (
            json!({"column": "tenant", "equals": "seven"}),
            "FilterInvalid",
            "invalid input syntax for type integer: \"seven\"",
        ),
        (json!({"column": "owner", "notNull": true}), "ColumnNotFound", "spec.table.filter[1].column"),
    ] {
        let filter = json!([{"column": "app", "equals": "mine"}, filter]);
        world.store(json!({"table": {"filter": filter}})).await;
        let status =
            world.store_until(&operator, |s| is(&s.conditions, "SchemaValid", "False", reason)).await;
        assert!(message(&status.conditions, "Ready").contains(told), "{:#?}", status.conditions);
    }
    assert_eq!(world.status(1).await, "running");
    world.store(json!({"table": {"filter": [{"column": "tenant", "isNull": true}]}})).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
}

#[tokio::test]
async fn additions_to_the_table_leave_rows_of_others_alone() {
    let world = World::bare("filteradd").await;
    world.sql(SHARED).await;
    let file = world.file("store.yaml", &World::store_with("jobs", spec(&json!({}))).to_string());
    let output = world.jobexec(&["schema", "-f", &file, "--apply", "--with", "check,transitions"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 1, 1, 'completed', now(), now(), 'mine', NULL), \
             (2, 2, 1, 'completed', now(), NULL, 'other', NULL); \
             UPDATE job_executions SET status = 'running' WHERE id = 2",
        )
        .await;
    let refused =
        sqlx::query("UPDATE job_executions SET status = 'running' WHERE id = 1").execute(&world.pool).await;
    assert!(refused.unwrap_err().to_string().contains("cannot become running"));
}
