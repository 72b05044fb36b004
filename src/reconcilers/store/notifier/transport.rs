//! The delivery of messages of a channel: by its mail server or endpoint, with the content of the Secrets that it
//! names.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::Client;

use crate::api::ExecutionStore;
use crate::api::notifications::{Channel, SecretKey, Smtp, Webhook};
use crate::kubernetes::secret::{self, Purpose, SecretError};
use crate::notify::{Destination, SendError, server, webhook};
use crate::secrets::{CaBundle, ExposeSecret as _, SecretString};

/// The time for which the content of Secrets is cached.
const FRESH: Duration = Duration::from_mins(1);

/// The reason why a channel has no transport.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransportError {
    /// A Secret is missing or invalid.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The spec or the content of a Secret is invalid, or the delivery failed.
    #[error(transparent)]
    Send(#[from] SendError),
    /// There is no mail server.
    #[error("the store has no mail server: set spec.notifications.smtp")]
    NoMailServer,
}

impl TransportError {
    /// The reason, for a condition.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Secret(error) => error.reason(),
            Self::Send(error) => error.reason(),
            Self::NoMailServer => "NoMailServer",
        }
    }
}

/// The way that messages of one channel are delivered.
#[derive(Clone)]
pub(super) enum Transport {
    /// Through this mail server.
    Mail(server::Server),
    /// To this endpoint.
    Hook(webhook::Target),
}

impl Transport {
    /// The destination for one recipient.
    pub(super) fn to(self, recipient: &str) -> Destination {
        match self {
            Self::Mail(server) => Destination::Email { server, to: recipient.to_owned() },
            Self::Hook(target) => Destination::Webhook(target),
        }
    }
}

/// The cached transports, by channel.
#[derive(Default)]
pub(super) struct TransportCache(Mutex<HashMap<String, (Instant, Transport)>>);

impl TransportCache {
    /// The transport of the channel called `name`.
    pub(super) async fn find(
        &self,
        client: &Client,
        store: &ExecutionStore,
        name: &str,
        channel: &Channel,
    ) -> Result<Transport, TransportError> {
        let known = |transports: &HashMap<String, (Instant, Transport)>| {
            transports
                .get(name)
                .filter(|(at, _)| at.elapsed() < FRESH)
                .map(|(_, transport)| transport.clone())
        };
        if let Some(transport) = known(&self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(transport);
        }
        let transport = resolve(client, store, channel).await?;
        let mut transports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        transports.insert(name.to_owned(), (Instant::now(), transport.clone()));
        Ok(transport)
    }

    /// Forgets the transport of a channel that failed: a Secret may be the cause.
    pub(super) fn forget(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

async fn resolve(
    client: &Client,
    store: &ExecutionStore,
    channel: &Channel,
) -> Result<Transport, TransportError> {
    let namespace = store.metadata.namespace.clone().unwrap_or_default();
    if let Some(webhook) = &channel.webhook {
        return Ok(Transport::Hook(target(client, &namespace, webhook).await?));
    }
    let smtp = store.spec.notifications.as_ref().and_then(|notifications| notifications.smtp.as_ref());
    Ok(Transport::Mail(server(client, &namespace, smtp.ok_or(TransportError::NoMailServer)?).await?))
}

async fn server(client: &Client, namespace: &str, smtp: &Smtp) -> Result<server::Server, TransportError> {
    let credentials = match &smtp.credentials_secret_ref {
        Some(secret) => {
            let read = |key| secret::read(client, namespace, &secret.name, key, Purpose::Notification);
            Some(server::Login { user: read("username").await?, password: read("password").await? })
        }
        None => None,
    };
    let ca = authorities(client, namespace, smtp.ca_secret_ref.as_ref()).await?;
    Ok(server::Server::new(smtp, ca, credentials))
}

async fn target(
    client: &Client,
    namespace: &str,
    webhook: &Webhook,
) -> Result<webhook::Target, TransportError> {
    let secret = optional(client, namespace, webhook.url_secret_ref.as_ref()).await?;
    let url = match &secret {
        Some(secret) => secret.expose_secret(),
        None => webhook.url.as_deref().unwrap_or_default(),
    };
    let signing_key = optional(client, namespace, webhook.signing_secret_ref.as_ref()).await?;
    Ok(webhook::Target {
        url: webhook::Endpoint::new(url)?,
        signing_key: signing_key
            .map(|key| webhook::SigningKey::new(key.expose_secret().as_bytes()))
            .transpose()?,
        authorities: authorities(client, namespace, webhook.ca_secret_ref.as_ref()).await?,
        format: webhook.format,
    })
}

async fn optional(
    client: &Client,
    namespace: &str,
    key: Option<&SecretKey>,
) -> Result<Option<SecretString>, SecretError> {
    let Some(SecretKey { name, key }) = key else { return Ok(None) };
    secret::read(client, namespace, name, key, Purpose::Notification).await.map(Some)
}

async fn authorities(
    client: &Client,
    namespace: &str,
    key: Option<&SecretKey>,
) -> Result<Option<CaBundle>, SecretError> {
    let Some(SecretKey { name, key }) = key else { return Ok(None) };
    secret::read_authorities(client, namespace, name, key).await.map(Some)
}
