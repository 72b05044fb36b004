//! The operator's identity in a test's namespace, from the manifests that are rendered from the chart.

use std::path::Path;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{AuthInfo, Kubeconfig, NamedAuthInfo};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt as _};

const MANIFEST: &str = include_str!("../../../manifests/install/rbac.yaml");

/// The additional permissions for stores with `spec.workloads`.
pub(crate) const WORKLOADS: &str = include_str!("../../../manifests/install/workloads.yaml");

/// The permissions for replicas that share the stores.
pub(crate) const LEASES: &str = include_str!("../../../manifests/install/leases.yaml");

/// The Service of the HTTPS API, and its roles.
const API: &str = include_str!("../../../manifests/install/api.yaml");

/// Installs the manifest's `ServiceAccount`, `Role` and `RoleBinding` into `namespace`.
pub(crate) async fn install(client: &Client, namespace: &str) {
    apply(client, namespace, MANIFEST).await;
}

/// Allows the operator of the namespace `owner` to manage this one too.
pub(crate) async fn lend(client: &Client, owner: &str, namespace: &str) {
    let role = MANIFEST.split("\n---\n").find(|document| document.contains("kind: Role\n")).unwrap();
    apply(client, namespace, &role.replace("  name: jobexec-operator\n", "  name: jobexec-operator-lent\n"))
        .await;
    let binding = serde_json::json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "jobexec-operator-lent"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "jobexec-operator-lent"},
        "subjects": [{"kind": "ServiceAccount", "name": "jobexec-operator", "namespace": owner}],
    });
    apply(client, namespace, &binding.to_string()).await;
}

/// Installs the permission to review tokens and access for the operator in `namespace`, and the roles of the API.
pub(crate) async fn install_api(client: &Client, namespace: &str) {
    for document in API.split("\n---\n").filter(|document| document.contains("kind: Cluster")) {
        let text = document
            .replace("namespace: jobexec-system", &format!("namespace: {namespace}"))
            // Other tests install their own.
            .replace("name: jobexec-system:", &format!("name: {namespace}:"));
        let object: DynamicObject = serde_saphyr::from_str(&text).unwrap();
        let types = object.types.clone().unwrap();
        let resource = kube::api::ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap());
        Api::<DynamicObject>::all_with(client.clone(), &resource)
            .patch(&object.name_any(), &PatchParams::apply("test").force(), &Patch::Apply(&object))
            .await
            .unwrap();
    }
}

/// Installs the Role that the command line needs, and binds it to a `ServiceAccount` of `namespace`.
pub(crate) async fn install_cli(client: &Client, namespace: &str, account: &str) {
    let role = API.split("\n---\n").find(|document| document.contains("kind: Role\n")).unwrap();
    apply(client, namespace, role).await;
    let binding = serde_json::json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "jobexec-cli"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "jobexec-cli"},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    });
    apply(client, namespace, &binding.to_string()).await;
}

/// Binds a `ClusterRole` to a subject, in `namespace` or (`None`) everywhere. Returns the name of the binding.
pub(crate) async fn bind(
    client: &Client,
    namespace: Option<&str>,
    role: &str,
    subject: serde_json::Value,
) -> String {
    let name = format!("{role}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    let kind = if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" };
    let object = serde_json::json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    });
    let gvk = GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", kind);
    let resource = kube::api::ApiResource::from_gvk(&gvk);
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap();
    name
}

/// Requests a token of a `ServiceAccount` for these audiences, or (none) for the API server.
pub(crate) async fn token(client: &Client, namespace: &str, account: &str, audiences: &[&str]) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let object =
        serde_json::json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}});
    accounts.patch(account, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap();
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: audiences.iter().map(ToString::to_string).collect(),
            expiration_seconds: Some(3600),
            bound_object_ref: None,
        },
        ..TokenRequest::default()
    };
    let made = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
    made.status.unwrap().token
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

/// Writes a kubeconfig that authenticates as the operator's `ServiceAccount`.
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
