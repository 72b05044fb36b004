//! Changes of a replica's Lease by somebody else.

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::SHORT;
use crate::support::replica::settled;
use crate::support::{World, rbac};

impl World {
    async fn edit_lease(&self, name: &str, patch: Value) {
        let leases = self.api::<Lease>();
        leases.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
}

fn holder(lease: &Lease) -> Option<String> {
    lease.spec.as_ref().unwrap().holder_identity.clone()
}

#[tokio::test]
async fn one_that_is_edited_or_deleted_is_put_right_and_one_that_is_stolen_ends_its_replica() {
    let world = World::with_leases("leases").await;
    world.store(json!({})).await;
    let mut replica = world.replica("a", &[SHORT]);
    settled(&[&replica]).await;
    let name = "jobexec-operator-a";
    let before = world.lease("a").await.unwrap();

    world.edit_lease(name, json!({"metadata": {"labels": {"jobexec.dev/operator": "other"}}})).await;
    let label = |lease: Option<&Lease>| {
        lease.unwrap().metadata.labels.as_ref().unwrap()["jobexec.dev/operator"] == "jobexec-operator"
    };
    let mended = world.lease_until("a", label).await.unwrap();
    assert_eq!((holder(&mended), mended.metadata.uid), (holder(&before), before.metadata.uid.clone()));

    world.api::<Lease>().delete(name, &DeleteParams::default()).await.unwrap();
    let anew = world.lease_until("a", |lease| lease.is_some()).await.unwrap();
    assert_eq!(holder(&anew), holder(&before));
    assert_ne!(anew.metadata.uid, before.metadata.uid);
    settled(&[&replica]).await;

    world.edit_lease(name, json!({"spec": {"holderIdentity": "a_somebody"}})).await;
    let status = replica.operator.ended().await;
    assert_eq!(status.code(), Some(1), "{}", replica.operator.log());
    let words = replica.last_words();
    assert!(words.contains("is now held by a_somebody") && words.contains("--identity"), "{words}");
}

#[tokio::test]
async fn leases_of_other_groups_do_not_count_and_those_that_nobody_renews_go() {
    let world = World::with_leases("garbage").await;
    world.store(json!({})).await;
    for (name, group) in [("jobexec-operator-gone", "jobexec-operator"), ("other-gone", "other")] {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "labels": {"jobexec.dev/operator": group}},
            "spec": {"holderIdentity": "gone_1", "leaseDurationSeconds": 3, "leaseTransitions": 0,
                     "renewTime": "2999-01-01T00:00:00.000000Z"},
        });
        let lease: Lease = serde_json::from_value(lease).unwrap();
        world.api::<Lease>().create(&PostParams::default(), &lease).await.unwrap();
    }
    let replica = world.replica("a", &[SHORT]);
    // A Lease that is not renewed counts for its duration, however far its clock is ahead.
    settled(&[&replica]).await;
    world.lease_until("gone", |lease| lease.is_none()).await;
    assert!(world.api::<Lease>().get_opt("other-gone").await.unwrap().is_some(), "it is another group's");
    let other = world.replica("b", &[SHORT, ("LEASE_GROUP", "other")]);
    settled(&[&other]).await;
    settled(&[&replica]).await;
    assert!(world.api::<Lease>().get_opt("other-b").await.unwrap().is_some());
}

#[tokio::test]
async fn without_rights_or_a_namespace_for_leases_it_says_so_and_ends() {
    let world = World::new("norights").await;
    let mut replica = world.replica("a", &[]);
    assert_eq!(replica.operator.ended().await.code(), Some(1), "{}", replica.operator.log());
    let words = replica.last_words();
    assert!(words.contains("may not list Leases") && words.contains("leases.yaml"), "{words}");

    // Other replicas would leave stores to one that holds its Lease but cannot see theirs.
    rbac::apply(&world.client, &world.namespace, &rbac::LEASES.replace("list, watch, ", "")).await;
    let mut replica = world.replica("a", &[]);
    assert_eq!(replica.operator.ended().await.code(), Some(1), "{}", replica.operator.log());
    assert!(replica.last_words().contains("may not list Leases"), "{}", replica.last_words());
    assert!(world.lease("a").await.is_none());

    rbac::apply(&world.client, &world.namespace, rbac::LEASES).await;
    let mut replica = world.replica("a", &[("LEASE_NAMESPACE", "nowhere")]);
    assert_eq!(replica.operator.ended().await.code(), Some(1), "{}", replica.operator.log());
    assert!(replica.last_words().contains("namespace nowhere"), "{}", replica.last_words());

    for (option, value) in [
        ("LEASE_DURATION", "1s"),
        ("LEASE_DURATION", "2m"),
        ("LEASE_DURATION", "3500ms"),
        ("LEASE_GROUP", "A b"),
    ] {
        let mut replica = world.replica("a", &[(option, value)]);
        assert_eq!(replica.operator.ended().await.code(), Some(2), "{option}={value}");
    }
}
