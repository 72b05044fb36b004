//! Notification settings: `spec.notifications` of an `ExecutionStore` and of an `ExecutionPolicy`.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;
use super::duration::cel;
use super::names::{SECRET_KEY, SUBDOMAIN};

/// Settings for notifications by e-mail and webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.smtp) || !self.channels.exists(c, has(c.email))").message("a channel with email needs smtp"),
    validation = Rule::new("self.channels.all(c, self.channels.exists_one(d, d.name == c.name))").message("two channels have the same name")
)]
pub struct Notifications {
    /// The channels to notify about the executions of this store, unless a policy names other channels: at most 10. The
    /// operator delivers to each channel independently of the others.
    #[schemars(length(max = 10))]
    pub channels: Vec<Channel>,
    /// The mail server. Required if a channel sets `email`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smtp: Option<Smtp>,
    /// The time to wait before the first message, so that one message covers a whole sweep: at most 1h.
    #[serde(default = "defaults::group_wait")]
    #[x_kube(validation = cel::at_most("1h"))]
    pub group_wait: Duration,
    /// The minimum time between two messages to a channel: at most 24h.
    #[serde(default = "defaults::group_interval")]
    #[x_kube(validation = cel::at_most("24h"))]
    pub group_interval: Duration,
    /// The age at which the operator stops retrying and drops a message that it cannot deliver: from 1m to 7d (168h).
    #[serde(default = "defaults::give_up_after")]
    #[x_kube(validation = cel::at_least("1m"), validation = cel::at_most("168h"))]
    pub give_up_after: Duration,
    /// The templates of e-mails and of the text of Slack messages. The operator uses its default for each template that
    /// is unset or has an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templates: Option<Templates>,
}

/// Notification settings of a policy, which replace the channels of the store for the executions that the policy
/// governs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.channels.all(c, self.channels.exists_one(d, d.name == c.name))").message("two channels have the same name")
)]
pub struct PolicyNotifications {
    /// The channels to notify about these executions: at most 10. An empty list turns notifications off. These channels
    /// receive messages about executions only, not about the store. The operator sends e-mail through the mail server
    /// of the store.
    #[schemars(length(max = 10))]
    pub channels: Vec<Channel>,
}

/// A recipient of notifications. Set exactly one of `email` and `webhook`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.email) != has(self.webhook)").message("set either email or webhook"))]
pub struct Channel {
    /// The name of the channel in conditions and audit records: 1 to 63 lower-case letters, digits and `-`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The events to notify about. Defaults to all events.
    #[serde(default = "Topic::all")]
    #[schemars(length(min = 1, max = 6))]
    pub events: Vec<Topic>,
    /// Delivers messages by e-mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
    /// Delivers messages by HTTP request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

/// An event that notifications can cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Topic {
    /// An execution has run for longer than `warnAfter` of its policy, or `longRunning.after` of its store.
    LongRunning,
    /// An execution is stale and keeps running, because its policy sets `onStale: AlertOnly`.
    Stale,
    /// The operator failed or cancelled a stale execution.
    Failed,
    /// An execution that the operator had failed or cancelled finished after all, so the earlier message was wrong.
    /// Channels with `Failed` receive this event too.
    FinishedLate,
    /// A sweep would end too many executions and waits for approval.
    Breaker,
    /// After `LongRunning`, `Stale` or `Breaker`: the circuit breaker is closed, and no execution is long-running or
    /// stale.
    Recovered,
}

impl Topic {
    /// All topics.
    pub const ALL: [Self; 6] =
        [Self::LongRunning, Self::Stale, Self::Failed, Self::FinishedLate, Self::Breaker, Self::Recovered];

    fn all() -> Vec<Self> {
        Self::ALL.to_vec()
    }

    /// Reports whether a channel with these `events` receives messages about this topic. `Failed` includes
    /// `FinishedLate`.
    pub fn is_among(self, events: &[Self]) -> bool {
        events.contains(&self) || (self == Self::FinishedLate && events.contains(&Self::Failed))
    }

    /// Returns the topic as written in the spec.
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

/// The recipients of e-mails. Set `to`, `toOwner` or both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("size(self.to) > 0 || self.toOwner").message("set to or toOwner"))]
pub struct Email {
    /// The e-mail addresses to notify, for example `ops@example.org`: at most 20. Each address gets a separate message.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub to: Vec<Address>,
    /// Whether to also notify the owner of an execution about that execution. Requires `table.columns.owner`, the
    /// column with the owner's address.
    #[serde(default)]
    pub to_owner: bool,
}

/// An e-mail address without a display name: `local@domain`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(transparent)]
pub struct Address(
    #[schemars(
        length(min = 3, max = 254),
        regex(pattern = "^[^@\\s<>(),;:\"\\\\\\[\\]]+@[^@\\s<>(),;:\"\\\\\\[\\]]+$")
    )]
    pub String,
);

/// The endpoint of a webhook. Set exactly one of `url` and `urlSecretRef`. The operator does not follow redirects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.url) != has(self.urlSecretRef)").message("set either url or urlSecretRef"))]
pub struct Webhook {
    /// The URL, if it is not secret: `https://…`, or `http://…` within the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = "^https?://[^\\s]+$"))]
    pub url: Option<String>,
    /// The Secret key, in the namespace of this object, that holds the URL, for example of a Slack webhook. The Secret
    /// must have the label `jobexec.dev/use: notifications`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_secret_ref: Option<SecretKey>,
    /// The Secret key that holds the key for signing messages according to the Standard Webhooks specification:
    /// `whsec_` followed by base64, or any text. The Secret must have the label `jobexec.dev/use: notifications`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_secret_ref: Option<SecretKey>,
    /// The Secret key that holds only the certificate authority of the endpoint, in PEM format. Replaces the system's
    /// certificate authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKey>,
    /// The format of the request body.
    #[serde(default)]
    pub format: Format,
}

/// The format of a webhook's request body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Format {
    /// A JSON object with all details.
    #[default]
    #[serde(rename = "JSON")]
    Json,
    /// `{"text": "…"}`, for Slack and compatible services.
    Slack,
}

/// A mail server that sends e-mails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Smtp {
    /// The host name or IP address of the server.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[A-Za-z0-9]([-A-Za-z0-9.:]*[A-Za-z0-9])?$"))]
    pub host: String,
    /// The port of the server. Defaults to 587 with `StartTLS`, 465 with `TLS` and 25 with `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<i32>,
    /// The transport security of the connection. The operator sends nothing to a server that does not support it.
    #[serde(default)]
    pub security: Security,
    /// The sender address of e-mails.
    pub from: Address,
    /// The Secret, in the namespace of this object, with the login in the keys `username` and `password`
    /// (type `kubernetes.io/basic-auth`). It must have the label `jobexec.dev/use: notifications`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretName>,
    /// The Secret key that holds only the certificate authority of the server, in PEM format. Replaces the system's
    /// certificate authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKey>,
}

/// The transport security of a connection to a mail server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Security {
    /// The connection starts in plain text and upgrades to TLS before it sends the login or a message.
    #[default]
    #[serde(rename = "StartTLS")]
    StartTls,
    /// The connection uses TLS from the start.
    #[serde(rename = "TLS")]
    Tls,
    /// The connection does not use TLS. The operator then refuses to send a login.
    None,
}

/// A reference to a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretName {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
}

/// A reference to a key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
    /// The key within the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_KEY))]
    pub key: String,
}

/// Jinja templates of messages. docs/notifications.md lists the available variables and filters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Templates {
    /// The template for the subject of e-mails. Line breaks become spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1_024))]
    pub subject: Option<String>,
    /// The template for the plain text of e-mails and for Slack messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16_384))]
    pub text: Option<String>,
    /// The template for the HTML of e-mails. Values are HTML-escaped.
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

    /// Parses a default, which a unit test shows to be valid.
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
