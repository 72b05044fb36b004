//! The scope of an operator: some namespaces, some stores. It ignores all others.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use jobexec_operator::api::{ExecutionPolicy, ExecutionStore, JobExecution};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{Operator, PATIENCE, World, https, is, rbac};

/// The log message of an operator when a label assigns a store to another one.
const LET_GO: &str = "no longer for this operator";

const OVERDUE: &str = "INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')";

/// The response of `/readyz`, once it is as wanted.
async fn readiness(operator: &Operator, wanted: impl Fn(u16, &str) -> bool) -> String {
    let url = format!("http://{}/readyz", operator.address("probes").await);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = https::client().get(&url).send().await.unwrap();
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        if wanted(status, &text) {
            return text;
        }
        assert!(tokio::time::Instant::now() < deadline, "{status}: {text}\n{}", operator.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn namespaces_that_are_not_there_or_may_not_be_read_hold_up_no_other() {
    let (here, there) = (World::new("scopehere").await, World::new("scopethere").await);
    let closed = World::bare("scopeclosed").await;
    rbac::lend(&here.client, &here.namespace, &there.namespace).await;
    let later = format!("{}-later", here.namespace);
    let namespaces =
        format!("{}, {} ,{later},{},{}", here.namespace, there.namespace, closed.namespace, there.namespace);
    let operator = here.operator_in(&namespaces, "scope", &https::OPEN);
    for world in [&here, &there] {
        world.sql(OVERDUE).await;
        world.execution("e", "1", json!({"timeout": "1h"})).await;
        world.store(json!({})).await;
    }
    for world in [&here, &there] {
        world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
        world.until_true("SELECT status = 'failed' FROM job_executions").await;
        world.execution_until(&operator, "e", |s| s.timeout.as_deref() == Some("1h")).await;
    }
    let ready = readiness(&operator, |status, text| status == 200 && text.contains(&later)).await;
    assert!(ready.starts_with("ok\n") && ready.contains(&closed.namespace), "{ready}");
    assert!(!ready.contains(&there.namespace), "{ready}");
    assert!(operator.log().contains("cannot watch executionstores"), "{}", operator.log());

    // The namespace is created, with permissions to read it, and is managed like the others.
    let namespace = Namespace {
        metadata: ObjectMeta { name: Some(later.clone()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    let all = Api::<Namespace>::all(here.client.clone());
    all.create(&PostParams::default(), &namespace).await.unwrap();
    rbac::lend(&here.client, &here.namespace, &later).await;
    here.sql(&format!(
        "CREATE TABLE late (LIKE job_executions INCLUDING ALL); GRANT SELECT, UPDATE ON late TO {}; \
         INSERT INTO late SELECT 1, 1, 1, 'running', now() - interval '2 days'",
        here.role
    ))
    .await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"},
        "stringData": {"uri": here.url("right/password")}});
    let params = PatchParams::apply("test").force();
    let secrets = Api::<Secret>::namespaced(here.client.clone(), &later);
    secrets.patch("db", &params, &Patch::Apply(secret)).await.unwrap();
    let store = World::store_with("late", json!({"table": {"name": "late"}}));
    let stores = Api::<ExecutionStore>::namespaced(here.client.clone(), &later);
    stores.patch("late", &params, &Patch::Apply(store)).await.unwrap();
    here.until_true("SELECT status = 'failed' FROM late").await;
    let ready = readiness(&operator, |status, text| status == 200 && !text.contains(&later)).await;
    assert!(ready.contains(&closed.namespace), "{ready}");

    // It is deleted, and its store with it; the others are still managed.
    all.delete(&later, &kube::api::DeleteParams::default()).await.unwrap();
    here.until_true("SELECT NOT EXISTS (SELECT FROM jobexec.stores WHERE name = 'late')").await;
    for world in [&here, &there] {
        world.sql("INSERT INTO job_executions VALUES (2, 1, 2, 'running', now() - interval '2 days')").await;
        world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
    }
    assert!(operator.stop().success());
}

#[tokio::test]
async fn an_operator_that_may_read_none_of_its_namespaces_is_not_ready() {
    let (here, closed) = (World::bare("scopenone").await, World::bare("scopeshut").await);
    let operator = here.operator_in(&closed.namespace, "scope", &https::OPEN);
    let unready = readiness(&operator, |status, text| status == 503 && text.contains("see the log")).await;
    assert!(unready.contains(&closed.namespace), "{unready}");
    assert!(operator.stop().success());
}

/// Collects every wrong status of a policy, as long as the task is kept.
fn misled(world: &World) -> (Arc<Mutex<Vec<String>>>, AbortOnDropHandle<()>) {
    let wrong = Arc::new(Mutex::new(Vec::new()));
    let (kept, api) = (wrong.clone(), world.api::<ExecutionPolicy>());
    let task = tokio::spawn(async move {
        let mut seen = watcher(api, watcher::Config::default()).default_backoff().applied_objects().boxed();
        while let Some(Ok(policy)) = seen.next().await {
            let Some(status) = &policy.status else { continue };
            let found = status.conditions.iter().any(|c| c.type_ == "StoreFound" && c.status == "True");
            if !found {
                kept.lock().unwrap().push(format!("{}: {:?}", policy.name_any(), status.conditions));
            }
        }
    });
    (wrong, AbortOnDropHandle::new(task))
}

impl World {
    async fn labelled(&self, store: &str, team: &str) {
        let patch = json!({"metadata": {"labels": {"team": team}}});
        let api = self.api::<ExecutionStore>();
        api.patch(store, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
}

/// The stores and their tables.
const STORES: [(&str, &str); 2] = [("a", "ta"), ("b", "tb")];

/// Each store with a policy and an execution, and these two for a store that does not exist.
async fn create_stores_and_overrides(world: &World) {
    for (store, table) in STORES.into_iter().chain([("nowhere", "")]) {
        let mut policy = World::policy_with(&format!("of-{store}"), json!({"timeout": "20h"}));
        policy["spec"]["storeRef"]["name"] = json!(store);
        world.apply::<ExecutionPolicy>(&format!("of-{store}"), policy).await.unwrap();
        let mut execution = World::execution_with(&format!("e-{store}"), "1", json!({"timeout": "19h"}));
        execution["spec"]["storeRef"]["name"] = json!(store);
        world.apply::<JobExecution>(&format!("e-{store}"), execution).await.unwrap();
        if !table.is_empty() {
            let mut object = World::store_with(store, json!({"table": {"name": table}}));
            object["metadata"]["labels"] = json!({"team": store});
            world.apply::<ExecutionStore>(store, object).await.unwrap();
        }
    }
}

/// Waits until this execution has failed in both tables, and until this operator has accepted the policies.
async fn swept_by(world: &World, operator: &Operator, id: i64) {
    for (store, table) in STORES {
        world.until_true(&format!("SELECT status = 'failed' FROM {table} WHERE id = {id}")).await;
        world
            .policy_until(operator, &format!("of-{store}"), |s| {
                is(&s.conditions, "Accepted", "True", "InForce")
            })
            .await;
    }
}

async fn insert_overdue(world: &World, id: i64) {
    for (_, table) in STORES {
        let sql = format!("INSERT INTO {table} VALUES ({id}, 1, 1, 'running', now() - interval '2 days')");
        world.sql(&sql).await;
    }
}

#[tokio::test]
async fn operators_with_complementary_selectors_share_a_namespace_and_hand_stores_over() {
    let world = World::new("selector").await;
    let (wrong, _watch) = misled(&world);
    for (_, table) in STORES {
        world
            .sql(&format!(
                "CREATE TABLE {table} (LIKE job_executions INCLUDING ALL); GRANT SELECT, UPDATE ON {table} TO {}; \
                 INSERT INTO {table} VALUES (1, 1, 1, 'running', now() - interval '2 days')",
                world.role
            ))
            .await;
    }
    let first = world.operator_in(&world.namespace, "first", &[("STORE_SELECTOR", "team in (a)")]);
    let second = world.operator_in(&world.namespace, "second", &[("STORE_SELECTOR", "team!=a")]);
    create_stores_and_overrides(&world).await;
    swept_by(&world, &first, 1).await;
    for (store, operator) in [("a", &first), ("b", &second)] {
        world.execution_until(operator, &format!("e-{store}"), |s| s.timeout.as_deref() == Some("19h")).await;
    }

    // The label transfers the store: one operator releases it, the other takes over, and the claim never lapses.
    world.labelled("a", "b").await;
    first.has_said(LET_GO, 1).await;
    insert_overdue(&world, 2).await;
    swept_by(&world, &second, 2).await;
    world.until_true("SELECT count(uid) = 2 FROM jobexec.stores WHERE table_name IN ('ta', 'tb')").await;

    // Back to the same operator, for which only the label is new. The other one may stop now.
    world.labelled("a", "a").await;
    second.has_said(LET_GO, 1).await;
    insert_overdue(&world, 3).await;
    swept_by(&world, &first, 3).await;
    assert!(second.stop().success());
    world.sql("INSERT INTO ta VALUES (4, 1, 1, 'running', now() - interval '2 days')").await;
    world.until_true("SELECT status = 'failed' FROM ta WHERE id = 4").await;
    world.until_true("SELECT uid IS NOT NULL FROM jobexec.stores WHERE table_name = 'ta'").await;

    let doubled = "SELECT count(*) FROM (SELECT FROM jobexec.events WHERE action = 'Failed' \
                   GROUP BY store_id, execution_id HAVING count(*) > 1) AS twice";
    assert_eq!(world.one::<i64>(doubled).await, 0);
    assert!(wrong.lock().unwrap().is_empty(), "{:?}", wrong.lock().unwrap());
    // An operator with a selector does not report on a store that does not exist.
    let nowhere = world.api::<JobExecution>().get("e-nowhere").await.unwrap();
    assert!(nowhere.status.is_none(), "{nowhere:?}");
    assert!(first.stop().success());

    let all = world.operator();
    world
        .policy_until(&all, "of-nowhere", |s| is(&s.conditions, "StoreFound", "False", "StoreNotFound"))
        .await;
    let stores = world.api::<ExecutionStore>().list(&ListParams::default()).await.unwrap();
    assert_eq!(stores.items.len(), 2);
}

#[test]
fn names_and_selectors_that_cannot_be_are_refused_at_the_start() {
    for (option, value, part) in [
        ("--namespaces", "Team_A", "cannot be the name of a namespace"),
        ("--namespaces", "a,,b", "cannot be the name of a namespace"),
        ("--store-selector", "team in", "no requirement of a label selector"),
        ("--store-selector", "team=a,", "comma too many"),
        ("--store-selector", "team=ä", "cannot be the value of a label"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_jobexec"))
            .args(["operator", option, value])
            .env_clear()
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(part) && told.contains(option), "{told}");
    }
}
