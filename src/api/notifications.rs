//! Who is told of what, and how: `spec.notifications` of an `ExecutionStore` and of an `ExecutionPolicy`.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;
use super::names::{SECRET_KEY, SUBDOMAIN};

/// Whom to tell by e-mail or webhook of what becomes of executions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.smtp) || !self.channels.exists(c, has(c.email))").message("a channel with email needs smtp"),
    validation = Rule::new("self.channels.all(c, self.channels.exists_one(d, d.name == c.name))").message("two channels have the same name")
)]
pub struct Notifications {
    /// Who is told of the executions of this store, unless a policy says otherwise: up to ten, each told apart from the
    /// others.
    #[schemars(length(max = 10))]
    pub channels: Vec<Channel>,
    /// The mail server, for channels with `email`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smtp: Option<Smtp>,
    /// How long to wait for more before the first message, so that one message tells of a whole sweep: at most 1h.
    #[serde(default = "defaults::group_wait")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('1h')").message("must be at most 1h"))]
    pub group_wait: Duration,
    /// How long to wait after a message before the next one: at most 24h.
    #[serde(default = "defaults::group_interval")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('24h')").message("must be at most 24h"))]
    pub group_interval: Duration,
    /// How long a message that cannot be delivered is tried again before it is given up: from 1m to 168h.
    #[serde(default = "defaults::give_up_after")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('168h')").message("must be at least 1m and at most 168h"))]
    pub give_up_after: Duration,
    /// What e-mails look like, and the text of Slack messages. Without them, or where one has an error, it is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templates: Option<Templates>,
}

/// Whom to tell instead of the channels of the store, of executions that a policy governs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.channels.all(c, self.channels.exists_one(d, d.name == c.name))").message("two channels have the same name")
)]
pub struct PolicyNotifications {
    /// Up to ten; none: nobody is told. They are told of executions only, not of the store. E-mail goes through the mail server of the store.
    #[schemars(length(max = 10))]
    pub channels: Vec<Channel>,
}

/// One who is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.email) != has(self.webhook)").message("set either email or webhook"))]
pub struct Channel {
    /// Its name, in conditions and records: lower-case letters, digits and `-`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Of what; all of it without it.
    #[serde(default = "Topic::all")]
    #[schemars(length(min = 1, max = 6))]
    pub events: Vec<Topic>,
    /// By e-mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
    /// By HTTPS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

/// What somebody is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Topic {
    /// An execution has run for longer than `warnAfter` of its policy, or `longRunning.after` of its store.
    LongRunning,
    /// An execution is stale and runs on, since its policy says `AlertOnly`.
    Stale,
    /// A stale execution was failed or cancelled.
    Failed,
    /// An execution that had been failed or cancelled was finished after all, so that what was told before is wrong. Whoever is told
    /// of `Failed` is told of this too.
    FinishedLate,
    /// A sweep would end too many executions, and waits for a person.
    Breaker,
    /// After `LongRunning`, `Stale` or `Breaker`: the breaker is closed, and nothing is long-running or stale any more.
    Recovered,
}

impl Topic {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::LongRunning, Self::Stale, Self::Failed, Self::FinishedLate, Self::Breaker, Self::Recovered];

    fn all() -> Vec<Self> {
        Self::ALL.to_vec()
    }

    /// Whether somebody who wants to be told of `wanted` is told of this.
    pub fn is_among(self, wanted: &[Self]) -> bool {
        wanted.contains(&self) || (self == Self::FinishedLate && wanted.contains(&Self::Failed))
    }

    /// As the spec has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LongRunning => "LongRunning",
            Self::Stale => "Stale",
            Self::Failed => "Failed",
            Self::FinishedLate => "FinishedLate",
            Self::Breaker => "Breaker",
            Self::Recovered => "Recovered",
        }
    }
}

/// To whom an e-mail goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("size(self.to) > 0 || self.toOwner").message("set to or toOwner"))]
pub struct Email {
    /// Addresses such as `ops@example.org`, up to twenty; each gets a message of its own.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub to: Vec<Address>,
    /// Whether the owner of an execution is told too, where `table.columns.owner` names the column with the address:
    /// only of their own executions.
    #[serde(default)]
    pub to_owner: bool,
}

/// An e-mail address without a name: `local@domain`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(transparent)]
pub struct Address(
    #[schemars(
        length(min = 3, max = 254),
        regex(pattern = "^[^@\\s<>(),;:\"\\\\\\[\\]]+@[^@\\s<>(),;:\"\\\\\\[\\]]+$")
    )]
    pub String,
);

/// Where an HTTPS request goes. Redirects are not followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.url) != has(self.urlSecretRef)").message("set either url or urlSecretRef"))]
pub struct Webhook {
    /// The URL, where it is no secret: `https://…`, or `http://…` within the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = "^https?://[^\\s]+$"))]
    pub url: Option<String>,
    /// The Secret key, in the namespace of this object, that holds the URL, as for Slack. The Secret must have the label
    /// `jobexec.dev/use: notifications`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_secret_ref: Option<SecretKey>,
    /// The Secret key that holds the key to sign messages with, after Standard Webhooks: `whsec_` and base64, or any text. The
    /// Secret must have the label `jobexec.dev/use: notifications`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_secret_ref: Option<SecretKey>,
    /// The Secret key that holds the certificate authority of the endpoint in PEM form, and nothing else, in place of the
    /// system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKey>,
    /// What is sent.
    #[serde(default)]
    pub format: Format,
}

/// The body of a webhook's request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Format {
    /// All that is known, as JSON.
    #[default]
    #[serde(rename = "JSON")]
    Json,
    /// `{"text": "…"}`, which Slack and those that are compatible with it show.
    Slack,
}

/// A mail server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Smtp {
    /// Its name or address.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[A-Za-z0-9]([-A-Za-z0-9.:]*[A-Za-z0-9])?$"))]
    pub host: String,
    /// Its port; without it 587 with `StartTLS`, 465 with `TLS`, 25 with `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<i32>,
    /// How the connection is protected. A server that does not offer it is sent nothing.
    #[serde(default)]
    pub security: Security,
    /// From whom e-mails are.
    pub from: Address,
    /// The Secret, in the namespace of this object, with the keys `username` and `password` to log in with
    /// (`kubernetes.io/basic-auth`). It must have the label `jobexec.dev/use: notifications`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretName>,
    /// The Secret key that holds the certificate authority of the server in PEM form, and nothing else, in place of the
    /// system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKey>,
}

/// How a connection to a mail server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Security {
    /// It begins in plain text and goes over to TLS before anything is said.
    #[default]
    #[serde(rename = "StartTLS")]
    StartTls,
    /// It is TLS from its beginning.
    #[serde(rename = "TLS")]
    Tls,
    /// It is not; then nothing may be logged in with.
    None,
}

/// A Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretName {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
}

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
    /// The key within it.
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_KEY))]
    pub key: String,
}

/// Templates in the language of Jinja. What they may use is in docs/notifications.md.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Templates {
    /// The subject of an e-mail; line breaks become blanks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1_024))]
    pub subject: Option<String>,
    /// Its text, which is the text of Slack messages too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16_384))]
    pub text: Option<String>,
    /// Its HTML, in which values are escaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536))]
    pub html: Option<String>,
}

impl Default for Notifications {
    fn default() -> Self {
        Self {
            channels: Vec::new(),
            smtp: None,
            group_wait: defaults::group_wait(),
            group_interval: defaults::group_interval(),
            give_up_after: defaults::give_up_after(),
            templates: None,
        }
    }
}

mod defaults {
    use super::Duration;

    /// A duration known to be well written; the unit test below holds it.
    fn known(text: &str) -> Duration {
        text.parse().unwrap_or_else(|_| unreachable!("a default is a valid duration"))
    }

    pub(super) fn group_wait() -> Duration {
        known("10s")
    }
    pub(super) fn group_interval() -> Duration {
        known("5m")
    }
    pub(super) fn give_up_after() -> Duration {
        known("24h")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid() {
        let spec: Notifications = serde_json::from_value(serde_json::json!({"channels": []})).unwrap();
        let texts = [spec.group_wait, spec.group_interval, spec.give_up_after].map(|d| d.to_string());
        assert_eq!(texts, ["10s", "5m", "24h"]);
    }
}
