//! Metrics of a real operator: access to them, and their values.

use jobexec_operator::api::ExecutionStore;
use jobexec_operator::metrics::Format;
use k8s_openapi::api::core::v1::ServiceAccount;
use reqwest::Method;
use serde_json::json;

use super::{clean, names, promtool};
use crate::support::https::{self, Https};
use crate::support::{PATIENCE, World, is, rbac};

const PATH: &str = "/metrics";

/// A token of an account that may read metrics.
pub(super) async fn scraper(world: &World) -> String {
    let subject = json!({"kind": "ServiceAccount", "name": "prometheus", "namespace": world.namespace});
    rbac::bind(&world.client, None, "jobexec-metrics", subject).await;
    rbac::token(&world.client, &world.namespace, "prometheus", &[]).await
}

/// The metrics, once they are as wanted.
async fn until(https: &Https, wanted: impl Fn(&str) -> bool) -> String {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = https.request(Method::GET, PATH).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        if status == 200 && wanted(&text) {
            return text;
        }
        assert!(tokio::time::Instant::now() < deadline, "{status}\n{text}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn kubernetes_decides_who_gets_them() {
    let world = World::new("metricsaccess").await;
    let (operator, anonymous) = world.serving(&[]).await;
    let (status, problem) = anonymous.get(PATH).await;
    assert_eq!((status, &problem["reason"]), (401, &json!("Unauthenticated")));
    // Whatever other permissions the caller has.
    let (status, problem) = anonymous.with(&world.token("jobexec-administrator").await).get(PATH).await;
    assert_eq!((status, &problem["reason"]), (403, &json!("Forbidden")));
    assert!(problem["detail"].as_str().unwrap().contains("get the non-resource URL /metrics"), "{problem:#}");
    let scraper = anonymous.with(&scraper(&world).await);
    let page = until(&scraper, |_| true).await;
    assert!(page.contains("\njobexec_build_info{version="), "{page}");
    let refused = "jobexec_http_requests_total{route=\"/metrics\",code=\"401\"} 1";
    assert!(page.contains(refused), "{page}");
    // An unknown path does not get a series of its own.
    anonymous.get("/made/up").await;
    let page = until(&scraper, |page| page.contains("route=\"(none)\",code=\"404\"")).await;
    assert!(!page.contains("made"), "{page}");

    let post = scraper.request(Method::POST, PATH).send().await.unwrap();
    assert_eq!(post.status(), 405);
    let open =
        scraper.request(Method::GET, PATH).header("Accept", "application/openmetrics-text; version=1.0.0");
    let open = open.send().await.unwrap();
    assert_eq!(open.headers()["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.text().await.unwrap().ends_with("# EOF\n"));

    // The other address does not authenticate callers, so it serves no metrics.
    let probes = operator.address("probes").await;
    let answer =
        https::builder().build().unwrap().get(format!("http://{probes}{PATH}")).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    world.delete::<ServiceAccount>("prometheus").await;
}

#[tokio::test]
async fn where_the_administrator_wants_it_they_are_open_beside_the_probes() {
    let world = World::new("metricsopen").await;
    let (operator, anonymous) = world.serving(&[("METRICS", "open")]).await;
    let probes = operator.address("probes").await;
    let answer =
        https::builder().build().unwrap().get(format!("http://{probes}{PATH}")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let Some(output) =
        promtool("metrics_are_open", &["check", "metrics"], Some(&answer.text().await.unwrap()))
    else {
        return;
    };
    clean(&output);
    assert_eq!(anonymous.get(PATH).await.0, 401, "the API's address is not opened with it");
}

#[tokio::test]
async fn they_tell_what_was_done_until_the_store_is_gone() {
    let world = World::new("metricsdone").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 days' FROM generate_series(1, 3) n; \
             INSERT INTO job_executions VALUES (9, 2, 1, 'running', now() - interval '2 hours')",
        )
        .await;
    let (operator, https) = world.serving(&[]).await;
    let token = scraper(&world).await;
    let scraper = https.with(&token);
    world.store(json!({"maxFailuresPerSweep": 2})).await;
    world.store_until(&operator, |s| is(&s.conditions, "EnforcementPaused", "True", "BreakerOpen")).await;
    let of = format!("{{namespace=\"{}\",store=\"jobs\"", world.namespace);
    let open =
        format!("jobexec_store_condition_reason{of},type=\"EnforcementPaused\",reason=\"BreakerOpen\"}} 1");
    let stale = format!("jobexec_store_stale_executions{of}}} 3");
    let page = until(&scraper, |page| page.contains(&open) && page.contains(&stale)).await;
    assert!(page.contains(&format!("jobexec_store_breaker_openings_total{of}}} 1")), "{page}");
    assert!(page.contains(&format!("jobexec_store_running_executions{of}}} 4")), "{page}");
    assert!(page.contains(&format!("jobexec_store_long_running_executions{of}}} 4")), "{page}");

    // Another operator finds it open: it does not count as a new opening, and it stays open until somebody resumes the
    // store.
    operator.kill();
    let (operator, https) = world.serving(&[]).await;
    let scraper = https.with(&token);
    let found = format!("jobexec_store_breaker_openings_total{of}}} 0");
    until(&scraper, |page| page.contains(&open) && page.contains(&stale) && page.contains(&found)).await;
    world.annotate("jobexec.dev/resume", "now").await;
    let ended =
        format!("jobexec_store_executions_ended_total{of},status=\"failed\",reason=\"DeadlineExceeded\"}} 3");
    let stale = format!("jobexec_store_stale_executions{of}}} 0");
    let page = until(&scraper, |page| page.contains(&ended) && page.contains(&stale)).await;
    for expected in [
        format!("jobexec_store_detection_lag_seconds_count{of}}} 3"),
        format!("jobexec_store_sweep_duration_seconds_count{of}}} 1"),
        format!("jobexec_store_last_sweep_ended_executions{of}}} 3"),
        found,
        format!("jobexec_store_condition{of},type=\"Ready\",status=\"true\"}} 1"),
        "jobexec_reconciles_total{controller=\"executionstore\",outcome=\"success\"}".to_owned(),
    ] {
        assert!(page.contains(&expected), "no {expected} in\n{page}");
    }
    let (known, told) = (names(&super::page(Format::Prometheus)), names(&page));
    assert!(told.is_subset(&known), "{:?}", told.difference(&known).collect::<Vec<_>>());

    // A policy that needs more history than there is has no ratio, one with a computed timeout has.
    world
        .sql(
            "INSERT INTO job_executions SELECT n, 7, n, 'completed', now() - interval '3 hours', now() - interval '1 hour' \
             FROM generate_series(100, 130) n",
        )
        .await;
    let dynamic =
        json!({"dynamicTimeout": {"quantile": 0.95, "multiplier": 2, "minSamples": 10}, "timeout": "1h"});
    world.policy("dynamic", dynamic).await;
    let ratio = format!(
        "jobexec_policy_dynamic_timeout_max_ratio{{namespace=\"{}\",policy=\"dynamic\",store=\"jobs\"}} 4",
        world.namespace
    );
    until(&scraper, |page| page.contains(&ratio) && page.contains("jobexec_policy_condition{")).await;

    world.delete::<ExecutionStore>("jobs").await;
    until(&scraper, |page| !page.contains("\njobexec_store_")).await;
    drop(operator);
}
