//! A dozen sets of values, each rendered and looked at by a real API server as if it were applied.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::support::helm::{Helm, objects, one};
use crate::support::{PATIENCE, World};

/// What each installation says, and the kinds that it then has beside those of all.
const SETS: &[(&[&str], &[&str])] = &[
    (&[], &["Service", "ServiceAccount", "Role"]),
    (&["fullnameOverride=other", "commonLabels.team=billing", "podLabels.a=b", "podAnnotations.c=d"], &[]),
    // The same names again, which in YAML nothing may have twice.
    (
        &[
            "commonLabels.release=prometheus",
            "podLabels.release=other",
            "podAnnotations.kubectl\\.kubernetes\\.io/default-container=sidecar",
            "metrics.serviceMonitor.enabled=true",
            "metrics.serviceMonitor.labels.release=other",
            "metrics.prometheusRule.enabled=true",
            "metrics.prometheusRule.labels.release=other",
            "metrics.dashboard.enabled=true",
            "metrics.dashboard.labels.release=other",
            "crds.annotations.helm\\.sh/resource-policy=keep",
        ],
        &["ServiceMonitor", "PrometheusRule", "ConfigMap"],
    ),
    (&["replicaCount=3"], &["PodDisruptionBudget"]),
    (&["updateStrategy.type=Recreate"], &[]),
    (&["replicaCount=3", "podDisruptionBudget.minAvailable=50%"], &["PodDisruptionBudget"]),
    (&["watchNamespaces={default,kube-public}", "rbac.workloads=true", "rbac.secretNames={a,b}"], &[]),
    (
        &["rbac.scope=Cluster", "rbac.workloads=true", "storeSelector=team in (a\\,b)"],
        &["ClusterRoleBinding"],
    ),
    (&["crds.install=false", "userRoles.create=false", "api.enabled=false"], &[]),
    (&["rbac.create=false", "serviceAccount.create=false", "serviceAccount.name=mine"], &["Service"]),
    (&["api.tls.source=Secret", "api.tls.secretName=mine", "api.service.type=NodePort"], &["Service"]),
    (&["api.tls.source=CertManager", "api.tls.certManager.duration=2160h"], &["Certificate", "Issuer"]),
    (
        &[
            "api.tls.source=CertManager",
            "api.tls.certManager.issuerRef.name=ca",
            "api.tls.certManager.issuerRef.kind=ClusterIssuer",
            "metrics.serviceMonitor.enabled=true",
        ],
        &["Certificate", "ServiceMonitor"],
    ),
    (
        &[
            "metrics.access=open",
            "metrics.serviceMonitor.enabled=true",
            "metrics.prometheusRule.enabled=true",
            "metrics.dashboard.enabled=true",
            "metrics.readers[0].kind=Group",
            "metrics.readers[0].name=everybody",
            "metrics.readers[0].apiGroup=rbac.authorization.k8s.io",
        ],
        &["ServiceMonitor", "PrometheusRule", "ConfigMap"],
    ),
    (
        &[
            "networkPolicy.enabled=true",
            "networkPolicy.apiFrom[0].namespaceSelector.matchLabels.team=a",
            "networkPolicy.probesFrom[0].ipBlock.cidr=10.2.0.0/16",
            "networkPolicy.probesFrom[1].namespaceSelector.matchLabels.name=monitoring",
            "networkPolicy.apiServerTo[0].ipBlock.cidr=10.0.0.1/32",
            "networkPolicy.databases[0].to[0].ipBlock.cidr=10.1.0.0/16",
            "networkPolicy.databases[0].ports={5432,6432}",
            "networkPolicy.extraEgress[0].ports[0].port=587",
        ],
        &["NetworkPolicy"],
    ),
    (
        &[
            "image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "imagePullSecrets[0].name=registry",
            "nodeSelector.disk=ssd",
            "tolerations[0].operator=Exists",
            "priorityClassName=",
            "topologySpreadConstraints[0].maxSkew=1",
            "topologySpreadConstraints[0].topologyKey=zone",
            "topologySpreadConstraints[0].whenUnsatisfiable=ScheduleAnyway",
            "extraEnv[0].name=RUST_BACKTRACE",
            "extraEnv[0].value=full",
            "leases.enabled=false",
            "log.filter=debug",
        ],
        &[],
    ),
];

/// Kinds of others that the chart makes. Their definitions are not to be had here: an API server that knows the names sees
/// that the objects are objects of those; what is in them it takes as it is.
const OTHERS: [(&str, &str, &str, &str); 4] = [
    ("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors"),
    ("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules"),
    ("cert-manager.io", "v1", "Certificate", "certificates"),
    ("cert-manager.io", "v1", "Issuer", "issuers"),
];

async fn define_others(client: &Client) {
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

#[tokio::test]
async fn everything_that_is_rendered_is_accepted() {
    let world = World::bare("chartvalues").await;
    define_others(&world.client).await;
    let namespace = &world.namespace;
    // What a Pod of a Deployment may not do is told as a warning.
    world.label_namespace(json!({"pod-security.kubernetes.io/warn": "restricted"})).await;
    let helm = Helm::new(&world.admin_kubeconfig()).await;
    for &(sets, kinds) in SETS {
        let rendered = helm.template("release", namespace, sets).done();
        let found = objects(&rendered);
        for kind in [&["Deployment"], kinds].concat() {
            assert!(found.iter().any(|object| object["kind"] == kind), "{sets:?}: no {kind}");
        }
        let accepted = helm.dry_run(&rendered);
        assert!(accepted.well, "{sets:?}: {}", accepted.err);
        assert_eq!(accepted.err, "", "{sets:?}");
    }
}

#[tokio::test]
async fn each_value_arrives_where_it_belongs() {
    let helm = Helm::new(std::path::Path::new("/nonexistent")).await;
    let render = |sets: &[&str]| objects(&helm.template("release", "here", sets).done());

    let named = render(&["rbac.secretNames={a}", "watchNamespaces={there}", "userRoles.create=false"]);
    let roles: Vec<&Value> = named.iter().filter(|object| object["kind"] == "Role").collect();
    let rights = roles.iter().find(|role| role["metadata"]["namespace"] == "there").unwrap();
    let secrets = rights["rules"].as_array().unwrap().iter().find(|rule| rule["resources"][0] == "secrets");
    assert_eq!(secrets.unwrap()["resourceNames"], json!(["a"]));
    let at_home = roles.iter().filter(|role| role["metadata"]["namespace"] == "here");
    let names: Vec<&str> = at_home.filter_map(|role| role["metadata"]["name"].as_str()).collect();
    let here = ["jobexec-cli", "release-jobexec-operator-leases"];
    assert_eq!(names, here, "nothing but Leases where it does not watch, and the way to the API");

    let cluster = render(&["rbac.scope=Cluster"]);
    let env = &one(&cluster, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"];
    let watched = env.as_array().unwrap().iter().find(|variable| variable["name"] == "WATCH_NAMESPACES");
    assert_eq!(watched.unwrap()["value"], "", "all namespaces");

    // Whoever hardens a namespace has its accounts say that their Pods get no token.
    let plain = render(&["commonLabels.team=billing"]);
    assert_eq!(one(&plain, "Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"], true);
    assert_eq!(one(&plain, "Pod")["spec"]["automountServiceAccountToken"], true);
    assert_eq!(one(&plain, "Pod")["metadata"]["labels"]["team"], "billing");
    let with_audience = render(&["api.tokenAudiences={jobexec}"]);
    assert_eq!(
        one(&with_audience, "Pod")["spec"]["automountServiceAccountToken"],
        false,
        "it has another one"
    );

    let digest = format!("sha256:{}", "0".repeat(64));
    let pinned = render(&["image.repository=registry.example/jobexec", &format!("image.digest={digest}")]);
    let pod = &one(&pinned, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], format!("registry.example/jobexec@{digest}"));

    let rights = render(&["rbac.create=false"]);
    let bindings =
        rights.iter().filter(|object| object["kind"].as_str().is_some_and(|kind| kind.ends_with("Binding")));
    assert_eq!(bindings.count(), 0, "the operator has no rights that somebody else is to grant");

    let crds = render(&[]);
    let crds = crds.iter().filter(|object| object["kind"] == "CustomResourceDefinition");
    assert_eq!(crds.clone().count(), 3);
    for crd in crds {
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
}
