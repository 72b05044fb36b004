//! Finds the Pod of the operator: any ready replica, of one release if a release is named.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::RemoteError;

/// The chart's name for the operator's Pods and releases, and its name for the port of the API.
const NAME: &str = "jobexec-operator";
const PORT: &str = "https";

/// Returns the labels of the operator's Pods, of one release if it is named.
pub(super) fn selector(release: Option<&str>) -> String {
    let all = format!("app.kubernetes.io/name={NAME}");
    match release {
        Some(release) => format!("{all},app.kubernetes.io/instance={release}"),
        None => all,
    }
}

/// Returns the Service of a release, which its certificate names: the chart's name without `fullnameOverride`.
pub(super) fn service(release: Option<&str>) -> String {
    let full = match release.map(|release| release.replace('.', "-")) {
        None => return NAME.to_owned(),
        Some(release) if release.contains(NAME) => release,
        Some(release) => format!("{release}-{NAME}"),
    };
    let full: String = full.chars().take(52).collect();
    full.strip_suffix('-').unwrap_or(&full).to_owned()
}

/// A Pod, and its port for the API.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) pod: String,
    pub(super) port: u16,
}

/// Chooses a ready Pod.
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

/// Whether the Pod is ready; a Pod that is being deleted is not, although it reports to be for a while.
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
    fn service_of_a_release_is_named_as_in_the_chart() {
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
            // A hyphen at the cut goes too.
            (Some(&long), &long),
        ] {
            assert_eq!(service(release), name, "{release:?}");
        }
    }

    #[test]
    fn ready_pod_that_is_not_deleted_is_chosen() {
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
