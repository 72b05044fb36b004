//! Values that contradict each other, or that nobody reads, are refused before anything is sent.

use std::path::Path;

use crate::support::helm::{CHART, Helm};

/// What is set, and what the refusal names.
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

#[tokio::test]
async fn the_chart_is_clean() {
    let helm = Helm::new(Path::new("/nonexistent")).await;
    let told = helm.run(&["lint", "--strict", CHART]).done();
    assert!(!told.contains("[WARNING]") && !told.contains("[ERROR]"), "{told}");
}
