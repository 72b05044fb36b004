//! Reads keys of a Secret, by name only: the operator may not list or watch Secrets.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};

use crate::api::names::{self, NOTIFICATIONS, USE};
use crate::kubernetes::error::{ReconcileError, bounded};
use crate::secrets::{CaBundle, InvalidBundle, SecretString, describe};

/// The most characters of an invalid name that are shown.
const SHOWN: usize = 80;

/// The reason why a Secret could not be read. No message contains any part of a Secret's content.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SecretError {
    /// The spec contains an invalid name of a Secret or a key.
    #[error(
        "{0:?} is not the name of a Secret, or {1:?} not one of its keys: correct the reference in the spec"
    )]
    InvalidReference(String, String),
    /// The Secret does not exist.
    #[error("there is no Secret {0} in this namespace: create it, or correct the name in the spec")]
    NotFound(String),
    /// The Secret has no such key.
    #[error("the Secret {0} has no key {1}: add it, or correct the key in the spec")]
    KeyMissing(String, String),
    /// The value is not text.
    #[error("the key {1} of the Secret {0} is not UTF-8 text")]
    NotText(String, String),
    /// The Secret is not labelled for this purpose.
    #[error(
        "the Secret {name} is not meant for notifications: if it is, run `kubectl -n {namespace} label secret {name} {USE}={NOTIFICATIONS}`"
    )]
    NotLabelled {
        /// The namespace of the Secret.
        namespace: String,
        /// The name of the Secret.
        name: String,
    },
    /// The value is not a bundle of certificates.
    #[error(
        "the key {1} of the Secret {0} cannot be used as a certificate authority: {2}. Put the authority's certificate there, in PEM form and with nothing else"
    )]
    InvalidBundle(String, String, InvalidBundle),
    /// The operator may not read the Secret.
    #[error(
        "the operator may not read the Secret {0}: grant its ServiceAccount get on secrets in this namespace"
    )]
    Forbidden(String),
    /// The API server is unavailable.
    #[error("the Secret {0} could not be read: {1}")]
    Unavailable(String, String),
}

impl SecretError {
    /// The reason, for a condition.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::InvalidReference(..) => "SecretRefInvalid",
            Self::NotFound(_) => "SecretNotFound",
            Self::KeyMissing(..) => "SecretKeyMissing",
            Self::NotText(..) => "SecretNotText",
            Self::NotLabelled { .. } => "SecretNotLabelled",
            Self::InvalidBundle(..) => "InvalidCABundle",
            Self::Forbidden(_) => "SecretForbidden",
            Self::Unavailable(..) => "SecretUnavailable",
        }
    }
}

/// The purpose of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To connect to a database: anybody who may write a store may name any Secret of its namespace.
    Connection,
    /// To notify: anybody who may write a policy also names the Secret, so it must have the label [`USE`].
    Notification,
}

/// Reads the text under a key of the Secret of this name in `namespace`.
pub async fn read(
    client: &Client,
    namespace: &str,
    secret: &str,
    key: &str,
    purpose: Purpose,
) -> Result<SecretString, SecretError> {
    let found = get(client, namespace, secret, key).await?;
    if purpose == Purpose::Notification && found.labels().get(USE).map(String::as_str) != Some(NOTIFICATIONS)
    {
        return Err(SecretError::NotLabelled { namespace: namespace.to_owned(), name: secret.to_owned() });
    }
    value(found, secret, key).map(SecretString::from)
}

/// Reads the certificate authorities under a key of the Secret. They are not secret, and no error reveals anything else
/// in the Secret, so any Secret may be named.
pub async fn read_authorities(
    client: &Client,
    namespace: &str,
    secret: &str,
    key: &str,
) -> Result<CaBundle, SecretError> {
    let text = value(get(client, namespace, secret, key).await?, secret, key)?;
    CaBundle::parse(&text)
        .map_err(|error| SecretError::InvalidBundle(secret.to_owned(), key.to_owned(), error))
}

/// Reads the Secret. An object from before the CRD had a pattern may contain any text as a name, and the name is part of
/// the request path.
async fn get(client: &Client, namespace: &str, secret: &str, key: &str) -> Result<Secret, SecretError> {
    if !names::is_subdomain(secret) || !names::is_secret_key(key) {
        let shown = |text: &str| text.chars().take(SHOWN).collect();
        return Err(SecretError::InvalidReference(shown(secret), shown(key)));
    }
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = bounded(api.get_opt(secret)).await.map_err(|error| match error {
        ReconcileError::Kube(e) if matches!(*e, kube::Error::Api(ref s) if s.code == 403) => {
            SecretError::Forbidden(secret.to_owned())
        }
        ReconcileError::Kube(e) => SecretError::Unavailable(secret.to_owned(), describe(&*e)),
        other => SecretError::Unavailable(secret.to_owned(), other.to_string()),
    })?;
    found.ok_or_else(|| SecretError::NotFound(secret.to_owned()))
}

fn value(found: Secret, secret: &str, key: &str) -> Result<String, SecretError> {
    let mut data = found.data.unwrap_or_default();
    let value = data.remove(key).ok_or_else(|| SecretError::KeyMissing(secret.to_owned(), key.to_owned()))?;
    String::from_utf8(value.0).map_err(|_| SecretError::NotText(secret.to_owned(), key.to_owned()))
}
