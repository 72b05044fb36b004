//! Retries that cannot be: the execution is ended nevertheless.

use jobexec_operator::api::{ExecutionPolicy, ExecutionStore};
use serde_json::json;

use super::{RUNS, retries, runs};
use crate::support::{World, is, message};

const STALE: &str = "INSERT INTO job_executions (job_id, execution_number, status, started_at, payload) \
     SELECT n, 1, 'running', now() - interval '30 hours', '{}' FROM generate_series(1, 3) AS n";

fn policy() -> serde_json::Value {
    json!({"onStale": "Retry", "retry": {"after": "0s", "onReasons": ["DeadlineExceeded"]}})
}

#[tokio::test]
async fn without_the_right_to_insert_executions_are_failed_and_their_retries_wait() {
    let spec = runs(&json!({}));
    let world = World::with("retrygrant", RUNS, &spec).await;
    world.sql(&format!("REVOKE INSERT ON job_executions FROM {}; {STALE}", world.role)).await;
    let revoke = "REVOKE INSERT (payload) ON job_executions FROM";
    world.sql(&format!("{revoke} {}", world.role)).await;
    world.policy("all", policy()).await;
    world.store(spec.clone()).await;
    let operator = world.operator();
    let store = world
        .store_until(&operator, |s| is(&s.conditions, "RetriesAvailable", "False", "InsufficientPrivilege"))
        .await;
    let why = message(&store.conditions, "RetriesAvailable");
    world.until_true("SELECT count(*) = 3 FROM job_executions WHERE status = 'failed'").await;
    assert_eq!(retries(&world).await, ["1 1 due", "2 1 due", "3 1 due"]);
    let grant = why.rsplit("run ").next().unwrap();
    assert!(grant.starts_with("GRANT INSERT ("), "{why}");
    world.sql(grant).await;
    // The operator looks again within a minute, or when its store changes.
    let mut spec = spec;
    spec["pollInterval"] = json!("2s");
    world.store(spec).await;
    world.until_true("SELECT count(*) = 3 FROM jobexec.retries WHERE outcome = 'Retried'").await;
    assert!(operator.stop().success());
}

#[tokio::test]
async fn a_row_that_a_constraint_refuses_waits_and_others_do_not() {
    let spec = runs(&json!({}));
    let world = World::with("retryunique", RUNS, &spec).await;
    world
        .sql(&format!(
            "CREATE UNIQUE INDEX one_at_a_time ON job_executions (job_id) WHERE status = 'scheduled' AND job_id = 2; \
             ALTER TABLE job_executions ADD CHECK (job_id <> 3 OR status <> 'scheduled'); {STALE}; \
             INSERT INTO job_executions (job_id, execution_number, status, payload) VALUES (2, 2, 'scheduled', '{{}}')"
        ))
        .await;
    world.policy("all", policy()).await;
    world.store(spec).await;
    let operator = world.operator();
    let store = world
        .store_until(&operator, |s| {
            is(&s.conditions, "RetriesAvailable", "False", "RetriesRefused")
                && message(&s.conditions, "RetriesAvailable").contains("2 to be tried again")
        })
        .await;
    assert!(message(&store.conditions, "RetriesAvailable").contains("constraint"));
    assert_eq!(retries(&world).await, ["1 1 Retried", "2 1 due", "3 1 due"]);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM job_executions WHERE status = 'failed'").await, 3);
    world.sql("DROP INDEX one_at_a_time; UPDATE jobexec.retries SET due_at = now()").await;
    world.until_true("SELECT outcome = 'Retried' FROM jobexec.retries WHERE execution_id = '2'").await;
    assert!(operator.stop().success());
}

#[tokio::test]
async fn what_a_table_cannot_do_is_told_before_it_is_needed() {
    let cases = [
        (
            "copyColumns",
            json!({"table": {"retry": {"copyColumns": ["nothing"]}}}),
            "has no column \"nothing\"",
            "",
        ),
        (
            "generated",
            json!({"table": {"retry": {"copyColumns": ["payload", "twice"]}}}),
            "is generated",
            "ALTER TABLE job_executions ADD twice bigint GENERATED ALWAYS AS (job_id * 2) STORED",
        ),
        (
            "written",
            json!({"table": {"retry": {"copyColumns": ["payload", "started_at"]}}}),
            "writes the column \"started_at\"",
            "",
        ),
        (
            "missing",
            json!({"table": {"retry": {"copyColumns": []}}}),
            "\"payload\" is NOT NULL and has no default",
            "",
        ),
        ("noid", json!({}), "a new row gets no id", "ALTER TABLE job_executions ALTER id DROP IDENTITY"),
        (
            "nonumber",
            json!({"table": {"columns": {"executionNumber": "", "retryOf": null}}}),
            "set one of them",
            "",
        ),
        (
            "inplace",
            json!({"table": {"retry": {"method": "InPlace"}}}),
            "\"started_at\" is NOT NULL",
            "ALTER TABLE job_executions ALTER started_at SET NOT NULL",
        ),
    ];
    let world = World::with("retrycannot", RUNS, &runs(&json!({}))).await;
    let operator = world.operator();
    for (name, patch, expected, sql) in cases {
        if !sql.is_empty() {
            world.sql(sql).await;
        }
        world.store(runs(&patch)).await;
        let store = world
            .store_until(&operator, |s| {
                is(&s.conditions, "RetriesAvailable", "False", "RetryNotPossible")
                    && message(&s.conditions, "RetriesAvailable").contains(expected)
            })
            .await;
        assert!(is(&store.conditions, "Ready", "True", "Enforcing"), "{name}: {:?}", store.conditions);
    }
    assert!(operator.stop().success());
}

#[tokio::test]
async fn settings_that_mean_nothing_are_refused_or_told() {
    let world = World::with("retrysettings", RUNS, &runs(&json!({}))).await;
    let refused = [
        json!({"maxAttempts": 0}),
        json!({"maxAttempts": 101}),
        json!({"backoff": {"max": "366d"}}),
        json!({"backoff": {"initial": "8761h"}}),
        json!({"backoff": {"factor": 0.5}}),
        json!({"backoff": {"jitterPercent": 51}}),
        json!({"after": "Never"}),
        json!({"after": "400d"}),
        json!({"onReasons": []}),
        json!({"onReasons": ["Superseded"]}),
        json!({"onReasons": ["JobFinished"]}),
        json!({"otherwise": "AlertOnly"}),
    ];
    for retry in refused {
        let spec = json!({"storeRef": {"name": "jobs"}, "onStale": "Retry", "retry": retry});
        let tried = world.apply::<ExecutionPolicy>("all", World::policy_with("all", spec)).await;
        assert!(tried.is_err(), "{retry}");
    }
    for budget in [
        json!({"budget": 0}),
        json!({"budget": "0%"}),
        json!({"budget": "101%"}),
        json!({"overBudget": "Drop"}),
    ] {
        let spec = runs(&json!({"retry": budget}));
        let tried = world.apply::<ExecutionStore>("jobs", World::store_with("jobs", spec)).await;
        assert!(tried.is_err(), "{budget}");
    }
    // Nothing tells when a worker is gone.
    world.store(runs(&json!({}))).await;
    world.policy("all", json!({"onStale": "Retry", "retry": {"maxAttempts": 2}})).await;
    let operator = world.operator();
    let policy = world
        .policy_until(&operator, "all", |s| is(&s.conditions, "Accepted", "False", "NotSupported"))
        .await;
    let why = message(&policy.conditions, "Accepted");
    assert!(why.contains("nothing tells when the worker of an execution is gone"), "{why}");
    assert!(operator.stop().success());
}
