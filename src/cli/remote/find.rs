//! Which Pod is the operator: any replica that is ready, of one release where one is named.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::RemoteError;

/// What the chart calls the operator's Pods, its own releases, and the port of the API.
const NAME: &str = "jobexec-operator";
const PORT: &str = "https";

/// The labels that the operator's Pods have; those of one release only, where one is named.
pub(super) fn selector(release: Option<&str>) -> String {
    let all = format!("app.kubernetes.io/name={NAME}");
    match release {
        Some(release) => format!("{all},app.kubernetes.io/instance={release}"),
        None => all,
    }
}

/// The Service of a release, for which its certificate is made: the name that the chart gives it without `fullnameOverride`.
pub(super) fn service(release: Option<&str>) -> String {
    let full = match release.map(|release| release.replace('.', "-")) {
        None => return NAME.to_owned(),
        Some(release) if release.contains(NAME) => release,
        Some(release) => format!("{release}-{NAME}"),
    };
    let full: String = full.chars().take(52).collect();
    full.strip_suffix('-').unwrap_or(&full).to_owned()
}

/// A Pod, and the port that the API has there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) pod: String,
    pub(super) port: u16,
}

/// One of these.
pub(super) fn choose(namespace: &str, selector: &str, pods: &[Pod]) -> Result<Found, RemoteError> {
    let none = || RemoteError::NoPod { namespace: namespace.to_owned(), selector: selector.to_owned() };
    let first = pods.first().ok_or_else(none)?;
    let pod = pods
        .iter()
        .find(|pod| ready(pod))
        .ok_or_else(|| RemoteError::NotReady { namespace: namespace.to_owned(), pod: first.name_any() })?;
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let port = ports.find(|port| port.name.as_deref() == Some(PORT));
    let number = port.and_then(|port| u16::try_from(port.container_port).ok());
    let port = number.ok_or_else(|| RemoteError::NoPort(pod.name_any()))?;
    Ok(Found { pod: pod.name_any(), port })
}

/// One that is being deleted is ready for a while.
fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, ready: &str, metadata: &Value) -> Pod {
        let mut object = json!({
            "metadata": {"name": name},
            "spec": {"containers": [
                {"name": "proxy", "ports": [{"containerPort": 1}]},
                {"name": "operator", "ports": [{"name": "probes", "containerPort": 2}, {"name": "https", "containerPort": 3}]},
            ]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        });
        object["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_release_is_named_as_the_chart_names_it() {
        assert_eq!(selector(None), "app.kubernetes.io/name=jobexec-operator");
        assert_eq!(
            selector(Some("night")),
            "app.kubernetes.io/name=jobexec-operator,app.kubernetes.io/instance=night"
        );
        let long = "x".repeat(51);
        for (release, name) in [
            (None, "jobexec-operator"),
            (Some("jobexec-operator"), "jobexec-operator"),
            (Some("night"), "night-jobexec-operator"),
            (Some("night.shift"), "night-shift-jobexec-operator"),
            (Some("a-jobexec-operator-b"), "a-jobexec-operator-b"),
            // The hyphen that it would be cut off behind goes too.
            (Some(&long), &long),
        ] {
            assert_eq!(service(release), name, "{release:?}");
        }
    }

    #[test]
    fn one_that_is_ready_and_stays() {
        let going = json!({"deletionTimestamp": "2025-08-08T16:21:55Z"});
        let pods = [pod("a", "False", &json!({})), pod("b", "True", &going), pod("c", "True", &json!({}))];
        let choose = |pods: &[Pod]| choose("n", "app=s", pods);
        assert_eq!(choose(&pods).unwrap(), Found { pod: "c".to_owned(), port: 3 });
        assert!(matches!(choose(&pods[..2]), Err(RemoteError::NotReady { pod, .. }) if pod == "a"));
        let told = choose(&[]).unwrap_err().to_string();
        assert!(told.contains("in the namespace n: no Pod there has the label app=s"), "{told}");
        let mut bare = pod("d", "True", &json!({}));
        bare.spec.as_mut().unwrap().containers.pop();
        assert!(matches!(choose(&[bare]), Err(RemoteError::NoPort(pod)) if pod == "d"));
    }
}
