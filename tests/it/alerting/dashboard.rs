//! The dashboard queries only metrics that exist.

use std::collections::BTreeSet;

use jobexec_operator::metrics::Format;
use serde_json::Value;

use super::{asked, clean, names, page, promtool};

const DASHBOARD: &str = include_str!("../../../manifests/grafana/jobexec.json");

/// The expressions of all panels, with the titles of the panels.
fn expressions() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(move |target| (title.clone(), target["expr"].as_str().unwrap().to_owned()))
    });
    targets.collect()
}

#[test]
fn every_panel_asks_for_metrics_that_are_exported() {
    let exported = names(&page(Format::Prometheus));
    let mut shown = BTreeSet::new();
    for (title, expr) in expressions() {
        let series = asked(&expr, &["jobexec_", "process_"]);
        assert!(!series.is_empty(), "{title} asks for nothing: {expr}");
        for series in series {
            assert!(exported.contains(series), "{title} asks for {series}, which is not exported");
            shown.insert(series.to_owned());
        }
    }
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let query = variable["definition"].as_str().unwrap_or_default();
        assert!(asked(query, &["jobexec_"]).iter().all(|series| exported.contains(*series)), "{query}");
    }
    assert!(shown.len() > 20, "{shown:?}");
}

#[test]
fn every_panel_can_be_read_by_prometheus() {
    let rule = |(title, expr): &(String, String)| {
        let expr = expr.replace("$__rate_interval", "1m");
        serde_json::json!({"record": "x", "labels": {"panel": title}, "expr": expr})
    };
    let rules: Vec<Value> = expressions().iter().map(rule).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    let groups = serde_json::json!({"groups": [{"name": "panels", "rules": rules}]});
    std::fs::write(file.path(), groups.to_string()).unwrap();
    let args = ["check", "rules", "--lint=none", file.path().to_str().unwrap()];
    let Some(output) = promtool("every_panel_can_be_read_by_prometheus", &args, None) else { return };
    clean(&output);
}

#[test]
fn panels_do_not_overlap_and_have_ids_of_their_own() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_i64().unwrap()), "{}", panel["title"]);
        let at = |which: &str| panel["gridPos"][which].as_i64().unwrap();
        for (x, y) in
            (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
        {
            assert!(x < 24 && taken.insert((x, y)), "{} lies on another panel", panel["title"]);
        }
    }
}
