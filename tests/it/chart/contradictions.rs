//! Values that contradict each other or have no effect are refused before anything is sent.

use std::path::Path;

use crate::support::helm::{CHART, Helm, objects, one};

/// The values, and the path in the error.
const REFUSED: &[(&[&str], &str)] = &[
    (&["replicaCount=2", "leases.enabled=false"], "/leases/enabled"),
    (&["replicaCount=-1"], "/replicaCount"),
    (&["podDisruptionBudget.minAvailable=1", "podDisruptionBudget.maxUnavailable=1"], "/podDisruptionBudget"),
    (&["podDisruptionBudget.minAvailable=some"], "/podDisruptionBudget/minAvailable"),
    (&["api.tls.source=Secret"], "/api/tls/secretName"),
    (&["api.tls.secretName=mine"], "/api/tls/secretName"),
    (&["api.tls.source=CertManager", "api.tls.secretName=mine"], "/api/tls/secretName"),
    (&["api.tls.certManager.issuerRef.name=ca"], "/api/tls/certManager/issuerRef"),
    (&["api.tls.source=CertManager", "api.tls.certManager.issuerRef.kind=ClusterIssuer"], "issuerRef"),
    (&["api.enabled=false", "api.tls.source=CertManager"], "/api/tls/source"),
    (&["rbac.scope=Cluster", "watchNamespaces={a}"], "/watchNamespaces"),
    (&["watchNamespaces={a,a}"], "/watchNamespaces"),
    (&["watchNamespaces={A b}"], "/watchNamespaces/0"),
    (&["rbac.create=false", "rbac.workloads=true"], "/rbac/workloads"),
    (&["rbac.create=false", "rbac.secretNames={a}"], "/rbac/secretNames"),
    (&["api.enabled=false", "metrics.serviceMonitor.enabled=true"], "/metrics/serviceMonitor/enabled"),
    (&["metrics.access=open", "metrics.serviceMonitor.tlsConfig.serverName=a"], "tlsConfig"),
    (&["metrics.access=open", "api.service.type=LoadBalancer"], "/api/service/type"),
    (&["commonLabels.app\\.kubernetes\\.io/name=other"], "propertyName 'app.kubernetes.io/name'"),
    (&["image.digest=latest"], "/image/digest"),
    (&["api.authCacheTtl=a while"], "/api/authCacheTtl"),
    (&["extraEnv[0].value=nameless"], "/extraEnv/0"),
    (&["extraEnv[0].name=RUST_LOG", "extraEnv[0].value=debug"], "/extraEnv/0/name"),
    (&["api.service.loadBalancerSourceRanges={192.0.2.0/24}"], "/api/service/loadBalancerSourceRanges"),
    (
        &["api.service.type=LoadBalancer", "api.service.loadBalancerSourceRanges={the office}"],
        "/api/service/loadBalancerSourceRanges/0",
    ),
    (&["metrics.prometheusRule.alertLabels.severity=page"], "propertyName 'severity'"),
    (&["metrics.prometheusRule.alertLabels.for-whom=us"], "propertyName 'for-whom'"),
    (&["metrics.prometheusRule.runbookUrl=the wiki"], "/metrics/prometheusRule/runbookUrl"),
    (&["extraVolumes[0].name=tls"], "/extraVolumes/0/name"),
    (&["extraVolumeMounts[0].name=a"], "/extraVolumeMounts/0"),
    (
        &["extraVolumeMounts[0].name=a", "extraVolumeMounts[0].mountPath=/tls/other"],
        "/extraVolumeMounts/0/mountPath",
    ),
    (&["fullnameOverride=1st"], "/fullnameOverride"),
    (&["fullnameOverride=a.b"], "/fullnameOverride"),
    (&["api.requestTimeout=500ms"], "/api/requestTimeout"),
    (&["api.requestTimeout=0h0m0s"], "/api/requestTimeout"),
    (&["api.requestTimeout=a minute"], "/api/requestTimeout"),
    (&["metrics.readers[0].kind=ServiceAccount", "metrics.readers[0].name=prometheus"], "/metrics/readers/0"),
    (&["metrics.access=open", "api.service.port=8081"], "/api/service/port"),
    (&["storeSelector=team within (a)"], "/storeSelector"),
    (&["storeSelector=team=a\\,"], "/storeSelector"),
    (&["storeSelector=team in ()"], "/storeSelector"),
    (&["storeSelector=replicas > 3"], "/storeSelector"),
    (&["replicas=2"], "replicas"),
    (&["api=null"], "api"),
];

#[tokio::test]
async fn each_contradiction_is_named() {
    let helm = Helm::new(Path::new("/nonexistent")).await;
    for &(sets, named) in REFUSED {
        let told = helm.template("release", "default", sets).refused();
        assert!(told.contains("don't meet the specifications of the schema"), "{sets:?}: {told}");
        assert!(told.contains(named), "{sets:?}: {told}");
    }
}

/// Values close to the refused ones.
#[tokio::test]
async fn nothing_else_is_refused() {
    let helm = Helm::new(Path::new("/nonexistent")).await;
    for set in [
        "api.requestTimeout=1s",
        "api.requestTimeout=1m30s",
        "api.requestTimeout=0h5m",
        "api.requestTimeout=1500ms",
        "fullnameOverride=a1",
        "storeSelector=team==a\\, tier != db",
        "storeSelector=team in (b\\, a)\\,!old",
        "storeSelector= ! jobexec.dev/part_of\\,team=",
        "storeSelector=team notin(a)",
        "metrics.readers[0].kind=User,metrics.readers[0].name=somebody",
        "api.service.port=8081",
        "api.enabled=false,metrics.access=open,api.service.port=8081",
    ] {
        helm.template("release", "default", &[set]).done();
    }
}

#[tokio::test]
async fn the_name_of_a_release_gives_names_that_everything_may_have() {
    let helm = Helm::new(Path::new("/nonexistent")).await;
    for (release, name) in
        [("team.a", "team-a-jobexec-operator"), ("jobexec-operator.b", "jobexec-operator-b")]
    {
        let rendered =
            objects(&helm.template(release, "default", &["watchNamespaces={default,other}"]).done());
        assert_eq!(one(&rendered, "Service")["metadata"]["name"], name);
        assert_eq!(one(&rendered, "Deployment")["metadata"]["labels"]["app.kubernetes.io/instance"], release);
        let env = &one(&rendered, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"];
        let group = env.as_array().unwrap().iter().find(|variable| variable["name"] == "LEASE_GROUP");
        assert_eq!(group.unwrap()["value"], name);
    }
    let told = helm.template("1st", "default", &[]).refused();
    assert!(told.contains("set fullnameOverride to a name that does"), "{told}");
    helm.template("1st", "default", &["fullnameOverride=first"]).done();
    helm.template("1st", "default", &["api.enabled=false"]).done();
}

#[tokio::test]
async fn the_chart_is_clean() {
    let helm = Helm::new(Path::new("/nonexistent")).await;
    let told = helm.run(&["lint", "--strict", CHART]).done();
    assert!(!told.contains("[WARNING]") && !told.contains("[ERROR]"), "{told}");
}
