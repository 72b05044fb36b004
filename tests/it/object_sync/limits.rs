//! The limit of objects, a quota, ids and names of any kind, and a restart that writes nothing.

use jobexec_operator::api::{JobExecution, Phase};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::wait::await_condition;
use serde_json::json;

use super::{finish, names_until, objects, patch, start};
use crate::support::proxy::Proxies;
use crate::support::{PATIENCE, World, is, message};

#[tokio::test]
async fn beyond_the_limit_the_stale_and_the_longest_running_are_kept() {
    let world = World::new("limit").await;
    for (id, age) in [(1, "50 minutes"), (2, "40 minutes"), (3, "30 minutes"), (4, "20 minutes")] {
        start(&world, id, age).await;
    }
    world.sql("INSERT INTO job_executions VALUES (5, 8, 1, 'running', now() - interval '10 minutes')").await;
    let alert = json!({"selector": {"jobIds": ["8"]}, "timeout": "5m", "onStale": "AlertOnly"});
    world.policy("alert", alert).await;
    // Created by a user, so that it stays whatever the limit is.
    world.execution("mine", "4", json!({})).await;
    let operator = world.operator();
    world.store(objects(&json!({"limit": 2}))).await;
    names_until(&world, &operator, &["jobs-1", "jobs-5", "mine"]).await;
    let limited = |objects, executions_without_object| {
        move |s: &jobexec_operator::api::ExecutionStoreStatus| {
            is(&s.conditions, "ObjectsSynced", "True", "LimitReached")
                && s.execution_objects.is_some_and(|m| {
                    (m.objects, m.executions_without_object) == (objects, executions_without_object)
                })
        }
    };
    world.store_until(&operator, limited(3, 2)).await;
    // A user overrides one that would not be kept when others come first.
    patch(&world, "jobs-1", json!({"timeout": "30h"})).await.unwrap();
    world.execution_until(&operator, "jobs-1", |s| s.timeout.as_deref() == Some("30h")).await;
    world.sql("INSERT INTO job_executions VALUES (6, 8, 2, 'running', now() - interval '9 minutes')").await;
    names_until(&world, &operator, &["jobs-1", "jobs-5", "jobs-6", "mine"]).await;
    finish(&world, 5, "completed").await;
    finish(&world, 6, "completed").await;
    world.execution_until(&operator, "jobs-5", |s| s.phase == Some(Phase::Completed)).await;
    names_until(&world, &operator, &["jobs-1", "jobs-2", "jobs-5", "jobs-6", "mine"]).await;

    world.store(json!({"executionObjects": {"enabled": false}})).await;
    // Objects with overrides stay while these apply.
    names_until(&world, &operator, &["jobs-1", "mine"]).await;
    finish(&world, 1, "completed").await;
    names_until(&world, &operator, &["mine"]).await;
}

#[tokio::test]
async fn ids_of_any_kind_have_objects() {
    let table = "CREATE TABLE job_executions (id text PRIMARY KEY, job_id text, execution_number integer NOT NULL, \
         status text NOT NULL, started_at timestamptz, completed_at timestamptz, kind text)";
    let spec = json!({"table": {"columns": {"jobType": "kind"}}, "executionObjects": {"enabled": true}});
    let world = World::with("anyid", table, &spec).await;
    // A longer id would be skipped.
    let (long, longer) = ("l".repeat(1_000), "l".repeat(10_000));
    for id in ["Über/ß <b>", "", &long, "abc"] {
        sqlx::query("INSERT INTO job_executions VALUES ($1, $2, 1, 'running', now(), NULL, 'a b')")
            .bind(id)
            .bind(&longer)
            .execute(&world.pool)
            .await
            .unwrap();
    }
    // The name for the object of `abc`, taken for another row.
    world.execution("jobs-xba7816bf8f01cfea4141", "xyz", json!({})).await;
    let operator = world.operator();
    world.store(spec).await;
    world
        .store_until(&operator, |s| s.execution_objects.is_some_and(|m| m.executions_without_object == 3))
        .await;
    let all = world.api::<JobExecution>().list(&ListParams::default()).await.unwrap();
    let odd = all.iter().find(|e| e.spec.execution_id == "Über/ß <b>").unwrap();
    assert!(odd.name_any().starts_with("jobs-x") && odd.name_any().len() == 26, "{}", odd.name_any());
    let told = world.execution_until(&operator, &odd.name_any(), |s| s.phase == Some(Phase::Running)).await;
    assert_eq!(told.job_type.as_deref(), Some("a b"));
    assert!(told.job_id.unwrap().len() <= 253 && odd.labels()["jobexec.dev/type"].starts_with('x'));
    world
        .execution_until(&operator, "jobs-xba7816bf8f01cfea4141", |s| {
            is(&s.conditions, "Bound", "False", "RowNotFound")
        })
        .await;
}

#[tokio::test]
async fn an_integer_id_whose_name_is_taken_has_another_name() {
    let world = World::new("taken").await;
    start(&world, 1, "1 minute").await;
    let operator = world.operator();
    // It belongs to another store, so that this one does not know it.
    let mut other = World::execution_with("jobs-1", "7", json!({}));
    other["spec"]["storeRef"]["name"] = "elsewhere".into();
    world
        .api::<JobExecution>()
        .create(&PostParams::default(), &serde_json::from_value(other).unwrap())
        .await
        .unwrap();
    world.store(objects(&json!({}))).await;
    world.execution_until(&operator, "jobs-x6b86b273ff34fce19d6b", |s| s.phase == Some(Phase::Running)).await;
    let theirs = world.api::<JobExecution>().get("jobs-1").await.unwrap();
    assert_eq!((theirs.spec.execution_id.as_str(), theirs.owner_references().len()), ("7", 0));
}

#[tokio::test]
async fn object_sync_that_may_not_write_stops_nothing_else() {
    let world = World::new("forbidden").await;
    start(&world, 1, "1 minute").await;
    let quota: ResourceQuota = serde_json::from_value(json!({
        "metadata": {"name": "none"}, "spec": {"hard": {"count/jobexecutions.jobexec.dev": "0"}},
    }))
    .unwrap();
    let quotas = world.api::<ResourceQuota>();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    let counted =
        |q: Option<&ResourceQuota>| q.and_then(|q| q.status.as_ref()).is_some_and(|s| s.hard.is_some());
    tokio::time::timeout(PATIENCE, await_condition(quotas.clone(), "none", counted)).await.unwrap().unwrap();
    let operator = world.operator();
    world.store(objects(&json!({}))).await;
    let told =
        world.store_until(&operator, |s| is(&s.conditions, "ObjectsSynced", "False", "Forbidden")).await;
    assert!(message(&told.conditions, "ObjectsSynced").contains("quota"), "{:#?}", told.conditions);
    assert!(is(&told.conditions, "Ready", "True", "Enforcing"));
    start(&world, 2, "2 days").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
    quotas.delete("none", &DeleteParams::default()).await.unwrap();
    world.store_until(&operator, |s| is(&s.conditions, "ObjectsSynced", "True", "Synced")).await;
    world.execution_until(&operator, "jobs-1", |s| s.phase == Some(Phase::Running)).await;
}

#[tokio::test]
async fn a_job_that_is_finished_while_its_execution_runs_is_told_with_its_name() {
    let tables = "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, execution_number integer NOT NULL, \
         status text NOT NULL, started_at timestamptz, completed_at timestamptz); \
         CREATE TABLE jobs (id bigint PRIMARY KEY, status text NOT NULL); \
         INSERT INTO jobs VALUES (21, 'completed'); \
         INSERT INTO job_executions VALUES (39, 21, 5, 'running', now() - interval '22 hours')";
    let spec = json!({"mode": "Observe", "jobs": {"name": "jobs", "columns": {"id": "id", "status": "status"}, "finished": ["completed"], "gracePeriod": "1s"}});
    let world = World::with("pair", tables, &spec).await;
    let operator = world.operator();
    world.store(spec).await;
    let told =
        world.store_until(&operator, |s| is(&s.conditions, "Consistent", "False", "JobFinished")).await;
    let message = message(&told.conditions, "Consistent");
    assert!(message.contains("execution 39") && message.contains("job 21"), "{message}");
    world.sql("UPDATE jobs SET status = 'active'").await;
    world.store_until(&operator, |s| is(&s.conditions, "Consistent", "True", "NoViolations")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_starts_anew_writes_nothing_where_nothing_has_changed() {
    let world = World::new("anew").await;
    world.sql("INSERT INTO job_executions SELECT n, n % 10, n, 'running', now() - interval '2 hours' FROM generate_series(1, 200) n").await;
    let proxies = Proxies::before(&world).await;
    let operator = world.operator();
    world.store(objects(&json!({}))).await;
    world
        .store_until(&operator, |s| {
            s.execution_objects.is_some_and(|m| (m.objects, m.executions_without_object) == (200, 0))
        })
        .await;
    for n in [1, 100, 200] {
        world.execution_until(&operator, &format!("jobs-{n}"), |s| s.phase == Some(Phase::Running)).await;
    }
    proxies.writes.until(|passed| passed.quiet >= 16).await;
    operator.kill();
    let before = proxies.writes.passed();
    let operator = world.operator();
    proxies.writes.until(|passed| passed.reads >= before.reads + 40).await;
    let after = proxies.writes.passed();
    let of_objects: Vec<_> = after.writes[before.writes.len()..]
        .iter()
        .filter(|w| w.contains("jobexecutions") || w.contains("events"))
        .collect();
    assert!(of_objects.is_empty(), "{of_objects:#?}\n{}", operator.log());
}
