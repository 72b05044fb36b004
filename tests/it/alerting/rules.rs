//! The alert rules, checked by promtool, and the runbook pages that they link to.

use std::path::Path;

use jobexec_operator::metrics::Format;
use serde_json::Value;

use super::{ROOT, asked, clean, names, page, promtool, rules};

pub(super) const RULES: &str = include_str!("../../../manifests/alerts/jobexec.rules.yaml");
const CONDITIONS: &str = include_str!("../../../manifests/kube-state-metrics/jobexec.rules.yaml");
const FOR_THE_OPERATOR: &str = include_str!("../../../manifests/alerts/prometheusrule.yaml");
const DOCS: &str = include_str!("../../../docs/alerting.md");
const TESTS: &str = include_str!("../../alerts/jobexec_test.yaml");
const TESTS_OF_CONDITIONS: &str = include_str!("../../alerts/conditions_test.yaml");

#[test]
fn promtool_accepts_them() {
    for file in ["manifests/alerts/jobexec.rules.yaml", "manifests/kube-state-metrics/jobexec.rules.yaml"] {
        let Some(output) = promtool("promtool_accepts_them", &["check", "rules", file], None) else { return };
        clean(&output);
    }
}

#[test]
fn they_fire_when_they_must_and_else_not() {
    for file in ["tests/alerts/jobexec_test.yaml", "tests/alerts/conditions_test.yaml"] {
        let test = "they_fire_when_they_must_and_else_not";
        let Some(output) = promtool(test, &["test", "rules", file], None) else { return };
        clean(&output);
    }
}

#[test]
fn each_alert_is_tested_and_leads_to_a_page() {
    for (text, tests) in [(RULES, TESTS), (CONDITIONS, TESTS_OF_CONDITIONS)] {
        for rule in rules(text) {
            let name = rule["alert"].as_str().unwrap();
            assert!(tests.contains(name), "{name} has no test");
            let annotation = |which: &str| rule["annotations"][which].as_str().unwrap_or_default();
            assert!(!annotation("summary").is_empty() && !annotation("description").is_empty(), "{name}");
            assert!(["info", "warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap()));
            let url = annotation("runbook_url");
            assert!(url.ends_with(&format!("/docs/runbooks/{name}.md")), "{name}: {url}");
            let file = Path::new(ROOT).join(format!("docs/runbooks/{name}.md"));
            let told = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(told.starts_with(&format!("# {name}\n")), "{name}");
            for part in ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"] {
                assert!(told.contains(part), "{name} has no {part}");
            }
        }
    }
}

#[test]
fn they_ask_for_metrics_that_are_exported() {
    let exported = names(&page(Format::Prometheus));
    for rule in rules(RULES) {
        for series in asked(rule["expr"].as_str().unwrap(), &["jobexec_", "process_"]) {
            assert!(exported.contains(series), "{} asks for {series}, which is not exported", rule["alert"]);
        }
    }
}

#[test]
fn the_page_lists_every_alert() {
    for rule in rules(RULES) {
        let name = rule["alert"].as_str().unwrap();
        let start = format!("| [{name}](runbooks/{name}.md) | ");
        let row = DOCS.lines().find(|line| line.starts_with(&start));
        let lasts = rule["for"].as_str().unwrap_or("0s");
        let end = format!(" | {lasts} | {} |", rule["labels"]["severity"].as_str().unwrap());
        assert!(row.is_some_and(|row| row.ends_with(&end)), "docs/alerting.md: {start}…{end}");
    }
}

/// `make generate` writes it and `make lint` compares it; this test checks it wherever the tests run.
#[test]
fn the_prometheus_rule_has_the_same() {
    let object: Value = serde_saphyr::from_str(FOR_THE_OPERATOR).unwrap();
    let file: Value = serde_saphyr::from_str(RULES).unwrap();
    assert_eq!(object["kind"], "PrometheusRule");
    assert_eq!(object["spec"], file, "run make generate");
}
