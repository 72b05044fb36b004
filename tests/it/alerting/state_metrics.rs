//! The configuration of kube-state-metrics, as far as it can be checked without that program: every path exists in the
//! schema of its CRD, and every metric in the rules is declared.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use serde_json::Value;

use super::{asked, rules};

const CONFIG: &str = include_str!("../../../manifests/kube-state-metrics/config.yaml");
const RULES: &str = include_str!("../../../manifests/kube-state-metrics/jobexec.rules.yaml");

fn resources() -> Vec<Value> {
    let config: Value = serde_saphyr::from_str(CONFIG).unwrap();
    assert_eq!(config["kind"], "CustomResourceStateMetrics");
    config["spec"]["resources"].as_array().unwrap().clone()
}

/// The schema of the objects of this kind.
fn schema(kind: &str) -> JSONSchemaProps {
    let crds = jobexec_operator::api::crds();
    let crd = crds.into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
    let version = crd.spec.versions.into_iter().find(|version| version.name == "v1alpha1").unwrap();
    version.schema.unwrap().open_api_v3_schema.unwrap()
}

fn path(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(|step| step.as_str().unwrap()).collect()
}

/// The schema at a path; for a list, that of its elements.
fn walk<'a>(mut at: &'a JSONSchemaProps, path: &[&str]) -> &'a JSONSchemaProps {
    for step in path {
        at = at
            .properties
            .as_ref()
            .and_then(|all| all.get(*step))
            .unwrap_or_else(|| panic!("no {step} in {path:?}"));
    }
    match &at.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => items,
        _ => at,
    }
}

/// The fields that every object has, whatever its schema says.
fn is_known(path: &[&str]) -> bool {
    matches!(path, ["metadata", "namespace" | "name"])
}

/// Reports whether kube-state-metrics can convert it to a number.
fn is_number(schema: &JSONSchemaProps) -> bool {
    match schema.type_.as_deref() {
        Some("integer" | "number" | "boolean") => true,
        Some("string") => {
            // The status of a condition; its schema is that of Kubernetes.
            let truths =
                schema.description.as_ref().is_some_and(|text| text.contains("one of True, False, Unknown"));
            truths || schema.format.as_deref() == Some("date-time")
        }
        _ => false,
    }
}

#[test]
fn every_path_is_in_the_schema() {
    let mut kinds = BTreeSet::new();
    for resource in resources() {
        let gvk = &resource["groupVersionKind"];
        assert_eq!((gvk["group"].as_str(), gvk["version"].as_str()), (Some("jobexec.dev"), Some("v1alpha1")));
        let kind = gvk["kind"].as_str().unwrap();
        kinds.insert(kind.to_owned());
        let root = schema(kind);
        let labels = |value: &Value, at: &JSONSchemaProps| {
            for (label, to) in value.as_object().into_iter().flatten() {
                let to = path(to);
                if !is_known(&to) {
                    assert!(walk(at, &to).type_.is_some(), "{kind}: {label}");
                }
            }
        };
        labels(&resource["labelsFromPath"], &root);
        for metric in resource["metrics"].as_array().unwrap() {
            let name = metric["name"].as_str().unwrap();
            assert!(!metric["help"].as_str().unwrap().is_empty(), "{name}");
            let each = &metric["each"];
            match each["type"].as_str().unwrap() {
                "Info" => labels(&each["info"]["labelsFromPath"], &root),
                "Gauge" => {
                    let at = walk(&root, &path(&each["gauge"]["path"]));
                    labels(&each["gauge"]["labelsFromPath"], at);
                    let value = walk(at, &path(&each["gauge"]["valueFrom"]));
                    assert!(is_number(value), "{kind} {name} is no number: {value:?}");
                }
                "StateSet" => {
                    let at = walk(&root, &path(&each["stateSet"]["path"]));
                    let mut there: Vec<Value> = at
                        .enum_
                        .iter()
                        .flatten()
                        .map(|value| value.0.clone())
                        .filter(|v| !v.is_null())
                        .collect();
                    let mut listed = each["stateSet"]["list"].as_array().unwrap().clone();
                    there.sort_by_key(Value::to_string);
                    listed.sort_by_key(Value::to_string);
                    assert_eq!(listed, there, "{kind} {name}");
                }
                other => panic!("{name}: {other}"),
            }
        }
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["ExecutionPolicy", "ExecutionStore", "JobExecution"]);
}

#[test]
fn the_rules_ask_for_metrics_that_are_declared() {
    let mut declared = BTreeSet::new();
    for resource in resources() {
        let prefix = resource["metricNamePrefix"].as_str().unwrap();
        for metric in resource["metrics"].as_array().unwrap() {
            let name = format!("{prefix}_{}", metric["name"].as_str().unwrap());
            assert!(declared.insert(name.clone()), "{name} is declared twice");
        }
    }
    for rule in rules(RULES) {
        let series = asked(rule["expr"].as_str().unwrap(), &["kube_"]);
        assert!(!series.is_empty(), "{rule}");
        for series in series {
            assert!(declared.contains(series), "{} asks for {series}, which is not declared", rule["alert"]);
        }
    }
}
