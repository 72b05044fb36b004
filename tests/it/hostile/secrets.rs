//! The content of Secrets stays secret: canaries in every Secret that can be named, through every error path.

use jobexec_operator::api::{ExecutionPolicy, ExecutionStore, ExecutionStoreStatus, JobExecution};
use kube::api::ListParams;
use serde_json::json;

use super::canary::Canaries;
use super::places::{channels, commands, connections, private_key};
use crate::support::hook::{Hook, status};
use crate::support::https::{self, Https, OPEN, SERVE};
use crate::support::{Operator, PATIENCE, World, is, message, rbac};

const ADMINISTRATOR: &str = "jobexec-administrator";

/// All output of the operator and its command line.
async fn all_output(world: &World, operator: &Operator, https: &Https) -> Vec<(String, String)> {
    let params = ListParams::default();
    let stores = world.api::<ExecutionStore>().list(&params).await.unwrap().items;
    let policies = world.api::<ExecutionPolicy>().list(&params).await.unwrap().items;
    let executions = world.api::<JobExecution>().list(&params).await.unwrap().items;
    let messages: String =
        world.one("SELECT COALESCE(string_agg(m::text, E'\\n'), '') FROM jobexec.messages AS m").await;
    let mut output = vec![
        ("the stores".to_owned(), json(&stores)),
        ("the policies".to_owned(), json(&policies)),
        ("the executions".to_owned(), json(&executions)),
        ("the Events".to_owned(), json(&world.events().await)),
        ("the log".to_owned(), operator.log()),
        ("the metrics".to_owned(), operator.metrics().await),
        ("the messages".to_owned(), messages),
    ];
    let store = world.named("jobs");
    let token = world.token(ADMINISTRATOR).await;
    let cookie = format!("__Host-jobexec={token}");
    for path in [
        "/api/system/health".to_owned(),
        format!("/api/system/health?store={store}"),
        "/api/system/executions".to_owned(),
        "/api/system/history".to_owned(),
        format!("/api/system/executions/{store}/1/explain"),
        "/".to_owned(),
    ] {
        let request = https.with(&token).request(reqwest::Method::GET, &path).header("cookie", &cookie);
        output.push((format!("GET {path}"), request.send().await.unwrap().text().await.unwrap()));
    }
    output
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_canary_leaves_its_secret() {
    let world = World::new("canaries").await;
    let canaries = Canaries::default();
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    let channels = channels(&world, &canaries).await;
    let stores = connections(&world, &canaries).await;
    rbac::install_api(&world.client, &world.namespace).await;
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = world.file("tls.crt", &made.cert.pem());
    let key = world.file("tls.key", &made.signing_key.serialize_pem());
    let files = [("TLS_CERT_FILE", &*certificate), ("TLS_KEY_FILE", &*key), ("RUST_LOG", "trace")];
    let operator = world.operator_with(&[&OPEN[..], &SERVE[..], &files].concat());
    let https = world.api_of(&operator).await;
    world.store(channels.spec.clone()).await;
    for (name, reason) in &stores {
        let told = |s: &ExecutionStoreStatus| is(&s.conditions, "DatabaseReachable", "False", reason);
        world.store_named_until(&operator, name, told).await;
    }
    let tried = format!(
        "SELECT count(DISTINCT channel) = {} FROM jobexec.messages WHERE error IS NOT NULL",
        channels.count
    );
    world.until_true(&tried).await;
    world
        .store_until(&operator, |s| {
            s.conditions.iter().any(|c| c.type_ == "NotificationsDelivered" && c.status == "False")
        })
        .await;
    let request = &channels.echo.requests()[0];
    assert!(
        request.headers["authorization"].starts_with("Basic "),
        "the canaries went where they should: {request:?}"
    );

    // A broken key file, and an invalid token, while the API continues to serve.
    let _ = https.get("/api/system/health").await;
    let broken = private_key(&canaries.put("the key of the API")).replace('\n', "");
    world.file("tls.key", &broken);
    let bearer = canaries.put("a token of a caller");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !operator.log().contains("cannot load the certificate") {
        assert!(tokio::time::Instant::now() < deadline, "{}", operator.log());
        // The files are read when a connection arrives.
        let anew = https.with_client(https::client()).with(&bearer);
        let (status, answer) = anew.get("/api/system/health").await;
        canaries.assert_none_in("an answer of the API", &answer.to_string());
        assert_eq!(status, 401);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }

    for (what, text) in all_output(&world, &operator, &https).await {
        assert!(!text.is_empty(), "{what}");
        canaries.assert_none_in(&what, &text);
    }
    let body: Vec<String> = channels
        .echo
        .requests()
        .iter()
        .map(|request| String::from_utf8_lossy(&request.body).into_owned())
        .collect();
    canaries.assert_none_in("what a template made", &body.concat());
    for (what, text) in commands(&world, &https, &canaries) {
        canaries.assert_none_in(&what, &text);
    }
    drop(operator);
}

/// A policy may name only Secrets with a label for this purpose: people who may write policies may not use others, not
/// even to sign a text.
#[tokio::test]
async fn a_secret_without_the_label_is_not_used_for_notifications() {
    let world = World::new("unlabelled").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    let hook = Hook::start(false, status("200 OK")).await;
    let key = json!({"key": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "url": hook.base});
    world.secret_for("theirs", json!({"jobexec.dev/use": "other"}), key.clone()).await;
    let signing = json!({"url": hook.base, "signingSecretRef": {"name": "theirs", "key": "key"}});
    let address = json!({"urlSecretRef": {"name": "theirs", "key": "url"}});
    let own = json!({"selector": {"jobIds": ["1"]}, "notifications": {"channels": [{"name": "signed", "webhook": signing}]}});
    world.policy("own", own).await;
    let operator = world.operator();
    let channels = json!([{"name": "chat", "webhook": address}]);
    world
        .store(json!({"notifications": {"groupWait": "0s", "groupInterval": "0s", "channels": channels}}))
        .await;
    let told =
        |s: &ExecutionStoreStatus| is(&s.conditions, "NotificationsDelivered", "False", "SecretNotLabelled");
    let told = world.store_until(&operator, told).await;
    let remedy = format!("kubectl -n {} label secret theirs jobexec.dev/use=notifications", world.namespace);
    assert!(message(&told.conditions, "NotificationsDelivered").contains(&remedy), "{:#?}", told.conditions);
    assert_eq!(hook.requests().len(), 0);
    // With the label, it is used at the next attempt, which the corrected spec triggers at once.
    world.secret_for("theirs", json!({"jobexec.dev/use": "notifications"}), key).await;
    world.until_true("SELECT bool_and(outcome = 'Delivered') FROM jobexec.messages").await;
    assert!(hook.requests().iter().any(|request| request.headers.contains_key("webhook-signature")));
    drop(operator);
}

/// An object of an older CRD may contain any name. As part of a path it would have led to a different request.
#[tokio::test]
async fn a_name_that_is_none_never_reaches_a_request() {
    let world = World::on_own_cluster("secretnames", crate::guard::loosened()).await;
    let operator = world.operator();
    let elsewhere = format!("../../{}/secrets/db", world.namespace);
    let odd = [
        ("query", json!({"name": "db?x=1", "key": "uri"})),
        ("elsewhere", json!({"name": elsewhere, "key": "uri"})),
        ("escaped", json!({"name": "d%62", "key": "uri"})),
        ("fragment", json!({"name": "db#x", "key": "uri"})),
        ("key", json!({"name": "db", "key": "uri/x"})),
    ];
    for (name, reference) in &odd {
        let mut store = World::store_with(name, json!({"connection": {"secretRef": reference}}));
        store["spec"]["connection"]["statementTimeout"] = json!("30s");
        world.apply::<ExecutionStore>(name, store).await.unwrap();
    }
    for (name, _) in odd {
        let told =
            |s: &ExecutionStoreStatus| is(&s.conditions, "DatabaseReachable", "False", "SecretRefInvalid");
        world.store_named_until(&operator, name, told).await;
    }
}
