//! Who asks, and may he: Kubernetes decides both, and its decisions are kept for a while. While it cannot be asked those
//! decisions hold until they expire; nothing else is ever allowed.

mod access;
mod attempts;
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

pub(super) use access::Access;
pub(super) use review::User;
use review::{Reviewer, Unavailable};

use super::app::App;
use super::origin::Origin;
use super::problem::Problem;

/// How many callers are kept, and how many decisions on them.
const CALLERS: u64 = 1_000;
const DECISIONS: u64 = 10_000;

/// How long a refusal is kept, at the most: who has just been given a right need not wait.
const REFUSAL: Duration = Duration::from_secs(10);

/// How callers are told apart.
#[derive(Clone, Debug)]
pub struct Options {
    /// For whom a token must have been made; empty: for the API server.
    pub audiences: Vec<String>,
    /// How long what Kubernetes allowed is kept.
    pub keep: Duration,
}

/// Asks Kubernetes, and keeps what it says.
pub(super) struct Gate {
    reviewer: Reviewer,
    /// By the SHA-256 of the token, so that no token is kept; `None`: it is refused.
    callers: Cache<[u8; 32], Option<Arc<User>>>,
    decisions: Cache<(Arc<User>, Access), bool>,
    attempts: Attempts,
}

impl Gate {
    pub(super) fn new(client: Client, options: Options) -> Self {
        let keep = Keep(options.keep);
        Self {
            reviewer: Reviewer::new(client, options.audiences),
            callers: Cache::builder().max_capacity(CALLERS).expire_after(keep).build(),
            decisions: Cache::builder().max_capacity(DECISIONS).expire_after(keep).build(),
            attempts: Attempts::new(),
        }
    }

    /// Whose request this is.
    pub(super) async fn caller(&self, headers: &HeaderMap, origin: Origin) -> Result<Arc<User>, Problem> {
        let Some(given) = headers.get(AUTHORIZATION) else { return Ok(Arc::new(User::anonymous())) };
        let token = given.to_str().ok().and_then(bearer).ok_or_else(|| {
            Problem::TokenRefused("the header Authorization must be `Bearer TOKEN`".to_owned())
        })?;
        self.holder(token, origin).await
    }

    /// Whose token this is, that comes from there.
    pub(super) async fn holder(&self, token: &str, origin: Origin) -> Result<Arc<User>, Problem> {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let known = match self.callers.get(&key).await {
            Some(known) => known,
            None => self.review(token, key, origin).await?,
        };
        known.ok_or_else(|| {
            let why = "it is unknown to Kubernetes, has expired, or was made for another audience";
            Problem::TokenRefused(why.to_owned())
        })
    }

    async fn review(&self, token: &str, key: [u8; 32], origin: Origin) -> Result<Option<Arc<User>>, Problem> {
        let attempt = self.attempts.begin(key, origin).await?;
        let known = self.callers.try_get_with(key, self.reviewer.who(token)).await?;
        attempt.ended(known.is_some()).await;
        Ok(known)
    }

    /// Whether the caller may.
    pub(super) async fn may(&self, user: &Arc<User>, access: &Access) -> Result<bool, Problem> {
        let key = (user.clone(), access.clone());
        Ok(self.decisions.try_get_with(key, self.reviewer.may(user, access)).await?)
    }

    /// Goes on only where the caller may.
    pub(super) async fn require(&self, user: &Arc<User>, access: &Access) -> Result<(), Problem> {
        if self.may(user, access).await? { Ok(()) } else { Err(refusal(user, access.to_string())) }
    }
}

/// Why somebody may not: one who has not said who he is should say so first.
pub(super) fn refusal(user: &User, access: String) -> Problem {
    if user.is_anonymous() {
        Problem::Unauthenticated
    } else {
        Problem::Forbidden { user: user.name.clone(), access }
    }
}

/// The token in such a header; the scheme is not case-sensitive.
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

/// Whose request it is, with a token that counts or without any, as `admission` found out.
pub(super) struct Caller(pub(super) Arc<User>);

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        let user = parts.extensions.get::<Arc<User>>().cloned();
        user.map(Self).ok_or_else(|| Problem::Internal("a request without a caller".to_owned()))
    }
}

/// How long something is kept from when it was found out.
#[derive(Clone, Copy)]
struct Keep(Duration);

/// Whether somebody is the better for it.
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

impl<K, V: Allows> Expiry<K, V> for Keep {
    fn expire_after_create(&self, _: &K, value: &V, _: Instant) -> Option<Duration> {
        Some(if value.allows() { self.0 } else { self.0.min(REFUSAL) })
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
