//! Installations without something: a namespace of their own, or permissions in the cluster.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::release::NAMESPACE;
use crate::support::helm::{CHART, Helm};
use crate::support::{World, rbac};

/// Objects that exist once in a cluster belong to the first release.
const NOT_THE_FIRST: &str = "crds.install=false,userRoles.create=false";

/// Two releases in one namespace share nothing else.
pub(super) fn a_second_one_in_its_namespace(world: &World, helm: &Helm) {
    let watch = format!("watchNamespaces={{{}}}", world.namespace);
    let install = ["install", "second", CHART, "--namespace", NAMESPACE, "--set", &watch];
    let told = helm.run(&install).refused();
    assert!(told.contains("invalid ownership metadata"), "{told}");
    // Objects that exist once in a namespace belong to the first release too.
    let told = helm.run(&[&install[..], &["--set", NOT_THE_FIRST]].concat()).refused();
    assert!(told.contains("jobexec-cli") && told.contains("invalid ownership metadata"), "{told}");
    let nothing_in_common = format!("{NOT_THE_FIRST},userRoles.cli=false");
    helm.run(&[&install[..], &["--set", &nothing_in_common]].concat()).done();
    let told = helm.run(&["list", "--namespace", NAMESPACE, "--short"]).done();
    assert_eq!(told.split_whitespace().collect::<Vec<_>>(), ["jobexec-operator", "second"]);
    helm.run(&["uninstall", "second", "--namespace", NAMESPACE]).done();
}

/// The owner of a namespace can install it there without further permissions, without the API.
pub(super) async fn without_rights_in_the_cluster(world: &World, helm: &Helm) {
    const HERE: &str = "limited";
    let apply = PatchParams::apply("test").force();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HERE}});
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.patch(HERE, &apply, &Patch::Apply(namespace)).await.unwrap();
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "owner"},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}],
    });
    let roles: Api<Role> = Api::namespaced(world.client.clone(), HERE);
    roles.patch("owner", &apply, &Patch::Apply(role)).await.unwrap();
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "owner"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "owner"},
        "subjects": [{"kind": "ServiceAccount", "name": "jobexec-operator", "namespace": HERE}],
    });
    let bindings: Api<RoleBinding> = Api::namespaced(world.client.clone(), HERE);
    bindings.patch("owner", &apply, &Patch::Apply(binding)).await.unwrap();
    // Any account could install it.
    drop(rbac::token(&world.client, HERE, "jobexec-operator", &[]).await);
    let kubeconfig: std::path::PathBuf = world.file("limited", "").into();
    rbac::kubeconfig(&world.client, &world.admin_kubeconfig(), HERE, &kubeconfig).await;

    let helm = helm.with(&kubeconfig);
    let install = ["install", "mine", CHART, "--namespace", HERE];
    let told = helm.run(&install).refused();
    assert!(told.contains("forbidden"), "{told}");
    let nothing_cluster_wide = format!("{NOT_THE_FIRST},api.enabled=false");
    helm.run(&[&install[..], &["--set", &nothing_cluster_wide]].concat()).done();
    helm.run(&["uninstall", "mine", "--namespace", HERE]).done();
}
