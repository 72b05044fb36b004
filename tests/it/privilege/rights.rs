//! The operator's permissions, one by one.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::support::{PATIENCE, World};

/// The permission for one verb on one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Right {
    pub(super) group: String,
    /// Including its subresource.
    pub(super) resource: String,
    pub(super) verb: String,
}

/// The permissions that the Roles of a namespace grant, by Role.
pub(super) struct Rights<'a> {
    world: &'a World,
    user: &'a str,
    roles: BTreeMap<String, Vec<Right>>,
}

/// The permissions of the `ClusterRole` system:auth-delegator.
pub(super) fn delegated() -> Vec<Right> {
    let create = |group: &str, resource: &str| Right {
        group: group.to_owned(),
        resource: resource.to_owned(),
        verb: "create".to_owned(),
    };
    vec![
        create("authentication.k8s.io", "tokenreviews"),
        create("authorization.k8s.io", "subjectaccessreviews"),
    ]
}

fn granted_by(rule: &PolicyRule) -> Vec<Right> {
    let mut rights = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            for verb in &rule.verbs {
                rights.push(Right { group: group.clone(), resource: resource.clone(), verb: verb.clone() });
            }
        }
    }
    rights
}

impl<'a> Rights<'a> {
    pub(super) async fn of(world: &'a World, user: &'a str) -> Self {
        let roles = world.api::<Role>().list(&ListParams::default()).await.unwrap();
        let roles = roles.into_iter().map(|role| {
            let rules = role.rules.iter().flatten();
            let rights = rules.flat_map(granted_by).collect();
            (role.name_any(), rights)
        });
        Self { world, user, roles: roles.collect() }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Right> {
        self.roles.values().flatten()
    }

    /// Grants all but one, and waits until that is in effect.
    pub(super) async fn without(&self, left_out: &Right) {
        let api: Api<Role> = self.world.api();
        for (name, rights) in self.roles.iter().filter(|(_, rights)| !rights.is_empty()) {
            let rules = rights.iter().filter(|right| *right != left_out).map(|right| PolicyRule {
                api_groups: Some(vec![right.group.clone()]),
                resources: Some(vec![right.resource.clone()]),
                verbs: vec![right.verb.clone()],
                ..PolicyRule::default()
            });
            let mut role = api.get(name).await.unwrap();
            role.rules = Some(rules.collect());
            role.metadata.managed_fields = None;
            api.replace(name, &PostParams::default(), &role).await.unwrap();
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for right in self.all() {
            while self.counts(right).await == (right == left_out) {
                assert!(tokio::time::Instant::now() < deadline, "{right:?} never changes");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn counts(&self, right: &Right) -> bool {
        let (resource, subresource) = right.resource.split_once('/').unwrap_or((&right.resource, ""));
        let review = json!({"spec": {"user": self.user, "resourceAttributes": {
            "namespace": self.world.namespace, "group": right.group, "resource": resource,
            "subresource": subresource, "verb": right.verb,
        }}});
        let review: SubjectAccessReview = serde_json::from_value(review).unwrap();
        let reviews: Api<SubjectAccessReview> = Api::all(self.world.client.clone());
        reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
    }
}
