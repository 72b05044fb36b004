//! Selectors of policies, on tables with other types, without the operator's own tables, and without permissions.

use jobexec_operator::api::{ExecutionPolicy, ExecutionStore};
use serde_json::json;

use crate::support::world::TABLE;
use crate::support::{World, is, message};

#[tokio::test]
async fn ids_and_types_of_any_form_select() {
    let spec = json!({"table": {"columns": {"jobType": "kind"}}});
    let table = "CREATE TYPE kinds AS ENUM ('plain', 'it''s \"a\" \\ kind'); \
         CREATE TABLE job_executions (id uuid PRIMARY KEY, job_id text NOT NULL, execution_number integer NOT NULL, \
         status text NOT NULL, started_at timestamptz, completed_at timestamptz, kind kinds)";
    let world = World::with("forms", table, &spec).await;
    let id = |n: i32| format!("00000000-0000-4000-8000-00000000000{n}");
    for (n, job, kind) in
        [(1, "it''s \"a\\b\", {ü}%", "plain"), (2, "2", "it''s \"a\" \\ kind"), (3, "3", "plain")]
    {
        world
            .sql(&format!(
                "INSERT INTO job_executions VALUES ('{}', '{job}', 1, 'running', now() - interval '2 hours', NULL, '{kind}')",
                id(n)
            ))
            .await;
    }
    world.policy("job", json!({"timeout": "1h", "selector": {"jobIds": ["it's \"a\\b\", {ü}%"]}})).await;
    let types = json!({"jobTypes": ["it's \"a\" \\ kind", "no kind'; DROP TABLE job_executions; --"]});
    world.policy("type", json!({"timeout": "1h", "selector": types})).await;
    // The longest possible durations, in addition to them.
    let longest = json!({"timeout": "99999h99999h99999h99999h", "gracePeriod": "99999h99999h99999h99999h"});
    world.policy("longest", longest).await;
    let operator = world.operator();
    world.store(spec).await;
    world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    let sources = "SELECT string_agg(right(execution_id, 1) || ' ' || source, ', ' ORDER BY execution_id) FROM jobexec.events \
         WHERE action = 'Failed'";
    // The grace period for all applies.
    assert_eq!(world.one::<Option<String>>(sources).await, None);
    world.policy("longest", json!({"timeout": "99999h99999h99999h99999h"})).await;
    world.until_true("SELECT count(*) = 2 FROM job_executions WHERE status = 'failed'").await;
    assert_eq!(world.one::<String>(sources).await, "1 ExecutionPolicy/job, 2 ExecutionPolicy/type");
    for name in ["job", "type", "longest"] {
        world.policy_until(&operator, name, |s| is(&s.conditions, "Accepted", "True", "InForce")).await;
    }
    // An id in another notation is the same id.
    world.execution("three", &id(3).to_uppercase().replace('-', ""), json!({"timeout": "1h"})).await;
    world.execution_until(&operator, "three", |s| is(&s.conditions, "Finished", "True", "Failed")).await;
}

#[tokio::test]
async fn policies_count_also_where_nothing_can_be_recorded() {
    let world = World::bare("unrecorded").await;
    world.sql(TABLE).await;
    world
        .sql(&format!("GRANT SELECT, UPDATE (status, completed_at) ON job_executions TO {}", world.role))
        .await;
    world.secret("db", json!({"uri": world.url("right/password")})).await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '2 hours' FROM generate_series(1, 4) n; \
             INSERT INTO job_executions SELECT 100 + n, 4, 1, 'completed', now() - interval '20 minutes', now() - interval '10 minutes' \
             FROM generate_series(1, 40) n",
        )
        .await;
    world.policy("job", json!({"timeout": "1h", "selector": {"jobIds": ["1"]}})).await;
    world
        .policy("cancel", json!({"timeout": "1h", "onStale": "Cancel", "selector": {"jobIds": ["2"]}}))
        .await;
    world
        .policy("history", json!({"dynamicTimeout": {"quantile": 0.5}, "selector": {"jobIds": ["4"]}}))
        .await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    assert!(is(&status.conditions, "AuditAvailable", "False", "TablesMissing"), "{:#?}", status.conditions);
    world.until_true("SELECT count(*) = 1 FROM job_executions WHERE status = 'running'").await;
    let all: String =
        world.one("SELECT string_agg(status, ' ' ORDER BY id) FROM job_executions WHERE id < 10").await;
    assert_eq!(all, "failed cancelled running failed");
    // The circuit breaker works without them too, and stays open after a restart.
    world.store_changed(&operator, json!({"maxFailuresPerSweep": 1})).await;
    world.sql("INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 days' FROM generate_series(11, 12) n").await;
    world.store_until(&operator, |s| is(&s.conditions, "EnforcementPaused", "True", "BreakerOpen")).await;
    operator.kill();
    world.sql("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 12").await;
    let operator = world.operator();
    let status =
        world.store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.stale_executions == 1)).await;
    assert!(is(&status.conditions, "EnforcementPaused", "True", "BreakerOpen"), "{:#?}", status.conditions);
    world.annotate("jobexec.dev/resume", "now").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 11").await;
}

#[tokio::test]
async fn without_the_right_to_see_policies_nothing_is_judged() {
    let world = World::new("unseen").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    world.policy("keep", json!({"timeout": "99h"})).await;
    world.forbid("executionpolicies").await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world
        .store_until(&operator, |s| is(&s.conditions, "EnforcementPaused", "True", "CacheNotSynced"))
        .await;
    assert!(message(&status.conditions, "EnforcementPaused").contains("executionpolicies"));
    assert_eq!(world.status(1).await, "running");
}

#[tokio::test]
async fn a_policy_that_is_made_anew_under_its_name_is_another_one() {
    let world = World::new("anew").await;
    world
        .sql("INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '2 hours' FROM generate_series(1, 2) n")
        .await;
    let operator = world.operator();
    world.store(json!({"pollInterval": "10m"})).await;
    world.policy("p", json!({"timeout": "99h"})).await;
    world.policy_until(&operator, "p", |s| s.governed_executions == Some(2)).await;
    world.delete::<ExecutionPolicy>("p").await;
    // Its generation equals that of the first one.
    world.policy("p", json!({"timeout": "1h", "selector": {"jobIds": ["1"]}})).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    world.policy_until(&operator, "p", |s| is(&s.conditions, "Accepted", "True", "InForce")).await;
    assert_eq!(world.status(2).await, "running");
    // A deleted store leaves the policy to the next one of its name.
    world.delete::<ExecutionStore>("jobs").await;
    world.sql("INSERT INTO job_executions VALUES (3, 1, 2, 'running', now() - interval '2 hours')").await;
    world.store(json!({"pollInterval": "10m"})).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 3").await;
}
