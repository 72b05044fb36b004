//! Invalid input: each response explains the error, and no request has an effect.

use reqwest::Method;
use serde_json::{Value, json};

use super::{CLEANUP, EXECUTIONS, HEALTH, HISTORY, RUNNING, ids};
use crate::support::World;
use crate::support::https::{Https, told};

/// Reading: paths, parameters, cursors and ids that are wrong, and some that only seem so.
async fn wrong_queries(admin: &Https, namespace: &str, store: &str) {
    let explain = format!("/api/system/executions/{store}");
    for (path, status, reason) in [
        (format!("{RUNNING}?store={namespace}/none"), 404, "StoreNotFound"),
        (format!("{HEALTH}?store={namespace}/none"), 404, "StoreNotFound"),
        (format!("{RUNNING}?store=jobs"), 400, "InvalidParameter"),
        (format!("{RUNNING}?store=%25/%25"), 400, "InvalidParameter"),
        (format!("{RUNNING}?shop={store}"), 400, "InvalidParameter"),
        (format!("{RUNNING}?older_than=-1h"), 400, "InvalidParameter"),
        (format!("{RUNNING}?older_than=1.5h"), 400, "InvalidParameter"),
        (format!("{RUNNING}?limit=0"), 400, "InvalidParameter"),
        (format!("{RUNNING}?limit=501"), 400, "InvalidParameter"),
        (format!("{RUNNING}?cursor=nonsense"), 400, "InvalidParameter"),
        (format!("{RUNNING}?cursor={}", cursor(store, "nonsense~1")), 400, "InvalidParameter"),
        (format!("{RUNNING}?cursor={}", cursor(store, "2025-01-01~x")), 400, "InvalidParameter"),
        (format!("{HISTORY}?cursor={}", cursor(store, "x")), 400, "InvalidParameter"),
        (format!("{HISTORY}?since=yesterday"), 400, "InvalidParameter"),
        // For a single store, an invalid job or execution id is an error.
        (format!("{RUNNING}?store={store}&job=_"), 400, "InvalidJobId"),
        (format!("{HISTORY}?store={store}&job=_"), 400, "InvalidJobId"),
        (format!("{HISTORY}?store={store}&id=%25"), 400, "InvalidExecutionId"),
        (format!("{EXECUTIONS}?which=any"), 400, "InvalidParameter"),
        (format!("{EXECUTIONS}?stale=true"), 400, "InvalidParameter"),
        (format!("{explain}/2/explain"), 404, "ExecutionNotFound"),
        (format!("{explain}/abc/explain"), 400, "InvalidExecutionId"),
        (format!("{explain}/99999999999999999999/explain"), 400, "InvalidExecutionId"),
        (format!("{explain}/1/explain?x=1"), 400, "InvalidParameter"),
        (format!("/api/system/executions/{namespace}/none/1/explain"), 404, "StoreNotFound"),
        ("/api/system".to_owned(), 404, "NotFound"),
        ("/api".to_owned(), 404, "NotFound"),
        (CLEANUP.to_owned(), 405, "MethodNotAllowed"),
    ] {
        let (code, problem) = admin.get(&path).await;
        assert_eq!((code, problem["reason"].as_str()), (status, Some(reason)), "{path}: {problem:#}");
    }
    // Wildcards are normal characters, and no job has such an id.
    for path in [format!("{RUNNING}?job=%25"), format!("{RUNNING}?job=_"), format!("{RUNNING}?job=1%00")] {
        assert_eq!(ids(&admin.get(&path).await.1), Vec::<&str>::new(), "{path}");
    }
    assert_eq!(admin.get(&format!("{HISTORY}?id=%25")).await.1["events"], json!([]));
}

/// Clean-ups with a wrong query, a wrong body, or a body in another format.
async fn wrong_clean_ups(admin: &Https, store: &str) {
    for query in [
        "max_hours=0",
        "max_hours=-1",
        "max_hours=NaN",
        "max_hours=inf",
        "max_hours=1e9",
        "max_hours=one",
        "max-hours=1",
        "dry-run=true&max_hours=1",
        "dry_run&max_hours=1",
        "dry_run=yes&max_hours=1",
        "include_governed=true",
        "max_hours=1&max_hours=2",
        "max_hours=1&older_than=1h",
        "older_than=0s",
        "older_than=1.5h",
        "ids=1",
    ] {
        let (status, problem) = admin.post(&format!("{CLEANUP}?{query}")).await;
        assert_eq!((status, problem["reason"].as_str()), (400, Some("InvalidParameter")), "{query}");
    }
    for (query, body, status) in [
        ("", json!({"max_hours": -1}), 400),
        ("", json!({"max_hours": "1"}), 400),
        ("", json!({"hours": 1}), 400),
        ("", json!([1]), 400),
        ("?max_hours=1", json!({"max_hours": 1}), 400),
        ("?max_hours=1", json!({"older_than": "1h"}), 400),
        ("", json!({"ids": ["1"]}), 400),
        ("", json!({"ids": [1], "store": store}), 400),
        ("", json!({"ids": [], "store": store}), 400),
        ("", json!({"ids": ["%"], "store": store}), 400),
        ("", json!({"ids": vec!["2"; 1_001], "store": store}), 400),
    ] {
        assert_eq!(admin.post_json(&format!("{CLEANUP}{query}"), &body).await.0, status, "{query} {body}");
    }
    let plain =
        admin.request(Method::POST, CLEANUP).header("content-type", "application/x-www-form-urlencoded");
    let (status, problem) = told(plain.body("max_hours=1").send().await.unwrap()).await;
    assert_eq!((status, &problem["reason"]), (415, &json!("UnsupportedMediaType")));
    let broken = admin.request(Method::POST, CLEANUP).header("content-type", "application/json");
    assert_eq!(told(broken.body("{\"max_hours\":").send().await.unwrap()).await.0, 400);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused() {
    let world = World::new("apiinput").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '90 minutes')").await;
    let (_operator, https) = world.serving(&[]).await;
    world.store(json!({})).await;
    let admin = https.with(&world.token("jobexec-administrator").await);
    let (namespace, store) = (&world.namespace, world.named("jobs"));
    admin.until(&format!("{HEALTH}?store={store}"), |status, _| status == 200).await;

    wrong_queries(&admin, namespace, &store).await;
    wrong_clean_ups(&admin, &store).await;
    assert_eq!(world.status(1).await, "running", "none of them did anything");

    // A missing id is reported, and the others are processed nevertheless: here none of them is old enough.
    let named = json!({"ids": ["2", "1", "1"], "older_than": "2h", "store": store});
    let (status, report) = admin.post_json(CLEANUP, &named).await;
    let skipped: Vec<_> =
        report["executions"].as_array().unwrap().iter().map(|row| &row["skipped"]["reason"]).collect();
    assert_eq!((status, json!(skipped)), (200, json!(["NotFound", "TooYoung"])), "{report:#}");

    // A fraction of an hour is valid.
    let (status, report) = admin.post(&format!("{CLEANUP}?max_hours=1.5&store={store}")).await;
    assert_eq!((status, &report["cleaned"]), (200, &json!(1)), "{report:#}");
}

/// A cursor in the operator's format.
fn cursor(store: &str, place: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json!({store: place}).to_string())
}

#[tokio::test]
async fn what_the_table_holds_is_told_as_text_and_nothing_more() {
    let nasty = r#"<script>alert("1")</script>' OR 1=1 --"#;
    let spec = json!({"table": {"columns": {"jobType": "job_type"}}});
    let world = World::with(
        "apinasty",
        "CREATE TABLE job_executions (id text PRIMARY KEY, job_id text NOT NULL, execution_number integer NOT NULL, \
         status text NOT NULL, started_at timestamptz, completed_at timestamptz, job_type text)",
        &spec,
    )
    .await;
    sqlx::query("INSERT INTO job_executions VALUES ('a/b?c#%', $1, 1, 'running', now() - interval '1 hour', NULL, $1)")
        .bind(nasty)
        .execute(&world.pool)
        .await
        .unwrap();
    let (_operator, https) = world.serving(&[]).await;
    world.store(spec).await;
    let reader = https.with(&world.token("jobexec-reader").await);
    let page =
        reader.until(RUNNING, |_, page| page["executions"].as_array().is_some_and(|e| e.len() == 1)).await;
    let row = &page["executions"][0];
    assert_eq!((row["job_type"].as_str(), row["job_id"].as_str()), (Some(nasty), Some(nasty)));
    let found = reader.request(Method::GET, RUNNING).query(&[("job", nasty)]).send().await.unwrap();
    assert_eq!(found.headers()["x-content-type-options"], "nosniff");
    assert_eq!(ids(&told(found).await.1), ["a/b?c#%"]);
    let path = format!("/api/system/executions/{}/a%2Fb%3Fc%23%25/explain", world.named("jobs"));
    let (status, told) = reader.get(&path).await;
    assert_eq!((status, told["id"].as_str()), (200, Some("a/b?c#%")), "{told:#}");
}

#[tokio::test]
async fn the_document_says_what_there_is() {
    let world = World::new("apidocument").await;
    let (_operator, https) = world.serving(&[]).await;
    let subject = json!({"kind": "ServiceAccount", "name": "tool", "namespace": world.namespace});
    crate::support::rbac::bind(&world.client, None, "jobexec-health", subject).await;
    let tool = https.with(&crate::support::rbac::token(&world.client, &world.namespace, "tool", &[]).await);
    let document = tool.until("/api/openapi.json", |status, _| status == 200).await;
    assert_eq!(document["openapi"], "3.1.0");
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(
        paths,
        [
            CLEANUP,
            EXECUTIONS,
            RUNNING,
            "/api/system/executions/{namespace}/{store}/{id}/explain",
            "/api/system/executions/{namespace}/{store}/{id}/retry",
            HEALTH,
            HISTORY,
            "/api/system/stats",
            "/api/system/trends"
        ]
    );
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let problems = &operation["responses"]["401"]["content"]["application/problem+json"];
            assert_eq!(problems["schema"]["$ref"], "#/components/schemas/Problem", "{method} {path}");
        }
    }
    // Each referenced schema exists.
    let mut named = Vec::new();
    references(&document, &mut named);
    assert!(named.len() > 10);
    for name in named {
        assert!(document.pointer(&name[1..]).is_some(), "{name} is nowhere");
    }
    // Without any store, health is good.
    let health = tool.until(HEALTH, |status, _| status == 200).await;
    assert_eq!((&health["status"], &health["stores"]), (&json!("healthy"), &json!(0)), "{health:#}");
}

fn references(value: &Value, named: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            named.extend(object.get("$ref").and_then(Value::as_str).map(ToOwned::to_owned));
            object.values().for_each(|value| references(value, named));
        }
        Value::Array(array) => array.iter().for_each(|value| references(value, named)),
        _ => {}
    }
}
