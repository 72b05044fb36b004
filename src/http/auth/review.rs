//! The questions to Kubernetes: `TokenReview` and `SubjectAccessReview`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Semaphore;

use super::Access;
use crate::secrets::{Echoes, describe};

/// How long Kubernetes has for an answer, with its turn waited for: a person waits for it.
const REVIEW_LIMIT: Duration = Duration::from_secs(5);

/// How many questions are asked at the same time, so that made-up tokens do not become a load on the API server.
const QUESTIONS: usize = 8;

/// Kubernetes did not say.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unavailable {
    /// It refused, or was not there.
    #[error("{0}")]
    Kube(String),
    /// The operator may not ask.
    #[error(
        "the operator may not create {0}: bind its ServiceAccount to the ClusterRole system:auth-delegator, as manifests/install/api.yaml does"
    )]
    Forbidden(&'static str),
    /// It did not answer.
    #[error("the Kubernetes API did not answer within {REVIEW_LIMIT:?}")]
    Timeout,
}

/// Who somebody is, as Kubernetes knows him.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct User {
    pub(crate) name: String,
    uid: Option<String>,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Somebody without a token.
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

/// Asks.
pub(super) struct Reviewer {
    client: Client,
    audiences: Vec<String>,
    turns: Semaphore,
}

impl Reviewer {
    pub(super) fn new(client: Client, audiences: Vec<String>) -> Self {
        Self { client, audiences, turns: Semaphore::new(QUESTIONS) }
    }

    /// Whose token it is; `None`: nobody's.
    pub(super) async fn who(&self, token: &str) -> Result<Option<Arc<User>>, Unavailable> {
        let audiences = Some(self.audiences.clone()).filter(|audiences| !audiences.is_empty());
        let spec = TokenReviewSpec { audiences, token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let status = self.ask("tokenreviews", review).await?.status.unwrap_or_default();
        if !status.authenticated.unwrap_or_default() {
            // An authenticator may say why with a part of the token.
            let error = status.error.map(|text| Echoes::new([token]).without(text));
            tracing::debug!(error, "a token is refused");
            return Ok(None);
        }
        // An authenticator that knows nothing of audiences says nothing of them.
        let meant = status.audiences.unwrap_or_default();
        if !self.audiences.is_empty() && !meant.iter().any(|audience| self.audiences.contains(audience)) {
            return Ok(None);
        }
        let user = status.user.unwrap_or_default();
        Ok(user.username.filter(|name| !name.is_empty()).map(|name| {
            let (groups, extra) = (user.groups.unwrap_or_default(), user.extra.unwrap_or_default());
            Arc::new(User { name, uid: user.uid, groups, extra })
        }))
    }

    /// Whether somebody may.
    pub(super) async fn may(&self, user: &User, access: &Access) -> Result<bool, Unavailable> {
        let (resource_attributes, non_resource_attributes) = access.attributes();
        let spec = SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: user.uid.clone(),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
            resource_attributes,
            non_resource_attributes,
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let status = self.ask("subjectaccessreviews", review).await?.status.unwrap_or_default();
        Ok(status.allowed && !status.denied.unwrap_or_default())
    }

    async fn ask<K>(&self, what: &'static str, question: K) -> Result<K, Unavailable>
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize,
        K: serde::de::DeserializeOwned,
    {
        let asked = async {
            let _turn = self.turns.acquire().await;
            Api::<K>::all(self.client.clone()).create(&PostParams::default(), &question).await
        };
        match tokio::time::timeout(REVIEW_LIMIT, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(Unavailable::Forbidden(what)),
            Ok(Err(error)) => Err(Unavailable::Kube(describe(&error))),
            Err(_) => Err(Unavailable::Timeout),
        }
    }
}
