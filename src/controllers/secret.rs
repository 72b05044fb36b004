//! Reads keys of a Secret, by name only: the operator may not list or watch Secrets.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::{Context, bounded};

/// Why a Secret gave nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SecretError {
    /// It is not there.
    #[error("there is no Secret {0} in this namespace: create it, or correct the name in the spec")]
    NotFound(String),
    /// It has no such key.
    #[error("the Secret {0} has no key {1}: add it, or correct the key in the spec")]
    KeyMissing(String, String),
    /// It is not text.
    #[error("the key {1} of the Secret {0} is not UTF-8 text")]
    NotText(String, String),
    /// The operator may not read it.
    #[error(
        "the operator may not read the Secret {0}: grant its ServiceAccount get on secrets in this namespace"
    )]
    Forbidden(String),
    /// The API server could not be asked.
    #[error("the Secret {0} could not be read: {1}")]
    Unavailable(String, String),
}

impl SecretError {
    /// One word for a condition's reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "SecretNotFound",
            Self::KeyMissing(..) => "SecretKeyMissing",
            Self::NotText(..) => "SecretNotText",
            Self::Forbidden(_) => "SecretForbidden",
            Self::Unavailable(..) => "SecretUnavailable",
        }
    }
}

/// The text under a key of the Secret of this name in `namespace`.
pub async fn read(
    context: &Context,
    namespace: &str,
    secret: &str,
    key: &str,
) -> Result<String, SecretError> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let name = || secret.to_owned();
    let found = bounded(api.get_opt(secret)).await.map_err(|error| match error {
        super::ReconcileError::Kube(e) if matches!(*e, kube::Error::Api(ref s) if s.code == 403) => {
            SecretError::Forbidden(name())
        }
        other => SecretError::Unavailable(name(), other.to_string()),
    })?;
    let data = found.ok_or_else(|| SecretError::NotFound(name()))?.data.unwrap_or_default();
    let value = data.get(key).ok_or_else(|| SecretError::KeyMissing(name(), key.to_owned()))?;
    String::from_utf8(value.0.clone()).map_err(|_| SecretError::NotText(name(), key.to_owned()))
}
