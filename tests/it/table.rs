//! Tables that do not match their store: reported in a condition and fixed without a restart.

use jobexec_operator::api::ExecutionStore;
use kube::api::DeleteParams;
use serde_json::json;

use crate::support::world::TABLE;
use crate::support::{World, is, message};

#[tokio::test]
async fn a_table_that_does_not_fit_is_told_and_mended() {
    let world = World::bare("table").await;
    world.secret("db", json!({"uri": world.url("right/password")})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let invalid = async |reason: &str, hint: &str| {
        world
            .store_until(&operator, |s| {
                is(&s.conditions, "SchemaValid", "False", reason)
                    && is(&s.conditions, "Ready", "False", reason)
                    && message(&s.conditions, "Ready").contains(hint)
            })
            .await;
    };
    invalid("TableNotFound", "there is no table \"public\".\"job_executions\"").await;
    world.sql("CREATE MATERIALIZED VIEW job_executions AS SELECT 1 AS id").await;
    invalid("NotATable", "neither a table, ordinary or partitioned, nor a view").await;
    world.sql("DROP MATERIALIZED VIEW job_executions").await;
    world
        .sql(&TABLE.replace("started_at timestamptz", "started_at text").replace("completed_at", "ended_at"))
        .await;
    invalid("ColumnTypeUnsupported", "\"started_at\" is of type text").await;
    world.sql("ALTER TABLE job_executions ALTER started_at TYPE timestamptz USING NULL").await;
    invalid("ColumnNotFound", "spec.table.columns.completedAt").await;
    world.sql("ALTER TABLE job_executions RENAME ended_at TO completed_at").await;
    invalid("InsufficientPrivilege", "GRANT SELECT (\"id\", \"job_id\"").await;
    world.sql(&format!("GRANT SELECT ON job_executions TO {}", world.role)).await;
    invalid("InsufficientPrivilege", "GRANT UPDATE (\"status\", \"completed_at\")").await;

    // Rows that cannot be changed can still be read.
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    let seen =
        world.store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.stale_executions == 1)).await;
    assert!(is(&seen.conditions, "EnforcementPaused", "True", "InsufficientPrivilege"));
    assert_eq!(world.status(1).await, "running");

    // Without the operator's own tables rows are failed nevertheless, and the status reports that nothing is recorded.
    world.sql(&format!("GRANT UPDATE (status, completed_at) ON job_executions TO {}", world.role)).await;
    let status = world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    assert!(is(&status.conditions, "AuditAvailable", "False", "TablesMissing"), "{:#?}", status.conditions);
    assert!(message(&status.conditions, "AuditAvailable").contains("jobexec schema --apply --role"));
    assert_eq!(world.status(1).await, "failed");
    let event = world.event_until(&operator, "jobs", "StaleExecutionsFailed").await;
    assert!(event.starts_with("failed 1 stale execution: 1 (job 1, #1, 48.0 h)"), "{event}");

    world.prepare().await;
    world.store_until(&operator, |s| is(&s.conditions, "AuditAvailable", "True", "TablesPresent")).await;
}

#[tokio::test]
async fn an_enum_must_have_every_mapped_status() {
    let world = World::bare("enum").await;
    world.sql("CREATE TYPE status AS ENUM ('queued', 'running', 'completed', 'failed')").await;
    world.sql(&TABLE.replace("status text", "status status")).await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    world.prepare().await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status =
        world.store_until(&operator, |s| is(&s.conditions, "SchemaValid", "False", "StatusNotInEnum")).await;
    assert!(message(&status.conditions, "Ready").contains("\"scheduled\" is not a label"));
    world.store(json!({"table": {"statuses": {"scheduled": ["queued"], "cancelled": []}}})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    assert_eq!(world.status(1).await, "failed");
}

#[tokio::test]
async fn statuses_may_be_numbers_or_booleans() {
    let world = World::bare("numbers").await;
    world.sql(&TABLE.replace("status text", "status smallint")).await;
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 1, 1, 1, now() - interval '2 days', NULL), \
             (2, 2, 1, 2, now() - interval '2 days', now()), (3, 3, 1, 1, now(), NULL), (4, 4, 1, 7, now(), NULL)",
        )
        .await;
    let numbers = |ignored: &str| {
        json!({"table": {"statuses": {"scheduled": ["0"], "running": ["1"], "completed": ["2"], "failed": ["3"],
            "cancelled": ["4"], "ignored": [ignored]}}})
    };
    world.prepare_for(&numbers("7")).await;
    let operator = world.operator();
    for wrong in ["running", "07", "70000"] {
        world.store(numbers(wrong)).await;
        world
            .store_until(&operator, |s| {
                is(&s.conditions, "SchemaValid", "False", "StatusNotInType")
                    && message(&s.conditions, "SchemaValid").starts_with(&format!("{wrong:?} is not how"))
            })
            .await;
    }
    assert_eq!(world.one::<i64>("SELECT count(*) FROM job_executions WHERE status = 1").await, 2);
    world.store(numbers("7")).await;
    world.until_true("SELECT status = 3 AND completed_at IS NOT NULL FROM job_executions WHERE id = 1").await;
    world.store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.running_executions == 1)).await;

    // Whether it runs, and nothing else.
    world.sql("ALTER TABLE job_executions RENAME TO numbers").await;
    world.sql(&TABLE.replace("status text", "status boolean")).await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, true, now() - interval '2 days')").await;
    let booleans = json!({"table": {"statuses": {"scheduled": [], "running": ["true"], "completed": [],
        "failed": ["false"], "cancelled": []}}});
    world.prepare_for(&booleans).await;
    world.store(booleans).await;
    world.until_true("SELECT NOT status FROM job_executions WHERE id = 1").await;
}

#[tokio::test]
async fn rows_that_contradict_themselves_are_counted_and_left_alone() {
    let world = World::new("violations").await;
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 1, 1, 'runing', now() - interval '2 days', NULL), \
             (2, 1, 2, 'running', NULL, NULL), (3, 1, 3, 'completed', now(), NULL), (4, 1, 4, 'completed', now(), now())",
        )
        .await;
    let before: String = world.one("SELECT string_agg(t::text, '|' ORDER BY id) FROM job_executions t").await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status =
        world.store_until(&operator, |s| is(&s.conditions, "Consistent", "False", "UnmappedStatus")).await;
    let text = message(&status.conditions, "Consistent");
    for part in
        ["1 with a status", "\"runing\"", "1 running without a start time", "1 finished without an end time"]
    {
        assert!(text.contains(part), "{part} not in {text}");
    }
    let found = status.violations.unwrap();
    assert_eq!(
        (found.unmapped_status, found.running_without_started_at, found.finished_without_completed_at),
        (1, 1, 1)
    );
    assert_eq!(
        world.one::<String>("SELECT string_agg(t::text, '|' ORDER BY id) FROM job_executions t").await,
        before
    );

    world.sql("DELETE FROM job_executions WHERE id < 4").await;
    world.request_sweep(&operator).await;
    world.store_until(&operator, |s| is(&s.conditions, "Consistent", "True", "NoViolations")).await;
}

#[tokio::test]
async fn names_that_need_quotes_and_other_types_work() {
    let world = World::bare("names").await;
    world
        .sql(
            "CREATE SCHEMA \"Group\"; CREATE TABLE \"Group\".\"Order\" (\"select\" uuid PRIMARY KEY, \"from\" text, \
             \"where\" smallint, \"State\" varchar(20), \"end\" timestamp, \"limit\" timestamp, \"table\" text); \
             INSERT INTO \"Group\".\"Order\" VALUES \
             ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'it''s', 7, 'it''s on', (now() AT TIME ZONE 'Europe/Berlin') - interval '61 minutes'), \
             ('b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'b', 8, 'busy', (now() AT TIME ZONE 'Europe/Berlin') - interval '55 minutes')",
        )
        .await;
    let spec = json!({
        "defaultTimeout": "1h",
        "table": {
            "schema": "Group", "name": "Order", "timeZone": "Europe/Berlin",
            "columns": {"id": "select", "jobId": "from", "executionNumber": "where", "status": "State",
                        "startedAt": "end", "completedAt": "limit", "error": "table"},
            "statuses": {"running": ["busy", "it's on"], "failed": ["broken\\bad", "failed"]},
        },
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, World::store_with("jobs", spec.clone()).to_string()).unwrap();
    let output =
        world.jobexec(&["schema", "--apply", "--role", &world.role, "-f", file.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    world.secret("db", json!({"uri": world.url("right/password")})).await;
    let operator = world.operator();
    world.execution("e", "A0EEBC999C0B4EF8BB6D6BB9BD380A11", json!({})).await;
    world.store(spec).await;
    let status = world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    assert_eq!(status.last_sweep.unwrap().failed, 1);
    let row: String = world
        .one(
            "SELECT concat_ws('|', \"State\", \"table\", \"limit\" - \"end\" < interval '62 minutes') \
             FROM \"Group\".\"Order\" WHERE \"where\" = 7",
        )
        .await;
    assert_eq!(
        row,
        "broken\\bad|DeadlineExceeded: still running past its deadline, failed by the jobexec operator|t"
    );
    let row =
        world.execution_until(&operator, "e", |s| is(&s.conditions, "Finished", "True", "Failed")).await;
    assert_eq!((row.job_id.as_deref(), row.execution_number), (Some("it's"), Some(7)));
    let index: bool = world
        .one("SELECT EXISTS (SELECT FROM pg_indexes WHERE indexname = 'Order_running' AND schemaname = 'Group')")
        .await;
    assert!(index);
}

#[tokio::test]
async fn a_table_has_one_store() {
    let world = World::new("claims").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    world.apply::<ExecutionStore>("second", World::store_with("second", json!({}))).await.unwrap();
    let second = world
        .store_named_until(&operator, "second", |s| is(&s.conditions, "Ready", "False", "TableClaimed"))
        .await;
    let holder = format!("ExecutionStore {}/jobs looks after this table", world.namespace);
    assert!(message(&second.conditions, "Ready").contains(&holder), "{:#?}", second.conditions);

    world.api::<ExecutionStore>().delete("jobs", &DeleteParams::default()).await.unwrap();
    world.store_named_until(&operator, "second", |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
}

#[tokio::test]
async fn ids_must_be_unique() {
    let world = World::bare("unique").await;
    // Two executions may have the id 7 here: only the start distinguishes them in the index.
    world.sql(&TABLE.replace("id bigint PRIMARY KEY", "id bigint NOT NULL, UNIQUE (id, started_at)")).await;
    world
        .sql(
            "INSERT INTO job_executions (id, job_id, execution_number, status, started_at) VALUES \
              (7, 1, 1, 'running', now() - interval '2 days'), (7, 1, 2, 'running', now())",
        )
        .await;
    world.prepare().await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status =
        world.store_until(&operator, |s| is(&s.conditions, "SchemaValid", "False", "IdNotUnique")).await;
    assert!(message(&status.conditions, "Ready").contains("primary key or a unique index"));
    assert_eq!(world.one::<i64>("SELECT count(*) FROM job_executions WHERE status = 'running'").await, 2);
}

#[tokio::test]
async fn partitions_and_times_of_few_digits_work() {
    let world = World::bare("partitions").await;
    world
        .sql(
            "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint, execution_number integer, \
             status varchar(9), started_at timestamp(0), completed_at timestamp(0)) PARTITION BY RANGE (id); \
             CREATE TABLE low PARTITION OF job_executions FOR VALUES FROM (0) TO (100); \
             CREATE TABLE high PARTITION OF job_executions FOR VALUES FROM (100) TO (200); \
             INSERT INTO job_executions SELECT n, 1, n, 'running', (now() AT TIME ZONE 'UTC') - interval '2 days' \
             FROM generate_series(98, 102) n; INSERT INTO job_executions (id, status) VALUES (1, NULL)",
        )
        .await;
    world.prepare().await;
    let operator = world.operator();
    world.execution("e", "101", json!({})).await;
    world.execution("null", "1", json!({})).await;
    world.store(json!({})).await;
    world
        .store_until(&operator, |s| {
            s.last_sweep.as_ref().is_some_and(|w| w.failed == 5)
                && is(&s.conditions, "Consistent", "False", "UnmappedStatus")
        })
        .await;
    world
        .execution_until(&operator, "e", |s| is(&s.conditions, "Succeeded", "False", "DeadlineExceeded"))
        .await;
    let null =
        world.execution_until(&operator, "null", |s| is(&s.conditions, "Bound", "True", "RowFound")).await;
    assert!(is(&null.conditions, "Finished", "Unknown", "UnmappedStatus"), "{:#?}", null.conditions);
}

#[tokio::test]
async fn a_table_has_one_store_also_where_nothing_is_recorded() {
    let world = World::bare("unrecorded").await;
    world.sql(TABLE).await;
    world.sql(&format!("GRANT SELECT, UPDATE ON job_executions TO {}", world.role)).await;
    world.secret("db", json!({"uri": world.url("right/password")})).await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 hours')").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    world
        .apply::<ExecutionStore>("later", World::store_with("later", json!({"defaultTimeout": "1h"})))
        .await
        .unwrap();
    world
        .store_named_until(&operator, "later", |s| is(&s.conditions, "Ready", "False", "TableClaimed"))
        .await;
    assert_eq!(world.status(1).await, "running");
}
