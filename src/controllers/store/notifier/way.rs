//! The way to deliver a message: what its channel says, and what the Secrets hold that it names.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::api::ExecutionStore;
use crate::api::notifications::{Channel, SecretKey, Smtp, Webhook};
use crate::controllers::Context;
use crate::controllers::secret::{self, Purpose, SecretError};
use crate::notify::{Destination, SendError, email, webhook};
use crate::secrets::{CaBundle, ExposeSecret as _, SecretString};

/// How long what the Secrets hold is taken for known.
const FRESH: Duration = Duration::from_mins(1);

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoWay {
    /// A Secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The spec, or what a Secret holds.
    #[error(transparent)]
    Send(#[from] SendError),
    /// There is no mail server.
    #[error("the store has no mail server: set spec.notifications.smtp")]
    NoServer,
}

impl NoWay {
    /// One word for a condition's reason.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Secret(error) => error.reason(),
            Self::Send(error) => error.reason(),
            Self::NoServer => "NoMailServer",
        }
    }
}

/// How messages of one channel are delivered.
#[derive(Clone)]
pub(super) enum Way {
    /// Through this mail server.
    Mail(email::Server),
    /// To this endpoint.
    Hook(webhook::Target),
}

impl Way {
    /// Where it leads for one recipient.
    pub(super) fn to(self, recipient: &str) -> Destination {
        match self {
            Self::Mail(server) => Destination::Email { server, to: recipient.to_owned() },
            Self::Hook(target) => Destination::Webhook(target),
        }
    }
}

/// The ways that are known.
#[derive(Default)]
pub(super) struct Ways(Mutex<HashMap<String, (Instant, Way)>>);

impl Ways {
    /// That of the channel called `name`.
    pub(super) async fn find(
        &self,
        context: &Context,
        store: &ExecutionStore,
        name: &str,
        channel: &Channel,
    ) -> Result<Way, NoWay> {
        let known = |ways: &HashMap<String, (Instant, Way)>| {
            ways.get(name).filter(|(at, _)| at.elapsed() < FRESH).map(|(_, way)| way.clone())
        };
        if let Some(way) = known(&self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(way);
        }
        let way = resolve(context, store, channel).await?;
        let mut ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ways.insert(name.to_owned(), (Instant::now(), way.clone()));
        Ok(way)
    }

    /// Forgets that of a channel which failed: a Secret may be why.
    pub(super) fn forget(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

async fn resolve(context: &Context, store: &ExecutionStore, channel: &Channel) -> Result<Way, NoWay> {
    let namespace = store.metadata.namespace.clone().unwrap_or_default();
    if let Some(webhook) = &channel.webhook {
        return Ok(Way::Hook(target(context, &namespace, webhook).await?));
    }
    let smtp = store.spec.notifications.as_ref().and_then(|notifications| notifications.smtp.as_ref());
    Ok(Way::Mail(server(context, &namespace, smtp.ok_or(NoWay::NoServer)?).await?))
}

async fn server(context: &Context, namespace: &str, smtp: &Smtp) -> Result<email::Server, NoWay> {
    let credentials = match &smtp.credentials_secret_ref {
        Some(secret) => {
            let read = |key| secret::read(context, namespace, &secret.name, key, Purpose::Notification);
            Some(email::Login { user: read("username").await?, password: read("password").await? })
        }
        None => None,
    };
    let ca = authorities(context, namespace, smtp.ca_secret_ref.as_ref()).await?;
    Ok(email::Server::new(smtp, ca, credentials))
}

async fn target(context: &Context, namespace: &str, webhook: &Webhook) -> Result<webhook::Target, NoWay> {
    let secret = optional(context, namespace, webhook.url_secret_ref.as_ref()).await?;
    let url = match &secret {
        Some(secret) => secret.expose_secret(),
        None => webhook.url.as_deref().unwrap_or_default(),
    };
    let signing_key = optional(context, namespace, webhook.signing_secret_ref.as_ref()).await?;
    Ok(webhook::Target {
        url: webhook::Endpoint::new(url)?,
        signing_key: signing_key
            .map(|key| webhook::SigningKey::new(key.expose_secret().as_bytes()))
            .transpose()?,
        authorities: authorities(context, namespace, webhook.ca_secret_ref.as_ref()).await?,
        format: webhook.format,
    })
}

async fn optional(
    context: &Context,
    namespace: &str,
    key: Option<&SecretKey>,
) -> Result<Option<SecretString>, SecretError> {
    let Some(SecretKey { name, key }) = key else { return Ok(None) };
    secret::read(context, namespace, name, key, Purpose::Notification).await.map(Some)
}

async fn authorities(
    context: &Context,
    namespace: &str,
    key: Option<&SecretKey>,
) -> Result<Option<CaBundle>, SecretError> {
    let Some(SecretKey { name, key }) = key else { return Ok(None) };
    secret::read_authorities(context, namespace, name, key).await.map(Some)
}
