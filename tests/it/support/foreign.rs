//! Kinds of other projects that the manifests contain.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client};
use serde_json::json;

use super::PATIENCE;

/// The kinds. Their definitions are not available here: an API server that knows the names
/// checks that the objects are of these kinds, but not their content.
const OTHERS: [(&str, &str, &str, &str); 4] = [
    ("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors"),
    ("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules"),
    ("cert-manager.io", "v1", "Certificate", "certificates"),
    ("cert-manager.io", "v1", "Issuer", "issuers"),
];

/// Defines them.
pub(crate) async fn define(client: &Client) {
    for (group, version, kind, plural) in OTHERS {
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}"), "annotations": {
                "api-approved.kubernetes.io": "unapproved, a stand-in for tests",
            }},
            "spec": {
                "group": group, "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                "versions": [{
                    "name": version, "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {
                        "type": "object", "required": ["spec"], "properties": {
                            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                        },
                    }},
                }],
            },
        });
        let api: Api<CustomResourceDefinition> = Api::all(client.clone());
        let name = format!("{plural}.{group}");
        api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(definition)).await.unwrap();
        let established = await_condition(api, &name, conditions::is_crd_established());
        tokio::time::timeout(PATIENCE, established).await.unwrap().unwrap();
    }
}
