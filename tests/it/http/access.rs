//! Permissions: Kubernetes decides, and nothing is allowed while it cannot be reached.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use super::{CLEANUP, HEALTH, HISTORY, RUNNING, STATS, TRENDS};
use crate::support::proxy::{Mode, Proxies};
use crate::support::{World, rbac};

#[tokio::test]
async fn nothing_is_open_but_what_rbac_opens() {
    let world = World::new("apiaccess").await;
    let (_operator, anonymous) = world.serving(&[]).await;
    world.sql("INSERT INTO job_executions VALUES (7, 1, 1, 'running', now() - interval '2 hours')").await;
    world.store(json!({"longRunning": {"threshold": 0}})).await;
    let store = world.named("jobs");
    let reads = [
        HEALTH.to_owned(),
        format!("{HEALTH}?store={store}"),
        RUNNING.to_owned(),
        format!("{RUNNING}?store={store}"),
        HISTORY.to_owned(),
        TRENDS.to_owned(),
        format!("{STATS}?store={store}"),
        format!("/api/system/executions/{store}/1/explain"),
        "/api/openapi.json".to_owned(),
    ];
    for path in &reads {
        let (status, problem) = anonymous.get(path).await;
        assert_eq!((status, &problem["reason"]), (401, &json!("Unauthenticated")), "{path}");
    }
    assert_eq!(anonymous.post(CLEANUP).await.0, 401);
    let bare = anonymous.request(reqwest::Method::GET, HEALTH).send().await.unwrap();
    assert!(bare.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));

    // An account without any binding. A token alone gives no access either, although Kubernetes' own roles allow /api/*.
    let nobody = anonymous.with(&rbac::token(&world.client, &world.namespace, "nobody", &[]).await);
    for path in &reads {
        let (status, problem) = nobody.get(path).await;
        assert_eq!((status, &problem["reason"]), (403, &json!("Forbidden")), "{path}");
    }
    assert_eq!(nobody.post(CLEANUP).await.0, 403);

    let reader = anonymous.with(&world.token("jobexec-reader").await);
    let long = |health: &serde_json::Value| health["reason"] == "LongRunningExecutions";
    reader.until(&format!("{HEALTH}?store={store}"), |status, health| status == 200 && long(health)).await;
    for path in [RUNNING, HISTORY, TRENDS, STATS] {
        assert_eq!(reader.get(path).await.0, 200, "every store is in the namespace: {path}");
    }
    assert_eq!(reader.get(&format!("/api/system/executions/{store}/1/explain")).await.0, 404);
    assert_eq!(reader.get(HEALTH).await.0, 403, "the totals need the right to get the path");
    let (status, problem) = reader.post(&format!("{CLEANUP}?store={store}")).await;
    assert_eq!(status, 403);
    let detail = problem["detail"].as_str().unwrap();
    let told = format!("{} may not create executionstores.jobexec.dev/cleanup", world.user("jobexec-reader"));
    assert!(detail.contains(&told), "{detail}");
    // A caller who may not see a store does not learn whether it exists.
    for store in ["kube-system/jobs", "nowhere/jobs"] {
        assert_eq!(reader.get(&format!("{RUNNING}?store={store}")).await.0, 403);
    }

    // Health is opened to everybody, and nothing else.
    let everybody =
        json!({"kind": "Group", "name": "system:unauthenticated", "apiGroup": "rbac.authorization.k8s.io"});
    let binding = rbac::bind(&world.client, None, "jobexec-health", everybody).await;
    let health = anonymous.until(HEALTH, |status, _| status == 200).await;
    assert_eq!((&health["status"], &health["stores"]), (&json!("warning"), &json!(1)), "{health:#}");
    assert_eq!((health.get("reason"), health.get("message")), (None, None), "totals do not say why");
    assert!(!health.to_string().contains("jobs"), "totals name no store: {health:#}");
    assert_eq!(anonymous.get(RUNNING).await.0, 401);
    // Other tests share the cluster.
    let bindings: Api<ClusterRoleBinding> = Api::all(world.client.clone());
    bindings.delete(&binding, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_token_must_be_a_good_one() {
    let world = World::new("apitoken").await;
    let (_operator, https) = world.serving(&[]).await;
    world.store(json!({})).await;
    let path = format!("{RUNNING}?store={}", world.named("jobs"));
    let good = world.token("jobexec-reader").await;
    https.with(&good).until(&path, |status, _| status == 200).await;

    let other = rbac::token(&world.client, &world.namespace, "jobexec-reader", &["vault"]).await;
    let gone = rbac::token(&world.client, &world.namespace, "gone", &[]).await;
    world.delete::<ServiceAccount>("gone").await;
    let mut forged = good.clone();
    forged.truncate(good.len() - 8);
    for (token, why) in [
        (other.as_str(), "for another audience"),
        (&gone, "of an account that is gone"),
        (&format!("{forged}AAAAAAAA"), "with another signature"),
        ("nonsense", "nonsense"),
    ] {
        let (status, problem) = https.with(token).get(&path).await;
        assert_eq!((status, &problem["reason"]), (401, &json!("TokenRefused")), "{why}");
    }
    for header in ["Basic YWRtaW46YWRtaW4=", "Bearer", "Bearer "] {
        let request = https.request(reqwest::Method::GET, &path).header("Authorization", header);
        assert_eq!(request.send().await.unwrap().status(), 401, "{header:?}");
    }
}

#[tokio::test]
async fn an_audience_of_its_own_is_the_only_one() {
    let world = World::new("apiaudience").await;
    let (_operator, https) = world.serving(&[("TOKEN_AUDIENCE", "jobexec")]).await;
    world.store(json!({})).await;
    let path = format!("{RUNNING}?store={}", world.named("jobs"));
    let usual = world.token("jobexec-reader").await;
    let meant = rbac::token(&world.client, &world.namespace, "jobexec-reader", &["jobexec"]).await;
    https.with(&meant).until(&path, |status, _| status == 200).await;
    assert_eq!(https.with(&usual).get(&path).await.0, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_api_server_what_was_allowed_holds_for_a_while_and_nothing_else() {
    let world = World::new("apiaway").await;
    let proxies = Proxies::before(&world).await;
    let (_operator, https) = world.serving(&[("AUTH_CACHE_TTL", "10s")]).await;
    world.store(json!({})).await;
    let path = format!("{RUNNING}?store={}", world.named("jobs"));
    let known = https.with(&world.token("jobexec-reader").await);
    let stranger = https.with(&rbac::token(&world.client, &world.namespace, "jobexec-reader", &[]).await);
    // Another caller waits until the operator serves, so that the decision about this one has ten seconds left.
    let other = https.with(&world.token("jobexec-administrator").await);
    other.until(&path, |status, _| status == 200).await;
    assert_eq!(known.get(&path).await.0, 200);
    proxies.api.gate.set(Mode::Away);
    assert_eq!(known.get(&path).await.0, 200, "the decision is known");
    let (status, problem) = stranger.get(&path).await;
    assert_eq!((status, &problem["reason"]), (503, &json!("AuthorizerUnavailable")), "{problem:#}");
    assert_eq!(known.post(&format!("{CLEANUP}?store={}", world.named("jobs"))).await.0, 503);
    let problem = known.until(&path, |status, _| status != 200).await;
    assert_eq!(problem["reason"], "AuthorizerUnavailable", "it has expired: {problem:#}");
    proxies.api.gate.set(Mode::Open);
    known.until(&path, |status, _| status == 200).await;
}

#[tokio::test]
async fn an_operator_that_may_not_ask_opens_nothing() {
    let world = World::new("apiblind").await;
    let env = crate::support::https::SERVE;
    let operator = world.operator_with(&env);
    let https = world.api_of(&operator).await;
    world.store(json!({})).await;
    let (status, problem) = https.with(&world.token("jobexec-reader").await).get(RUNNING).await;
    assert_eq!((status, &problem["reason"]), (503, &json!("AuthorizerUnavailable")));
    assert!(problem["detail"].as_str().unwrap().contains("system:auth-delegator"), "{problem:#}");
    assert_eq!(https.get(HEALTH).await.1["reason"], "AuthorizerUnavailable");
}
