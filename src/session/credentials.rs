//! The credentials of a store, from its Secrets.

use ::url::Url;
use kube::{Client, ResourceExt as _};
use percent_encoding::percent_decode_str;

use crate::api::ExecutionStore;
use crate::api::store::{Connection, SecretKeyRef};
use crate::db::url::{self, Login};
use crate::kubernetes::secret::{self, Purpose, SecretError};
use crate::secrets::{CaBundle, Echoes, ExposeSecret as _, SecretString};
use crate::session::not_ready::NotReady;

/// The credentials of a store, from its Secrets.
#[derive(Clone, Debug)]
pub struct Credentials {
    secret_ref: SecretKeyRef,
    ca_secret_ref: Option<SecretKeyRef>,
    uri: SecretString,
    ca: Option<CaBundle>,
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        (&self.secret_ref, &self.ca_secret_ref, &self.ca)
            == (&other.secret_ref, &other.ca_secret_ref, &other.ca)
            && self.uri.expose_secret() == other.uri.expose_secret()
    }
}

impl Eq for Credentials {}

impl Credentials {
    /// Reads the Secrets.
    pub async fn read(client: &Client, store: &ExecutionStore) -> Result<Self, SecretError> {
        let namespace = store.namespace().unwrap_or_default();
        let connection = &store.spec.connection;
        let SecretKeyRef { name, key } = &connection.secret_ref;
        let uri = secret::read(client, &namespace, name, key, Purpose::Connection).await?;
        let ca = match &connection.ca_secret_ref {
            Some(SecretKeyRef { name, key }) => {
                Some(secret::read_authorities(client, &namespace, name, key).await?)
            }
            None => None,
        };
        Ok(Self {
            secret_ref: connection.secret_ref.clone(),
            ca_secret_ref: connection.ca_secret_ref.clone(),
            uri,
            ca,
        })
    }

    /// The part of the credentials that a server may repeat: the password.
    pub(crate) fn echoes(&self) -> Echoes {
        let url = Url::parse(self.uri.expose_secret().trim()).ok();
        let password = url.as_ref().and_then(Url::password).unwrap_or_default();
        let decoded = percent_decode_str(password).decode_utf8_lossy();
        Echoes::new([password, &*decoded])
    }

    /// Reports whether they are from the Secrets that `connection` names.
    pub fn are_of(&self, connection: &Connection) -> bool {
        self.secret_ref == connection.secret_ref && self.ca_secret_ref == connection.ca_secret_ref
    }
}

/// The login, and the identity of the table and its server.
pub(crate) fn login(store: &ExecutionStore, credentials: &Credentials) -> Result<(Login, String), NotReady> {
    let spec = &store.spec;
    let secret = || spec.connection.secret_ref.name.clone();
    let ca = credentials.ca.as_ref().map(|bundle| bundle.pem().into_bytes());
    let login =
        url::login(credentials.uri.expose_secret(), ca).map_err(|error| NotReady::Url(secret(), error))?;
    let options = &login.options;
    let (schema, table) = (&spec.table.schema.0, &spec.table.name.0);
    let (host, port, name) =
        (options.get_host(), options.get_port(), options.get_database().unwrap_or_default());
    let identity = format!("{host}:{port}/{name} {schema}.{table}");
    Ok((login, identity))
}
