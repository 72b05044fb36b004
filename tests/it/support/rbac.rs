//! The operator's identity in a test's namespace, from the manifest that users install.

use std::path::Path;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{AuthInfo, Kubeconfig, NamedAuthInfo};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt as _};

const MANIFEST: &str = include_str!("../../../manifests/install/rbac.yaml");

/// What stores with `spec.workloads` need beside it.
pub(crate) const WORKLOADS: &str = include_str!("../../../manifests/install/workloads.yaml");

/// Installs the manifest's `ServiceAccount`, `Role` and `RoleBinding` into `namespace`.
pub(crate) async fn install(client: &Client, namespace: &str) {
    apply(client, namespace, MANIFEST).await;
}

/// Installs the objects of a manifest into `namespace`.
pub(crate) async fn apply(client: &Client, namespace: &str, manifest: &str) {
    for document in manifest.split("\n---\n") {
        let text = document.replace("namespace: jobexec-system", &format!("namespace: {namespace}"));
        let object: DynamicObject = serde_saphyr::from_str(&text).unwrap();
        let types = object.types.clone().unwrap();
        let resource = kube::api::ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap());
        Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource)
            .patch(&object.name_any(), &PatchParams::apply("test").force(), &Patch::Apply(&object))
            .await
            .unwrap();
    }
}

/// Writes a kubeconfig that authenticates as the operator's `ServiceAccount` and nothing else.
pub(crate) async fn kubeconfig(client: &Client, admin: &Path, namespace: &str, path: &Path) {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec { audiences: vec![], expiration_seconds: Some(3600), bound_object_ref: None },
        ..TokenRequest::default()
    };
    let token = accounts
        .create_token_request("jobexec-operator", &PostParams::default(), &request)
        .await
        .unwrap()
        .status;
    let mut config = Kubeconfig::read_from(admin).unwrap();
    let token = serde_json::json!({"token": token.unwrap().token});
    let auth: AuthInfo = serde_json::from_value(token).unwrap();
    config.auth_infos = vec![NamedAuthInfo {
        name: config.auth_infos[0].name.clone(),
        auth_info: Some(auth),
        ..Default::default()
    }];
    std::fs::write(path, serde_json::to_string(&config).unwrap()).unwrap();
}
