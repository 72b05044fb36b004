//! Least privilege in Kubernetes: the operator sends no request that its roles do not allow, and they allow nothing that
//! it does not need. The audit log of a separate API server shows both.

mod audit;
mod rights;
mod work;

use std::collections::BTreeSet;

use jobexec_operator::api;

use crate::support::https::SERVE;
use crate::support::proxy::Proxies;
use crate::support::{Operator, World, rbac};
use audit::Audit;
use rights::{Right, Rights};
use work::Work;

#[tokio::test]
async fn every_right_is_used_and_every_request_is_granted() {
    let audit = Audit::new();
    let options = devcluster::Options { apiserver_args: audit.arguments(), ..devcluster::Options::default() };
    let world = World::on_cluster_with("privilege", api::crds(), options).await;
    rbac::apply(&world.client, &world.namespace, rbac::WORKLOADS).await;
    rbac::apply(&world.client, &world.namespace, rbac::LEASES).await;
    rbac::install_api(&world.client, &world.namespace).await;
    let proxies = Proxies::before(&world).await;
    let work = Work::new(&world, &proxies).await;
    let user = format!("system:serviceaccount:{}:jobexec-operator", world.namespace);
    let rights = Rights::of(&world, &user).await;

    // With all permissions: nothing is refused, and each is used.
    let lease = [("LEASE_NAMESPACE", world.namespace.as_str()), ("POD_NAME", "replica")];
    let operator = world.operator_with(&[&SERVE[..], &lease].concat());
    work.done(&operator, 1).await;
    let https = world.api_of(&operator).await.with(&world.token("jobexec-reader").await);
    https.until("/api/system/executions", |status, _| status == 200).await;
    // It releases its Lease.
    assert!(stop(operator).await.success());
    let requests = audit.requests(&user);
    let refused: Vec<_> = requests.iter().filter(|request| request.code == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let used: BTreeSet<Right> = requests.into_iter().map(|request| request.right).collect();
    let delegated = rights::delegated();
    let granted: BTreeSet<Right> = rights.all().chain(&delegated).cloned().collect();
    assert_eq!(used, granted, "what is used, and what is granted");

    // Without any one of them, a request that the work needs is refused.
    for (round, right) in rights.all().enumerate() {
        work.clear().await;
        rights.without(right).await;
        let operator = world.operator_with(&lease);
        let refused = tokio::select! {
            biased;
            () = audit.refused(&user, right) => true,
            () = work.done(&operator, round + 2) => false,
        };
        if !refused {
            // The last request may be refused at the very end.
            stop(operator).await;
            assert!(audit.has_refused(&user, right), "nothing needs {right:?}");
        }
    }
}

/// Asks it to stop, in a thread of its own: the proxies in front of its servers must continue meanwhile.
async fn stop(operator: Operator) -> std::process::ExitStatus {
    tokio::task::spawn_blocking(move || operator.stop()).await.unwrap()
}
