//! Which Pod is the operator: any replica that is ready.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::RemoteError;

/// What manifests/install calls the operator's Pods, and the port of the API.
pub(super) const SELECTOR: &str = "app.kubernetes.io/name=jobexec-operator";
const PORT: &str = "https";

/// A Pod, and the port that the API has there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) pod: String,
    pub(super) port: u16,
}

/// One of these.
pub(super) fn choose(namespace: &str, pods: &[Pod]) -> Result<Found, RemoteError> {
    let first = pods.first().ok_or_else(|| RemoteError::NoPod(namespace.to_owned()))?;
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
    fn one_that_is_ready_and_stays() {
        let going = json!({"deletionTimestamp": "2025-08-08T16:21:55Z"});
        let pods = [pod("a", "False", &json!({})), pod("b", "True", &going), pod("c", "True", &json!({}))];
        assert_eq!(choose("n", &pods).unwrap(), Found { pod: "c".to_owned(), port: 3 });
        assert!(matches!(choose("n", &pods[..2]), Err(RemoteError::NotReady { pod, .. }) if pod == "a"));
        assert!(matches!(choose("n", &[]), Err(RemoteError::NoPod(namespace)) if namespace == "n"));
        let mut bare = pod("d", "True", &json!({}));
        bare.spec.as_mut().unwrap().containers.pop();
        assert!(matches!(choose("n", &[bare]), Err(RemoteError::NoPort(pod)) if pod == "d"));
    }
}
