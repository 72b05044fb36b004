//! Timeouts that are computed from history.

use jobexec_operator::api::policy::ComputedTimeout;
use serde_json::{Value, json};

use crate::support::{Operator, World, is};

/// Inserts completed executions of a job, one for each row of `durations` with an interval `d`, each of which ended `n`
/// hours ago.
async fn history(world: &World, job: i64, durations: &str) {
    world
        .sql(&format!(
            "INSERT INTO job_executions SELECT {job} * 1000 + n, {job}, n, 'completed', \
             now() - n * interval '1 hour' - d, now() - n * interval '1 hour' FROM ({durations}) AS h (n, d)"
        ))
        .await;
}

/// This many rows with this length.
fn of(count: i64, length: &str) -> String {
    format!("SELECT n, interval '{length}' FROM generate_series(1, {count}) n")
}

async fn start(world: &World, id: i64, job: i64, age: &str) {
    world
        .sql(&format!(
            "INSERT INTO job_executions VALUES ({id}, {job}, 100000 + {id}, 'running', now() - interval '{age}')"
        ))
        .await;
}

/// The computed timeouts of a policy: the job, the number of executions, the quantile and the timeout.
async fn computed(world: &World, operator: &Operator, policy: &str) -> Vec<String> {
    let status = world
        .policy_until(operator, policy, |s| {
            is(&s.conditions, "Accepted", "True", "InForce") && s.dynamic_timeouts.is_some()
        })
        .await;
    let timeouts = status.dynamic_timeouts.unwrap();
    assert!(timeouts.computed_at.is_some());
    assert_eq!(usize::try_from(timeouts.count).unwrap(), timeouts.longest.len());
    let line = |c: &ComputedTimeout| {
        let whom = c.job_id.clone().or_else(|| c.job_type.clone()).unwrap_or_default();
        format!("{whom}: {} {} {}", c.samples, c.quantile, c.timeout)
    };
    timeouts.longest.iter().map(line).collect()
}

/// The ids of the running rows, and those of the ended ones with the source of the timeout.
const RUNNING: &str =
    "SELECT string_agg(id::text, ' ' ORDER BY id) FROM job_executions WHERE status = 'running'";
const ENDED: &str = "SELECT string_agg(execution_id || ' ' || source, ', ' ORDER BY execution_id::bigint) \
     FROM jobexec.events WHERE action = 'Failed'";

#[tokio::test]
async fn each_job_has_the_timeout_that_its_history_says() {
    let world = World::new("dynamic").await;
    history(&world, 1, &of(40, "10 minutes")).await;
    history(&world, 2, &of(19, "10 minutes")).await;
    // One of them took a week.
    let week = "SELECT n, CASE n WHEN 7 THEN interval '168 hours' ELSE interval '10 minutes' END FROM generate_series(1, 40) n";
    history(&world, 3, week).await;
    history(&world, 4, &of(40, "0")).await;
    history(&world, 5, &of(40, "10 minutes")).await;
    history(&world, 6, &of(40, "10 hours")).await;
    history(&world, 7, &of(40, "10 minutes")).await;
    history(&world, 8, week).await;
    world
        .sql(
            // Executions that failed do not count, nor do those that ended before the window.
            "INSERT INTO job_executions SELECT 50000 + n, 5, 5000 + n, (ARRAY['failed', 'cancelled'])[1 + n % 2], \
                 now() - n * interval '1 hour' - interval '99 hours', now() - n * interval '1 hour' FROM generate_series(1, 60) n; \
             UPDATE job_executions SET started_at = started_at - interval '90 days', completed_at = completed_at - interval '90 days' \
             WHERE job_id = 7; \
             INSERT INTO job_executions VALUES (50100, 1, 9001, 'completed', now(), now() - interval '1 hour'), \
                 (50101, 1, 9002, 'completed', NULL, now()), (50102, 1, 9003, 'completed', '-infinity', now())",
        )
        .await;
    let dynamic = json!({"quantile": 0.5, "multiplier": 2, "floor": "5m", "ceiling": "4h"});
    world.policy("median", json!({"dynamicTimeout": dynamic, "timeout": "3h"})).await;
    let high = json!({"dynamicTimeout": {"quantile": 0.95, "multiplier": 2}, "selector": {"jobIds": ["8"]}});
    world.policy("high", high).await;
    // For each job, one execution within its timeout, and one beyond it.
    for (job, minutes) in [(1, 20), (2, 180), (3, 20), (4, 5), (5, 20), (6, 240), (7, 180), (8, 20)] {
        start(&world, job, job, &format!("{} minutes", minutes - 2)).await;
        start(&world, job + 10, job, &format!("{} minutes", minutes + 1)).await;
    }
    let operator = world.operator();
    world.store(json!({"pollInterval": "10m"})).await;
    world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    let ended: String = (11..=18)
        .map(|id| format!("{id} ExecutionPolicy/{}", if id == 18 { "high" } else { "median" }))
        .collect::<Vec<_>>()
        .join(", ");
    assert_eq!(world.one::<String>(ENDED).await, ended);
    assert_eq!(world.one::<String>(RUNNING).await, "1 2 3 4 5 6 7 8");
    assert_eq!(
        computed(&world, &operator, "median").await,
        ["6: 40 10h 4h", "1: 40 10m 20m", "3: 40 10m 20m", "5: 40 10m 20m", "8: 40 10m 20m", "4: 40 0s 5m"]
    );
    assert_eq!(computed(&world, &operator, "high").await, ["8: 40 10m 20m"]);
    world.execution("six", "6", json!({})).await;
    let six = world.execution_until(&operator, "six", |s| s.timeout.as_deref() == Some("4h")).await;
    assert_eq!(six.timeout_source.as_deref(), Some("ExecutionPolicy/median"));
    for (policy, governed) in [("median", 7), ("high", 1)] {
        world.policy_until(&operator, policy, |s| s.governed_executions == Some(governed)).await;
    }
}

#[tokio::test]
async fn a_job_that_becomes_slower_is_followed_by_the_defaults() {
    let world = World::new("slower").await;
    // One a day for a month, each 5 % slower than the one before; the last took an hour.
    let slower = "SELECT n * 24 - 23, interval '1 hour' * power(1.05, 1 - n) FROM generate_series(1, 30) n";
    history(&world, 1, slower).await;
    start(&world, 1, 1, "66 minutes").await;
    start(&world, 2, 1, "121 minutes").await;
    world.policy("defaults", json!({"dynamicTimeout": {}})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    assert_eq!(world.one::<String>(RUNNING).await, "1");
    assert_eq!(world.one::<String>(ENDED).await, "2 ExecutionPolicy/defaults");
    assert!(computed(&world, &operator, "defaults").await[0].starts_with("1: 30 "));
}

#[tokio::test]
async fn an_operator_that_is_started_anew_uses_what_history_said_before() {
    let world = World::new("kept").await;
    history(&world, 1, &of(40, "10 minutes")).await;
    let policy = |multiplier: f64| {
        json!({"timeout": "3h", "selector": {"jobIds": ["1"]},
               "dynamicTimeout": {"quantile": 0.5, "multiplier": multiplier, "refreshInterval": "24h"}})
    };
    world.policy("p", policy(2.0)).await;
    let operator = world.operator();
    world.store(json!({})).await;
    assert_eq!(computed(&world, &operator, "p").await, ["1: 40 10m 20m"]);
    operator.kill();
    // A value that neither history nor the policy would give.
    let kept = "UPDATE jobexec.figures SET figures = jsonb_set(figures, '{0,timeout}', '7200'::jsonb)";
    world.sql(kept).await;
    start(&world, 1, 1, "100 minutes").await;
    start(&world, 2, 1, "125 minutes").await;
    let operator = world.operator();
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
    world.request_sweep(&operator).await;
    assert_eq!(world.one::<String>(RUNNING).await, "1");
    world
        .policy_until(&operator, "p", |s| {
            s.dynamic_timeouts.as_ref().is_some_and(|d| d.longest[0].timeout == "2h")
        })
        .await;
    // A policy with other parameters is computed at once, and until then the old result is in effect.
    world.policy("p", policy(9.0)).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    world
        .policy_until(&operator, "p", |s| {
            s.dynamic_timeouts.as_ref().is_some_and(|d| d.longest[0].timeout == "1h30m")
        })
        .await;
}

#[tokio::test]
async fn a_type_has_the_history_of_all_its_jobs() {
    let spec: Value = json!({"table": {"columns": {"jobType": "kind"}}});
    let table = "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, execution_number integer NOT NULL, \
         status text NOT NULL, started_at timestamptz, completed_at timestamptz, kind text)";
    let world = World::with("pertype", table, &spec).await;
    // Too few for each job, enough for the type.
    for job in 1..=4 {
        history(&world, job, &of(10, "10 minutes")).await;
    }
    start(&world, 1, 99, "19 minutes").await;
    start(&world, 2, 99, "21 minutes").await;
    start(&world, 3, 3, "21 minutes").await;
    world.sql("UPDATE job_executions SET kind = CASE WHEN job_id = 3 THEN 'b' ELSE 'a' END").await;
    let dynamic = json!({"per": "JobType", "quantile": 0.5});
    world.policy("a", json!({"dynamicTimeout": dynamic, "selector": {"jobTypes": ["a", "b"]}})).await;
    world.policy("per-job", json!({"dynamicTimeout": {"quantile": 0.5}})).await;
    let operator = world.operator();
    world.store(spec).await;
    world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    assert_eq!(world.one::<String>(ENDED).await, "2 ExecutionPolicy/a");
    assert_eq!(world.one::<String>(RUNNING).await, "1 3");
    assert_eq!(computed(&world, &operator, "a").await, ["a: 30 10m 20m"]);
    assert_eq!(computed(&world, &operator, "per-job").await, Vec::<String>::new());
}
