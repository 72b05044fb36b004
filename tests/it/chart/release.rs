//! A release from its installation to its end, in a cluster of its own, since custom resource definitions and user roles
//! exist once in a cluster.

use jobexec_operator::api;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use serde_json::{Value, json};

use super::lacking;
use crate::support::helm::{CHART, Helm, objects, one};
use crate::support::{World, rbac};

/// The namespace of the operator; the stores that it manages are elsewhere.
pub(super) const NAMESPACE: &str = "jobexec-system";
pub(super) const RELEASE: &str = "jobexec-operator";

/// The definitions of an older version of the operator.
fn older() -> Vec<CustomResourceDefinition> {
    let mut crds = serde_json::to_value(api::crds()).unwrap();
    for crd in crds.as_array_mut().unwrap() {
        let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        schema["properties"]["spec"]["properties"].as_object_mut().unwrap().remove("history");
    }
    serde_json::from_value(crds).unwrap()
}

/// Reports whether stores have a field that the older definition did not have.
async fn current(world: &World) -> bool {
    let crds: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let crd = serde_json::to_value(crds.get("executionstores.jobexec.dev").await.unwrap()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"]["properties"].get("history").is_some()
}

async fn deployment(world: &World) -> Value {
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), NAMESPACE);
    serde_json::to_value(deployments.get(RELEASE).await.unwrap()).unwrap()
}

async fn budgets(world: &World) -> usize {
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(world.client.clone(), NAMESPACE);
    budgets.list(&kube::api::ListParams::default()).await.unwrap().items.len()
}

#[tokio::test]
async fn a_release_lives_and_leaves_what_is_not_its_own() {
    let world = World::on_own_cluster("chart", older()).await;
    let helm = Helm::new(&world.admin_kubeconfig()).await;
    older_definitions_will_do(&world).await;
    install(&world, &helm).await;
    works(&world, &helm).await;
    lacking::a_second_one_in_its_namespace(&world, &helm);
    lacking::without_rights_in_the_cluster(&world, &helm).await;
    upgrade_and_rollback(&world, &helm).await;
    uninstall(&world, &helm).await;
}

/// If the operator is installed before its definitions, it does everything that the old ones allow.
async fn older_definitions_will_do(world: &World) {
    world.sql("INSERT INTO job_executions VALUES (0, 1, 1, 'running', now() - interval '30 hours')").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.event_until(&operator, "jobs", "StaleExecutionsFailed").await;
    assert_eq!(world.status(0).await, "failed");
    assert!(operator.stop().success());
}

async fn install(world: &World, helm: &Helm) {
    let watch = format!("watchNamespaces={{{}}}", world.namespace);
    let install =
        ["install", RELEASE, CHART, "--namespace", NAMESPACE, "--create-namespace", "--set", &watch];
    // Objects that others have installed are not taken over without a flag.
    let told = helm.run(&install).refused();
    assert!(told.contains("invalid ownership metadata"), "{told}");
    assert!(!current(world).await);
    let told = helm.run(&[&install[..], &["--take-ownership", "--force-conflicts"]].concat()).done();
    assert!(told.contains("kind: ExecutionStore") && told.contains("create secret generic"), "{told}");
    assert!(current(world).await, "the definitions are those of the chart");
}

/// The operator works with the configuration of the release: the arguments, the environment, the account and its
/// permissions.
async fn works(world: &World, helm: &Helm) {
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '30 hours')").await;
    let operator = world.deployed(&deployment(world).await).await;
    world.store(json!({"executionObjects": {"enabled": true}})).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    world
        .store_until(&operator, |s| s.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
        .await;
    helm_test(world, helm, &operator.address("https").await).await;
    assert!(operator.stop().success());
}

/// Runs the command of `helm test`, without a Pod.
async fn helm_test(world: &World, helm: &Helm, address: &str) {
    let hooks = objects(&helm.run(&["get", "hooks", RELEASE, "--namespace", NAMESPACE]).done());
    let arguments = one(&hooks, "Pod")["spec"]["containers"][0]["args"].as_array().unwrap().clone();
    let service = format!("https://{RELEASE}.{NAMESPACE}.svc:8443");
    let here = |argument: &Value| argument.as_str().unwrap().replace(&service, &format!("https://{address}"));
    let ping = |token: &str| {
        std::process::Command::new(env!("CARGO_BIN_EXE_jobexec"))
            .args(arguments.iter().map(here))
            .env("JOBEXEC_TOKEN", token)
            .output()
            .unwrap()
    };
    let well = ping(&rbac::token(&world.client, NAMESPACE, "default", &[]).await);
    assert!(well.status.success(), "{}", String::from_utf8_lossy(&well.stderr));
    let refused = ping("nonsense");
    assert_eq!(refused.status.code(), Some(2), "a token that Kubernetes does not know");
}

async fn upgrade_and_rollback(world: &World, helm: &Helm) {
    let of_release = [RELEASE, "--namespace", NAMESPACE];
    let more = ["--reuse-values", "--set", "replicaCount=3,log.format=text"];
    let told = helm.run(&[&["upgrade", RELEASE, CHART, "--namespace", NAMESPACE], &more[..]].concat()).done();
    assert!(told.contains("get executionstores") && !told.contains("create secret generic"), "{told}");
    assert_eq!(deployment(world).await["spec"]["replicas"], 3);
    assert_eq!(budgets(world).await, 1);
    helm.run(&[&["rollback"], &of_release[..], &["1"]].concat()).done();
    assert_eq!(deployment(world).await["spec"]["replicas"], 1);
    assert_eq!(budgets(world).await, 0);
    assert!(current(world).await);
}

async fn uninstall(world: &World, helm: &Helm) {
    helm.run(&["uninstall", RELEASE, "--namespace", NAMESPACE]).done();
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), NAMESPACE);
    assert!(deployments.get_opt(RELEASE).await.unwrap().is_none());
    let store = world.api::<api::ExecutionStore>().get("jobs").await.unwrap();
    assert_eq!(store.spec.connection.secret_ref.name, "db", "stores stay as they are");
    assert_eq!(world.status(1).await, "failed");
    // The next release does not have to take over leftovers of this one.
    let watch = format!("watchNamespaces={{{}}}", world.namespace);
    helm.run(&["install", RELEASE, CHART, "--namespace", NAMESPACE, "--set", &watch]).done();
    let operator = world.deployed(&deployment(world).await).await;
    world.sql("INSERT INTO job_executions VALUES (2, 1, 2, 'running', now() - interval '30 hours')").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
    assert!(operator.stop().success());
}
