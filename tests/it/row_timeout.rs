//! Executions whose row has a timeout or a deadline.

use jobexec_operator::api::ExecutionStore;
use serde_json::json;

use crate::support::world::TABLE;
use crate::support::{World, is, message};

/// Rows of jobs of the type `etl`, for which a policy gives ten hours.
async fn filled(test: &str, column: &str, rows: &str) -> World {
    let name = column.split(' ').next().unwrap();
    let field = if name == "until" { "deadlineAt" } else { "timeout" };
    let table =
        TABLE.replace("completed_at timestamptz", &format!("completed_at timestamptz, kind text, {column}"));
    let spec = json!({"table": {"columns": {"jobType": "kind", field: name}}, "pollInterval": "1h"});
    let world = World::with(test, &table, &spec).await;
    world
        .sql(&format!(
            "INSERT INTO job_executions (id, job_id, execution_number, status, kind, started_at, {name}) \
             SELECT id, id, 1, 'running', kind, statement_timestamp() - started, own FROM (VALUES {rows}) AS r (id, kind, started, own)"
        ))
        .await;
    world
        .policy("etl", json!({"selector": {"jobTypes": ["etl"]}, "timeout": "10h", "onStale": "Cancel"}))
        .await;
    world.execution("five", "5", json!({"timeout": "4h"})).await;
    world.store(spec).await;
    world
}

/// Waits for the end of these executions, and returns the ends of all: id, action and source.
async fn ends(world: &World, of: usize) -> Vec<String> {
    world
        .until_true(&format!("SELECT count(*) >= {of} FROM jobexec.events WHERE reason = 'DeadlineExceeded'"))
        .await;
    world
        .one(
            "SELECT array_agg(concat_ws(' ', execution_id, action, source) ORDER BY execution_id) FROM jobexec.events \
             WHERE reason = 'DeadlineExceeded'",
        )
        .await
}

#[tokio::test]
async fn a_timeout_of_the_row_overrides_that_of_the_store_and_of_policies() {
    let world = filled(
        "rowtimeout",
        "max_run interval",
        "(1, 'mail', interval '3 hours', interval '2 hours'), \
         (2, 'mail', interval '30 hours', interval '48 hours'), (3, 'mail', interval '30 hours', NULL), \
         (4, 'mail', interval '3 hours', interval '-2 hours'), (5, 'mail', interval '3 hours', interval '2 hours'), \
         (6, 'etl', interval '3 hours', interval '2 hours'), (7, 'etl', interval '11 hours', interval '12 hours'), \
         (8, 'etl', interval '11 hours', interval '0'), \
         (10, 'mail', interval '10 days', make_interval(years => 5000000, days => -1800000000, hours => 1)), \
         (11, 'mail', interval '29 days', interval '1 mon'), \
         (9, 'mail', interval '2 hours' - interval '4 seconds', interval '2 hours')",
    )
    .await;
    // No instant plus the interval of 10 exists.
    let operator = world.operator();
    let expected = [
        "1 Failed column max_run".to_owned(),
        "3 Failed ExecutionStore/jobs".to_owned(),
        "6 Cancelled column max_run".to_owned(),
        "8 Cancelled ExecutionPolicy/etl".to_owned(),
        // Although the store is polled once an hour.
        "9 Failed column max_run".to_owned(),
    ];
    assert_eq!(ends(&world, expected.len()).await, expected);
    let exact: bool = world
        .one("SELECT deadline = started_at + interval '2 hours' FROM jobexec.events WHERE execution_id = '9'")
        .await;
    assert!(exact);
    let listed = world.jobexec(&["explain", "2"]);
    let listed = String::from_utf8_lossy(&listed.stdout);
    assert!(listed.contains("column max_run"), "{listed}");
    assert!(operator.stop().success());
}

#[tokio::test]
async fn a_timeout_of_the_row_may_be_a_number_of_seconds() {
    let world = filled(
        "rowseconds",
        "max_run double precision",
        "(1, 'mail', interval '3 hours', 7200.0::float8), (2, 'mail', interval '30 hours', 'NaN'), \
         (3, 'mail', interval '30 hours', 'infinity'), (4, 'mail', interval '3 hours', '-infinity'), \
         (5, 'mail', interval '3 hours', 7200), (6, 'mail', interval '3 hours', 0), (7, 'mail', interval '3 hours', 1e-300)",
    )
    .await;
    let operator = world.operator();
    assert_eq!(ends(&world, 1).await, ["1 Failed column max_run"]);
    assert!(operator.stop().success());
}

#[tokio::test]
async fn a_deadline_of_the_row_counts_if_it_is_after_its_start() {
    let world = filled(
        "rowdeadline",
        "until timestamptz",
        "(1, 'mail', interval '3 hours', now() - interval '1 hour'), \
         (2, 'mail', interval '30 hours', now() + interval '1 hour'), \
         (3, 'mail', interval '30 hours', now() - interval '40 hours'), \
         (4, 'mail', interval '3 hours', now() - interval '4 hours'), \
         (5, 'mail', interval '3 hours', now() - interval '1 hour'), \
         (6, 'mail', interval '30 hours', 'infinity'), (7, 'mail', NULL, now() - interval '1 hour')",
    )
    .await;
    let operator = world.operator();
    // The last one has no start: its deadline has passed for certain.
    let expected = ["1 Failed column until", "3 Failed ExecutionStore/jobs", "7 Failed column until"];
    assert_eq!(ends(&world, expected.len()).await, expected);
    let exact: bool = world
        .one("SELECT (SELECT deadline FROM jobexec.events WHERE execution_id = '1') = until FROM job_executions WHERE id = 1")
        .await;
    assert!(exact);

    let both = json!({"table": {"columns": {"timeout": "max_run", "deadlineAt": "until"}}});
    let refused = world.apply::<ExecutionStore>("jobs", World::store_with("jobs", both)).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("set one of them"), "{refused}");
    world.store(json!({"table": {"columns": {"timeout": "kind"}}})).await;
    world
        .store_until(&operator, |s| {
            is(&s.conditions, "SchemaValid", "False", "ColumnTypeUnsupported")
                && message(&s.conditions, "SchemaValid").contains("spec.table.columns.timeout")
        })
        .await;
}
