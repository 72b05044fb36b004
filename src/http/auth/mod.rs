//! Authentication and authorization of callers. Kubernetes decides both, and its decisions are cached. While
//! Kubernetes does not answer, cached decisions hold until they expire, and all other requests are rejected.

mod attempts;
mod permission;
mod review;

use std::sync::Arc;
use std::time::{Duration, Instant};

use attempts::Attempts;
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use kube::Client;
use moka::Expiry;
use moka::future::Cache;
use ring::digest::{SHA256, digest};

pub(super) use permission::Permission;
pub(super) use review::User;
use review::{Reviewer, Unavailable};

use super::origin::Origin;
use super::problem::Problem;

/// The maximum numbers of cached callers and of cached decisions.
const MAX_CALLERS: u64 = 1_000;
const MAX_DECISIONS: u64 = 10_000;

/// The maximum time that a refusal is cached, so that a newly granted right takes effect soon.
const REFUSAL_TTL: Duration = Duration::from_secs(10);

/// Options for authenticating and authorizing callers.
#[derive(Clone, Debug)]
pub struct Options {
    /// The audiences that tokens must be made for. If empty, that of the API server.
    pub audiences: Vec<String>,
    /// The time that a positive decision of Kubernetes is cached.
    pub cache_ttl: Duration,
}

/// Authenticates and authorizes callers with Kubernetes, and caches its decisions.
pub(super) struct Authorizer {
    reviewer: Reviewer,
    /// Users by the SHA-256 of their token, so that no token is kept. `None` means that the token was rejected.
    callers: Cache<[u8; 32], Option<Arc<User>>>,
    decisions: Cache<(Arc<User>, Permission), bool>,
    attempts: Attempts,
}

impl Authorizer {
    pub(super) fn new(client: Client, options: Options) -> Self {
        let expiry = DecisionExpiry(options.cache_ttl);
        Self {
            reviewer: Reviewer::new(client, options.audiences),
            callers: Cache::builder().max_capacity(MAX_CALLERS).expire_after(expiry).build(),
            decisions: Cache::builder().max_capacity(MAX_DECISIONS).expire_after(expiry).build(),
            attempts: Attempts::new(),
        }
    }

    /// Returns the user that sent a request; without a token, `system:anonymous`.
    pub(super) async fn authenticate_request(
        &self,
        headers: &HeaderMap,
        origin: Origin,
    ) -> Result<Arc<User>, Problem> {
        let Some(given) = headers.get(AUTHORIZATION) else { return Ok(Arc::new(User::anonymous())) };
        let token = given.to_str().ok().and_then(bearer).ok_or_else(|| {
            Problem::TokenRefused("the header Authorization must have the form `Bearer TOKEN`".to_owned())
        })?;
        self.authenticate(token, origin).await
    }

    /// Returns the user of a token that was sent from `origin`.
    pub(super) async fn authenticate(&self, token: &str, origin: Origin) -> Result<Arc<User>, Problem> {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let known = match self.callers.get(&key).await {
            Some(known) => known,
            None => self.review(token, key, origin).await?,
        };
        known.ok_or_else(|| {
            let why = "Kubernetes does not know it, it has expired, or it was made for another audience";
            Problem::TokenRefused(why.to_owned())
        })
    }

    async fn review(&self, token: &str, key: [u8; 32], origin: Origin) -> Result<Option<Arc<User>>, Problem> {
        let attempt = self.attempts.begin(key, origin).await?;
        let known = self.callers.try_get_with(key, self.reviewer.review_token(token)).await?;
        attempt.finish(known.is_some()).await;
        Ok(known)
    }

    /// Returns whether the user has the permission.
    pub(super) async fn is_allowed(
        &self,
        user: &Arc<User>,
        permission: &Permission,
    ) -> Result<bool, Problem> {
        let key = (user.clone(), permission.clone());
        Ok(self.decisions.try_get_with(key, self.reviewer.is_allowed(user, permission)).await?)
    }

    /// Fails unless the user has the permission.
    pub(super) async fn authorize(&self, user: &Arc<User>, permission: &Permission) -> Result<(), Problem> {
        if self.is_allowed(user, permission).await? {
            Ok(())
        } else {
            Err(refusal(user, permission.to_string()))
        }
    }
}

/// Returns the error for a missing permission: anonymous callers are asked to authenticate first.
pub(super) fn refusal(user: &User, permission: String) -> Problem {
    if user.is_anonymous() {
        Problem::Unauthenticated
    } else {
        Problem::Forbidden { user: user.name.clone(), permission }
    }
}

/// Returns the token in an `Authorization` header. The scheme is not case-sensitive.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

impl From<Arc<Unavailable>> for Problem {
    fn from(why: Arc<Unavailable>) -> Self {
        Self::AuthorizerUnavailable(why.to_string())
    }
}

/// The user of a request, as `admission` authenticated it; without a token, the anonymous one.
pub(super) struct Caller(pub(super) Arc<User>);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let user = parts.extensions.get::<Arc<User>>().cloned();
        user.map(Self).ok_or_else(|| Problem::Internal("the request has no caller".to_owned()))
    }
}

/// The time that positive decisions are cached. Refusals are cached for at most [`REFUSAL_TTL`].
#[derive(Clone, Copy)]
struct DecisionExpiry(Duration);

/// Whether a cached decision is positive.
trait Allows {
    fn allows(&self) -> bool;
}

impl Allows for bool {
    fn allows(&self) -> bool {
        *self
    }
}

impl<T> Allows for Option<T> {
    fn allows(&self) -> bool {
        self.is_some()
    }
}

impl<K, V: Allows> Expiry<K, V> for DecisionExpiry {
    fn expire_after_create(&self, _: &K, value: &V, _: Instant) -> Option<Duration> {
        Some(if value.allows() { self.0 } else { self.0.min(REFUSAL_TTL) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_is_one() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        for header in ["", "Bearer", "Bearer ", "Basic abc", "abc"] {
            assert_eq!(bearer(header), None, "{header:?}");
        }
    }
}
