//! Somebody who may write objects in one namespace writes large ones: the memory of a namespace is limited, earlier rules
//! stay in effect, and others do not notice.

use jobexec_operator::api::{
    ExecutionPolicy, ExecutionPolicyStatus, ExecutionStore, ExecutionStoreStatus, JobExecution,
};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::support::https::OPEN;
use crate::support::world::TABLE;
use crate::support::{Operator, World, is, message, rbac};

/// One MiB for policies, which two of these exceed.
const TIGHT: [(&str, &str); 1] = [("POLICY_BUDGET", "1")];

/// A policy that takes some 700 KiB of memory: 1,000 ids of `length` characters.
fn large(length: usize, timeout: &str) -> Value {
    let ids: Vec<_> = (0..1_000).map(|n| format!("{n:0>length$}")).collect();
    json!({"timeout": timeout, "selector": {"jobIds": ids}})
}

fn effective_rules(status: &ExecutionPolicyStatus) -> bool {
    is(&status.conditions, "Accepted", "True", "InForce")
}

fn over_budget(status: &ExecutionPolicyStatus) -> bool {
    is(&status.conditions, "Accepted", "False", "BudgetExceeded")
}

async fn table_of_texts(test: &str) -> World {
    let world = World::with(
        test,
        "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id text NOT NULL, execution_number integer NOT NULL, \
         status text NOT NULL, started_at timestamptz, completed_at timestamptz)",
        &json!({}),
    )
    .await;
    // Jobs a and b have run for two days; without a policy the default of 24 h would end them.
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 'a', 1, 'running', now() - interval '2 days'), \
             (2, '0', 1, 'running', now() - interval '2 days')",
        )
        .await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_beyond_the_budget_of_their_namespace_are_refused_and_older_ones_stay_in_effect() {
    let world = table_of_texts("budget").await;
    world.policy("older", json!({"timeout": "72h", "selector": {"jobIds": ["a"]}})).await;
    world.policy("z-first", large(100, "99h")).await;
    second_passes(&world).await;
    for name in ["b", "c", "d"] {
        world.policy(name, large(100, "99h")).await;
    }
    let operator = world.operator_with(&[TIGHT[0], OPEN[0], OPEN[1]]);
    world.store(json!({})).await;
    let check = async |operator: &Operator| {
        world.policy_until(operator, "older", effective_rules).await;
        world.policy_until(operator, "z-first", effective_rules).await;
        for name in ["b", "c", "d"] {
            let told = world.policy_until(operator, name, over_budget).await;
            let text = message(&told.conditions, "Accepted");
            assert!(text.contains("1024 KiB") && text.contains("POLICY_BUDGET"), "{text}");
        }
        assert_eq!(world.status(1).await, "running", "what is older is in effect");
    };
    check(&operator).await;
    let metrics = operator.metrics().await;
    assert!(metrics.contains("jobexec_cache_refused_objects{kind=\"executionpolicies\"} 3"), "{metrics}");

    // Another namespace has a budget of its own.
    let other = World::new("bystander").await;
    other.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    drop(operator);
    let both = format!("{},{}", world.namespace, other.namespace);
    rbac::lend(&world.client, &world.namespace, &other.namespace).await;
    let operator = world.operator_in(&both, "again", &TIGHT);
    other.policy("own", json!({"timeout": "72h"})).await;
    other.store(json!({"defaultTimeout": "1h"})).await;
    other.policy_until(&operator, "own", effective_rules).await;
    // After a different order of events, the same objects are refused.
    check(&operator).await;
    assert_eq!(other.status(1).await, "running");

    // Deleted objects make room for the next ones by age.
    world.delete::<ExecutionPolicy>("z-first").await;
    world.policy_until(&operator, "b", |s| !over_budget(s)).await;
    world.policy_until(&operator, "c", over_budget).await;
    world.delete::<ExecutionPolicy>("b").await;
    world.delete::<ExecutionPolicy>("c").await;
    world.policy_until(&operator, "d", effective_rules).await;
}

/// Objects that are created in the same second are ordered by name.
async fn second_passes(world: &World) {
    let mut since = None;
    loop {
        let config = World::policy_with("clock", json!({"timeout": "1h"}));
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let object: ExecutionPolicy = serde_json::from_value(config).unwrap();
        let created = world.api::<ExecutionPolicy>().create(&params, &object).await.unwrap();
        let now = created.creation_timestamp().unwrap().0.as_second();
        if *since.get_or_insert(now) < now {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_live_execution_is_ended_when_an_update_makes_its_policy_too_large() {
    let world = table_of_texts("outgrown").await;
    // Only this policy selects job 0.
    world.policy("grows", json!({"timeout": "72h", "selector": {"jobIds": ["0", "a"]}})).await;
    let operator = world.operator_with(&TIGHT);
    world.store(json!({})).await;
    world.policy_until(&operator, "grows", effective_rules).await;
    let mut grown = large(250, "1h");
    grown["selector"]["jobTypes"] = (0..1_000).map(|n| format!("{n:0>50}")).collect();
    world.policy("grows", grown).await;
    let told = world.policy_until(&operator, "grows", over_budget).await;
    assert!(
        message(&told.conditions, "Accepted").contains("What it said before stays in force"),
        "{told:#?}"
    );
    assert!(
        is(&told.conditions, "StoreFound", "True", "StoreFound"),
        "the rest of its status stays: {told:#?}"
    );
    world.request_sweep(&operator).await;
    assert_eq!((world.status(1).await, world.status(2).await), ("running".into(), "running".into()));
    operator.kill();

    let operator = world.operator_with(&TIGHT);
    world.request_sweep(&operator).await;
    assert_eq!((world.status(1).await, world.status(2).await), ("running".into(), "running".into()));
    world.policy("grows", json!({"timeout": "47h", "selector": {"jobIds": ["a"]}})).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_whose_object_is_refused_keeps_its_extension() {
    let world = World::new("extended").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    world.execution("longer", "1", json!({"timeout": "72h"})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.execution_until(&operator, "longer", |s| s.timeout.as_deref() == Some("3d")).await;
    // Metadata is not cached. The status is, and anybody who may write one may write a large one.
    let status: Api<JobExecution> = world.api();
    let heavy = json!({"status": {"jobId": "x".repeat(200_000)}});
    status.patch_status("longer", &PatchParams::default(), &Patch::Merge(heavy)).await.unwrap();
    world.raw_conditions_until(&operator, "JobExecution", "longer", "Bound", "ObjectTooLarge").await;
    world.request_sweep(&operator).await;
    assert_eq!(world.status(1).await, "running", "what it said before stays in force");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_refused_still_knows_which_requests_it_has_answered() {
    let world = World::new("answered").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.annotate("jobexec.dev/resume", "before").await;
    world.store_until(&operator, |s| s.observed_resume.as_deref() == Some("before")).await;
    let stores: Api<ExecutionStore> = world.api();
    let request = async |text: &str| {
        let status = json!({"status": {"observedSweepRequest": text}});
        stores.patch_status("jobs", &PatchParams::default(), &Patch::Merge(status)).await.unwrap()
    };
    request(&"x".repeat(300_000)).await;
    let conditions =
        world.raw_conditions_until(&operator, "ExecutionStore", "jobs", "Ready", "ObjectTooLarge").await;
    assert!(is(&conditions, "DatabaseReachable", "True", "Connected"), "{conditions:#?}");
    operator.kill();
    let kept = request("short").await.status.unwrap();
    assert_eq!(kept.observed_resume.as_deref(), Some("before"), "or the breaker would count as closed by it");

    // The usual status replaces its condition, and nothing of the refusal is left.
    let operator = world.operator();
    let told = world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    assert_eq!(message(&told.conditions, "Ready"), "stale executions are ended");
    assert_eq!(told.conditions.iter().filter(|c| c.type_ == "Ready").count(), 1);
    assert_eq!(told.observed_resume.as_deref(), Some("before"));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_metadata_takes_no_room() {
    let world = table_of_texts("metadata").await;
    let mut noted = World::policy_with("noted", json!({"timeout": "72h", "selector": {}}));
    noted["metadata"]["annotations"] = json!({"note": "x".repeat(250_000)});
    for n in 0..6 {
        noted["metadata"]["name"] = format!("noted-{n}").into();
        noted["spec"]["selector"]["jobIds"] = json!([format!("job-{n}"), if n == 0 { "a" } else { "none" }]);
        world.apply::<ExecutionPolicy>(&format!("noted-{n}"), noted.clone()).await.unwrap();
    }
    let operator = world.operator_with(&TIGHT);
    world.store(json!({})).await;
    world.policy_until(&operator, "noted-0", effective_rules).await;
    world.policy_until(&operator, "noted-5", |s| !over_budget(s) && !s.conditions.is_empty()).await;
    assert_eq!(world.status(1).await, "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_records_what_a_refused_object_said_nothing_is_ended() {
    let world = World::bare("unrecorded").await;
    world.sql(TABLE).await;
    world
        .sql(&format!("GRANT SELECT, UPDATE (status, completed_at) ON job_executions TO {}", world.role))
        .await;
    world.secret("db", json!({"uri": world.url("right/password")})).await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    let mut ids = large(250, "72h");
    ids["selector"]["jobTypes"] = (0..1_000).map(|n| format!("{n:0>50}")).collect();
    ids["selector"]["jobIds"][0] = "1".into();
    world.policy("large", ids).await;
    let operator = world.operator_with(&TIGHT);
    world.store(json!({})).await;
    world.policy_until(&operator, "large", over_budget).await;
    let paused = |s: &ExecutionStoreStatus| is(&s.conditions, "EnforcementPaused", "True", "CacheNotSynced");
    world.store_until(&operator, paused).await;
    assert_eq!(world.status(1).await, "running");
    world.delete::<ExecutionPolicy>("large").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
}
