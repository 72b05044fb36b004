//! The requests to Kubernetes: `TokenReview` and `SubjectAccessReview`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Semaphore;

use super::Permission;
use crate::secrets::{Echoes, describe};

/// The time limit of a review, including the wait for a permit: a person may be waiting for it.
const REVIEW_LIMIT: Duration = Duration::from_secs(5);

/// The maximum number of concurrent reviews, so that invalid tokens put no load on the API server.
const MAX_CONCURRENT_REVIEWS: usize = 8;

/// Kubernetes made no decision.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unavailable {
    /// The API server returned an error or could not be reached.
    #[error("{0}")]
    Kube(String),
    /// The operator may not create reviews.
    #[error(
        "the operator may not create {0}: bind its ServiceAccount to the ClusterRole system:auth-delegator, as manifests/install/api.yaml does"
    )]
    Forbidden(&'static str),
    /// The API server did not answer in time.
    #[error("the Kubernetes API did not answer within {REVIEW_LIMIT:?}")]
    Timeout,
}

/// A user, as Kubernetes authenticated it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct User {
    pub(crate) name: String,
    uid: Option<String>,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The user of requests without a token.
    pub(super) fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            uid: None,
            groups: vec!["system:unauthenticated".to_owned()],
            extra: BTreeMap::new(),
        }
    }

    pub(crate) fn is_anonymous(&self) -> bool {
        self.name == "system:anonymous"
    }
}

/// Creates reviews in Kubernetes.
pub(super) struct Reviewer {
    client: Client,
    audiences: Vec<String>,
    permits: Semaphore,
}

impl Reviewer {
    pub(super) fn new(client: Client, audiences: Vec<String>) -> Self {
        Self { client, audiences, permits: Semaphore::new(MAX_CONCURRENT_REVIEWS) }
    }

    /// Returns the user of the token, or `None` if it is not valid.
    pub(super) async fn review_token(&self, token: &str) -> Result<Option<Arc<User>>, Unavailable> {
        let audiences = Some(self.audiences.clone()).filter(|audiences| !audiences.is_empty());
        let spec = TokenReviewSpec { audiences, token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let status = self.submit("tokenreviews", review).await?.status.unwrap_or_default();
        if !status.authenticated.unwrap_or_default() {
            // The error of an authenticator may quote a part of the token.
            let error = status.error.map(|text| Echoes::new([token]).without(text));
            tracing::debug!(error, "Kubernetes rejected a token");
            return Ok(None);
        }
        // An authenticator that does not support audiences returns none.
        let audiences = status.audiences.unwrap_or_default();
        if !self.audiences.is_empty() && !audiences.iter().any(|audience| self.audiences.contains(audience)) {
            return Ok(None);
        }
        let user = status.user.unwrap_or_default();
        Ok(user.username.filter(|name| !name.is_empty()).map(|name| {
            let (groups, extra) = (user.groups.unwrap_or_default(), user.extra.unwrap_or_default());
            Arc::new(User { name, uid: user.uid, groups, extra })
        }))
    }

    /// Returns whether the user has the permission.
    pub(super) async fn is_allowed(&self, user: &User, permission: &Permission) -> Result<bool, Unavailable> {
        let (resource_attributes, non_resource_attributes) = permission.attributes();
        let spec = SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: user.uid.clone(),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
            resource_attributes,
            non_resource_attributes,
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let status = self.submit("subjectaccessreviews", review).await?.status.unwrap_or_default();
        Ok(status.allowed && !status.denied.unwrap_or_default())
    }

    async fn submit<K>(&self, resource: &'static str, review: K) -> Result<K, Unavailable>
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize,
        K: serde::de::DeserializeOwned,
    {
        let created = async {
            let _permit = self.permits.acquire().await;
            Api::<K>::all(self.client.clone()).create(&PostParams::default(), &review).await
        };
        match tokio::time::timeout(REVIEW_LIMIT, created).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(Unavailable::Forbidden(resource)),
            Ok(Err(error)) => Err(Unavailable::Kube(describe(&error))),
            Err(_) => Err(Unavailable::Timeout),
        }
    }
}
