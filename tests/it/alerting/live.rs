//! From the database to the person on call: a real Prometheus scrapes a real operator, and a real Alertmanager receives
//! the alerts for its conditions.

use serde_json::{Value, json};

use super::access::scraper;
use super::rules::RULES;
use crate::support::prometheus::Monitor;
use crate::support::{World, is, machine};

/// The scrape configuration of manifests/alerts/servicemonitor.yaml, but with an interval of a second.
fn config(operator: &str, alertmanager: &str) -> String {
    let config = json!({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["jobexec.rules.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [{
            "job_name": "jobexec-operator", "scheme": "https", "honor_labels": true,
            "authorization": {"credentials_file": "token"},
            "tls_config": {"insecure_skip_verify": true},
            // A Prometheus in a cluster would set this.
            "static_configs": [{"targets": [operator], "labels": {"namespace": "jobexec-system"}}],
        }],
    });
    config.to_string()
}

/// The alert rules with short durations.
fn soon() -> String {
    let line =
        |line: &str| if line.trim_start().starts_with("for: ") { "        for: 1s" } else { line }.to_owned();
    RULES.lines().map(|text| line(text) + "\n").collect()
}

/// Waits until both have an alert on the store `jobs`, or on the operator.
async fn fires(prometheus: &Monitor, alertmanager: &Monitor, name: &str, namespace: Option<&str>) {
    let about = |labels: &Value| {
        labels["alertname"] == name
            && (namespace.is_none()
                || (labels["namespace"] == *namespace.unwrap() && labels["store"] == "jobs"))
    };
    let firing = |alert: &Value| alert["state"] == "firing" && about(&alert["labels"]);
    let any = |answer: &Value| answer["data"]["alerts"].as_array().is_some_and(|all| all.iter().any(firing));
    prometheus.until("/api/v1/alerts", any).await;
    let told = |answer: &Value| answer.as_array().is_some_and(|all| all.iter().any(|a| about(&a["labels"])));
    let alerts = alertmanager.until("/api/v2/alerts", told).await;
    let alert = alerts.as_array().unwrap().iter().find(|alert| about(&alert["labels"])).unwrap();
    let page = alert["annotations"]["runbook_url"].as_str().unwrap();
    assert!(page.ends_with(&format!("{name}.md")), "{alert:#}");
}

#[tokio::test]
async fn who_is_on_call_hears_what_the_conditions_say() {
    let test = "who_is_on_call_hears_what_the_conditions_say";
    let [prometheus, alertmanager] = ["prometheus", "prometheus-alertmanager"]
        .map(|name| machine::needs(test, machine::Part::Tool(name), machine::program(name)));
    let Some((prometheus, alertmanager)) = prometheus.zip(alertmanager) else { return };
    let world = World::new("oncall").await;
    world
        .sql("INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 days' FROM generate_series(1, 3) n")
        .await;
    let (operator, https) = world.serving(&[]).await;
    let receivers = json!({"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}).to_string();
    let alone = ["--cluster.listen-address="];
    let alertmanager = Monitor::start(&alertmanager, &alone, "--storage.path", &receivers, &[]).await;
    let token = scraper(&world).await;
    let config = config(https.address(), &alertmanager.address);
    let files = [("token", token.as_str()), ("jobexec.rules.yaml", &soon())];
    let prometheus = Monitor::start(&prometheus, &[], "--storage.tsdb.path", &config, &files).await;
    let up = |answer: &Value| answer["data"]["result"][0]["value"][1] == "1";
    prometheus.until("/api/v1/query?query=up", up).await;
    let namespace = Some(world.namespace.as_str());

    // Too many at once: the circuit breaker opens.
    world.store(json!({"maxFailuresPerSweep": 2})).await;
    fires(&prometheus, &alertmanager, "JobexecBreakerOpen", namespace).await;
    world.store_until(&operator, |s| is(&s.conditions, "EnforcementPaused", "True", "BreakerOpen")).await;
    world.annotate("jobexec.dev/resume", "now").await;
    let over = |answer: &Value| answer["data"]["alerts"].as_array().is_some_and(Vec::is_empty);
    prometheus.until("/api/v1/alerts", over).await;

    // The login is refused.
    world.sql(&format!("ALTER ROLE {} NOLOGIN", world.role)).await;
    world.terminate().await;
    fires(&prometheus, &alertmanager, "JobexecDatabaseUnreachable", namespace).await;
    world
        .store_until(&operator, |s| is(&s.conditions, "DatabaseReachable", "False", "AuthenticationFailed"))
        .await;
    let errors = |answer: &Value| answer["data"]["result"][0]["metric"]["store"] == "jobs";
    let query = "/api/v1/query?query=jobexec_store_database_errors_total{reason=\"AuthenticationFailed\"}>0";
    prometheus.until(query, errors).await;

    operator.kill();
    fires(&prometheus, &alertmanager, "JobexecOperatorAbsent", None).await;
}
