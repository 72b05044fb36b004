//! The chart and the program match: every variable and argument that the chart sets exists in the program.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::helm::{CHART, Helm, objects, one};

/// Values that make the chart set every option of the operator.
const ALL: [&str; 7] = [
    "storeSelector=team=billing",
    "log.filter=info",
    "api.tls.source=Secret",
    "api.tls.secretName=mine",
    "api.tokenAudiences={jobexec}",
    "replicaCount=2",
    "egress.allow={192.0.2.0/24}",
];

/// Read by the logging libraries.
const NOT_OPTIONS: [&str; 1] = ["RUST_LOG"];

fn help(command: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_jobexec")).args([command, "--help"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The variables in the operator's help.
fn known() -> BTreeSet<String> {
    let help = help("operator");
    let names = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
    names.map(ToOwned::to_owned).collect()
}

fn container(pod: &Value) -> &Value {
    &pod["containers"][0]
}

#[tokio::test]
async fn each_variable_is_one_of_the_operators() {
    let helm = Helm::new(Path::new("/nonexistent")).await;
    let known = known();
    assert!(known.contains("HTTPS_ADDRESS"), "{known:?}");
    for sets in [&ALL[..], &["api.enabled=false"], &["leases.enabled=false", "metrics.access=open"]] {
        let rendered = objects(&helm.template("release", "somewhere", sets).done());
        let container = container(&one(&rendered, "Deployment")["spec"]["template"]["spec"]);
        assert_eq!(container["args"], serde_json::json!(["operator"]));
        for variable in container["env"].as_array().unwrap() {
            let name = variable["name"].as_str().unwrap();
            let fine = known.contains(name) || NOT_OPTIONS.contains(&name);
            assert!(fine, "{name} is no variable of `jobexec operator`");
        }
    }
}

/// Kubernetes uses the last of two variables with one name, and Helm confuses them in an upgrade.
#[tokio::test]
async fn what_the_chart_sets_nobody_else_sets() {
    let helm = Helm::new(Path::new("/nonexistent")).await;
    let schema = std::fs::read_to_string(format!("{CHART}/values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let refused = &schema["properties"]["extraEnv"]["items"]["properties"]["name"]["not"]["enum"];
    let refused: BTreeSet<&str> = refused.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let rendered = objects(&helm.template("release", "somewhere", &ALL).done());
    let container = container(&one(&rendered, "Deployment")["spec"]["template"]["spec"]);
    let set = container["env"].as_array().unwrap().iter().filter_map(|variable| variable["name"].as_str());
    assert_eq!(set.collect::<BTreeSet<_>>(), refused);
}

#[tokio::test]
async fn the_operator_takes_every_value() {
    let helm = Helm::new(Path::new("/nonexistent")).await;
    let rendered = objects(&helm.template("release", "somewhere", &ALL).done());
    let container = container(&one(&rendered, "Deployment")["spec"]["template"]["spec"]);
    let env = container["env"].as_array().unwrap().iter();
    let env = env.filter_map(|v| Some((v["name"].as_str()?, v["value"].as_str()?)));
    // Without a cluster it exits once it has read all of them; an invalid value would make it exit with 2.
    let output = Command::new(env!("CARGO_BIN_EXE_jobexec"))
        .arg("operator")
        .env_clear()
        .env("KUBECONFIG", "/nonexistent")
        .envs(env)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("cannot use the Kubernetes cluster"), "{told}");
}

#[tokio::test]
async fn the_test_says_what_the_program_understands() {
    let helm = Helm::new(Path::new("/nonexistent")).await;
    let help = help("ping");
    for sets in [&[][..], &["api.tls.source=CertManager", "api.tokenAudiences={jobexec}"]] {
        let rendered = objects(&helm.template("release", "somewhere", sets).done());
        let arguments = container(&one(&rendered, "Pod")["spec"])["args"].as_array().unwrap();
        assert_eq!(arguments[0], "ping");
        for argument in &arguments[1..] {
            let option = argument.as_str().unwrap().split('=').next().unwrap();
            assert!(
                help.contains(&format!("{option} ")) || help.contains(&format!("{option}\n")),
                "{option}"
            );
        }
    }
}

#[test]
fn the_versions_are_one() {
    let chart: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(format!("{CHART}/Chart.yaml")).unwrap()).unwrap();
    for field in ["version", "appVersion"] {
        assert_eq!(chart[field], env!("CARGO_PKG_VERSION"), "{field} of Chart.yaml");
    }
}
