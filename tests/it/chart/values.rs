//! A dozen sets of values, each rendered and applied to a real API server as a dry run.

use serde_json::{Value, json};

use crate::support::helm::{Helm, objects, one};
use crate::support::kubectl::Kubectl;
use crate::support::{World, foreign};

/// The values of each installation, and the kinds that it has in addition to the common ones.
const SETS: &[(&[&str], &[&str])] = &[
    (&[], &["Service", "ServiceAccount", "Role"]),
    (&["fullnameOverride=other", "commonLabels.team=billing", "podLabels.a=b", "podAnnotations.c=d"], &[]),
    // The same names again, of which YAML allows no duplicates.
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
    (&["egress.allow={127.0.0.0/8,::1,db.internal.example}"], &[]),
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
            "api.service.type=LoadBalancer",
            "api.service.loadBalancerSourceRanges={192.0.2.0/24,2001:db8::/32}",
            "metrics.prometheusRule.enabled=true",
            "metrics.prometheusRule.alertLabels.team=billing",
            "metrics.prometheusRule.runbookUrl=https://wiki.example/runbooks/",
            "extraVolumes[0].name=authorities",
            "extraVolumes[0].configMap.name=authorities",
            "extraVolumeMounts[0].name=authorities",
            "extraVolumeMounts[0].mountPath=/etc/ssl/certs/ca-certificates.crt",
            "extraVolumeMounts[0].subPath=ca-certificates.crt",
            "extraVolumeMounts[0].readOnly=true",
        ],
        &["Service", "PrometheusRule"],
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

#[tokio::test]
async fn everything_that_is_rendered_is_accepted() {
    let world = World::bare("chartvalues").await;
    foreign::define(&world.client).await;
    let namespace = &world.namespace;
    // Violations of the restricted profile are reported as warnings.
    world.label_namespace(json!({"pod-security.kubernetes.io/warn": "restricted"})).await;
    let helm = Helm::new(&world.admin_kubeconfig()).await;
    let kubectl = Kubectl::new(&world.admin_kubeconfig());
    for &(sets, kinds) in SETS {
        let rendered = helm.template("release", namespace, sets).done();
        let found = objects(&rendered);
        for kind in [&["Deployment"], kinds].concat() {
            assert!(found.iter().any(|object| object["kind"] == kind), "{sets:?}: no {kind}");
        }
        let accepted = kubectl.dry_run(None, &rendered);
        assert!(accepted.well, "{sets:?}: {}", accepted.err);
        assert_eq!(accepted.err, "", "{sets:?}");
    }
}

/// The unchanged rules file, except for the configured values.
#[tokio::test]
async fn alerts_lead_where_the_runbooks_are_and_have_the_labels_of_who_is_on_call() {
    let helm = Helm::new(std::path::Path::new("/nonexistent")).await;
    let file = include_str!("../../../manifests/alerts/jobexec.rules.yaml");
    let file: Value = serde_saphyr::from_str(file).unwrap();
    let rules = |sets: &[&str]| {
        let all = [&["metrics.prometheusRule.enabled=true"], sets].concat();
        let rendered = objects(&helm.template("release", "here", &all).done());
        one(&rendered, "PrometheusRule")["spec"].clone()
    };
    assert_eq!(rules(&[]), file);
    for url in ["https://wiki.example/runbooks", "https://wiki.example/runbooks/"] {
        let url = format!("metrics.prometheusRule.runbookUrl={url}");
        let said = rules(&[
            &url,
            "metrics.prometheusRule.alertLabels.team=billing",
            "metrics.prometheusRule.alertLabels.at_night=no",
        ]);
        let mut expected = file.clone();
        for group in expected["groups"].as_array_mut().unwrap() {
            for rule in group["rules"].as_array_mut().unwrap() {
                let name = rule["alert"].as_str().unwrap();
                let page = format!("https://wiki.example/runbooks/{name}.md");
                rule["annotations"]["runbook_url"] = page.into();
                rule["labels"]["team"] = "billing".into();
                rule["labels"]["at_night"] = "no".into();
            }
        }
        assert_eq!(said, expected);
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

    // In a hardened namespace, accounts disable the tokens of their Pods.
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

    let mounts = [
        "extraVolumes[0].name=authorities",
        "extraVolumes[0].configMap.name=authorities",
        "extraVolumeMounts[0].name=authorities",
        "extraVolumeMounts[0].mountPath=/etc/ssl/certs/ca-certificates.crt",
    ];
    for (tls, names) in [("", &["authorities"][..]), ("mine", &["tls", "authorities"])] {
        let source = if tls.is_empty() { "SelfSigned" } else { "Secret" };
        let secret = [format!("api.tls.source={source}"), format!("api.tls.secretName={tls}")];
        let sets: Vec<&str> = mounts.into_iter().chain(secret.iter().map(String::as_str)).collect();
        let rendered = render(&sets);
        let pod = &one(&rendered, "Deployment")["spec"]["template"]["spec"];
        for list in [&pod["volumes"], &pod["containers"][0]["volumeMounts"]] {
            let found: Vec<&str> =
                list.as_array().unwrap().iter().filter_map(|volume| volume["name"].as_str()).collect();
            assert_eq!(found, names);
        }
    }

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
