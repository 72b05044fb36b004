//! An open connection to the database of one store, with everything that was learnt when it was opened.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::Context;
use super::context::Wishes;
use super::secret::{self, SecretError};
use crate::api::ExecutionStore;
use crate::api::store::{Connection, SecretKeyRef};
use crate::db::judge::Rules;
use crate::db::ledger::{self, Claim, Claimant, Ledger};
use crate::db::url::{self, InvalidUrl};
use crate::db::validate::{Problem, Validated, validate};
use crate::db::{Database, DbError, Defaults, Judge, Mapping, extras, hints, rules};
use crate::policy::{self, Rule};

/// Why a store cannot be worked on, from the first step that failed.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// The Secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// What the Secret holds.
    #[error("the Secret {0} holds no usable connection URL: {1}")]
    Url(String, InvalidUrl),
    /// The database.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The table.
    #[error(transparent)]
    Table(#[from] Problem),
    /// Another store looks after the table.
    #[error("the ExecutionStore {namespace}/{name} looks after this table: delete it, or this one. If it is gone already, its claim ends within ten minutes", namespace = .0.namespace, name = .0.name)]
    TableClaimed(Claimant),
}

impl NotReady {
    /// One word for a condition's reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Secret(e) => e.reason(),
            Self::Url(..) => "InvalidURL",
            Self::Database(e) => e.reason(),
            Self::Table(e) => e.reason(),
            Self::TableClaimed(_) => "TableClaimed",
        }
    }
}

/// The credentials of a store, as its Secrets hold them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    secret_ref: SecretKeyRef,
    ca_secret_ref: Option<SecretKeyRef>,
    uri: String,
    ca: Option<String>,
}

impl Credentials {
    /// Reads them.
    pub async fn read(context: &Context, store: &ExecutionStore) -> Result<Self, SecretError> {
        let namespace = store.namespace().unwrap_or_default();
        let connection = &store.spec.connection;
        let uri = secret::read(context, &namespace, &connection.secret_ref).await?;
        let ca = match &connection.ca_secret_ref {
            Some(key) => Some(secret::read(context, &namespace, key).await?),
            None => None,
        };
        Ok(Self {
            secret_ref: connection.secret_ref.clone(),
            ca_secret_ref: connection.ca_secret_ref.clone(),
            uri,
            ca,
        })
    }

    /// Whether they are from the Secrets that `connection` names.
    pub fn are_of(&self, connection: &Connection) -> bool {
        self.secret_ref == connection.secret_ref && self.ca_secret_ref == connection.ca_secret_ref
    }
}

/// An open connection to the database of one store. It describes one generation of the store's spec.
pub struct Session {
    /// The database.
    pub database: Database,
    /// The table.
    pub mapping: Mapping,
    /// What governs executions that no rule names.
    pub defaults: Defaults,
    /// Where what is done is recorded.
    pub ledger: Ledger,
    /// Why rows cannot be changed, if they cannot.
    pub unwritable: Option<Problem>,
    /// Whether the server takes no writes.
    pub read_only: bool,
    /// Whether a trigger tells of changes.
    notifies: bool,
    /// Listens for them.
    hints: Option<AbortOnDropHandle<()>>,
    /// Which table it is, on which server: the same for two stores on one table.
    pub identity: String,
    rules: Mutex<Option<Arc<Vec<Rule>>>>,
}

impl Session {
    /// Connects, holds the spec against the catalog and claims the table.
    /// `predecessor` is the UID of the object that had this name before, if one is known to have; `changed` is called
    /// when the table says that it has changed.
    pub async fn open(
        store: &ExecutionStore,
        predecessor: Option<String>,
        credentials: &Credentials,
        changed: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, NotReady> {
        let spec = &store.spec;
        let secret = || spec.connection.secret_ref.name.clone();
        let ca = credentials.ca.as_ref().map(|pem| pem.clone().into_bytes());
        let options = url::parse(&credentials.uri, ca).map_err(|error| NotReady::Url(secret(), error))?;
        let (schema, table) = (&spec.table.schema.0, &spec.table.name.0);
        let (host, port, name) =
            (options.get_host(), options.get_port(), options.get_database().unwrap_or_default());
        let identity = format!("{host}:{port}/{name} {schema}.{table}");
        let size = u32::try_from(spec.connection.pool_size).unwrap_or(3).clamp(2, 20);
        let database =
            Database::connect(options.clone(), size, spec.connection.statement_timeout.get()).await?;
        match Self::prepare(store, predecessor, database.clone(), identity).await {
            Ok(mut session) => {
                if session.notifies && !session.read_only {
                    let relation = extras::relation(&spec.table);
                    session.hints = Some(hints::listen(options, relation, changed));
                }
                Ok(session)
            }
            Err(error) => {
                database.close().await;
                Err(error)
            }
        }
    }

    async fn prepare(
        store: &ExecutionStore,
        predecessor: Option<String>,
        database: Database,
        identity: String,
    ) -> Result<Self, NotReady> {
        let Validated { mapping, unwritable, read_only, notifies } =
            database.within(validate(&database, &store.spec.table)).await??;
        let ledger = if read_only {
            Ledger::Missing("the database is read-only".to_owned())
        } else {
            match database.within(ledger::claim(&database, &mapping, &claimant(store, predecessor))).await? {
                Claim::Held(ledger) => ledger,
                Claim::Taken(holder) => return Err(NotReady::TableClaimed(holder)),
            }
        };
        let defaults = Defaults {
            timeout: store.spec.default_timeout.to_chrono(),
            grace: store.spec.grace_period.to_chrono(),
            source: format!("ExecutionStore/{}", store.name_any()),
        };
        Ok(Self {
            database,
            mapping,
            defaults,
            ledger,
            unwritable,
            read_only,
            notifies,
            hints: None,
            identity,
            rules: Mutex::default(),
        })
    }

    /// Whether nothing keeps rows from being changed and recorded.
    pub fn whole(&self) -> bool {
        self.unwritable.is_none() && !self.read_only && matches!(self.ledger, Ledger::Tables { .. })
    }

    /// Confirms the claim and looks again at what may have changed without anybody telling: columns, rights, the
    /// operator's tables, a standby that was promoted. Returns whether all is as it was.
    pub async fn still_holds(&self, store: &ExecutionStore) -> Result<bool, NotReady> {
        if self.read_only {
            // It may be a setting of the role or the database, and those are taken at login.
            self.database.log_in_anew().await;
        }
        let validated = self.database.within(validate(&self.database, &store.spec.table)).await??;
        if validated.mapping != self.mapping
            || validated.unwritable != self.unwritable
            || validated.read_only != self.read_only
            || validated.notifies != self.notifies
        {
            return Ok(false);
        }
        if self.read_only {
            return Ok(true);
        }
        let claimant = claimant(store, None);
        match self.database.within(ledger::claim(&self.database, &self.mapping, &claimant)).await? {
            Claim::Held(ledger) => Ok(ledger == self.ledger),
            Claim::Taken(holder) => Err(NotReady::TableClaimed(holder)),
        }
    }

    /// Brings the rules in force in line with what the objects wish, and returns them. `check`: hold them against the
    /// database also if the wishes are as before, since another operator may have changed them. While not all objects
    /// have been seen the last known rules stay; `None`: nothing is known yet, so nothing may be judged.
    pub async fn rules_in_force(
        &self,
        context: &Context,
        store: &ExecutionStore,
        check: bool,
    ) -> Result<Option<Arc<Vec<Rule>>>, DbError> {
        let namespace = store.namespace().unwrap_or_default();
        let mut known = self.rules.lock().await;
        let Some(Wishes { readable, unreadable }) =
            context.wishes(&namespace, &store.name_any(), self.mapping.id_type())
        else {
            return Ok(known.clone());
        };
        let mut wanted = policy::compile(readable);
        // What an object said before it could not be decoded any more stays in force.
        let last: &[Rule] = known.as_deref().map_or(&[], Vec::as_slice);
        let stay = |rule: &&Rule| {
            unreadable.contains(&rule.source) && wanted.binary_search_by(|w| w.key.cmp(&rule.key)).is_err()
        };
        let kept: Vec<Rule> = last.iter().filter(stay).cloned().collect();
        wanted.extend(kept);
        wanted.sort_by(|a, b| a.key.cmp(&b.key));
        if let Some(rules) = known.as_ref().filter(|rules| !check && ***rules == wanted) {
            return Ok(Some(rules.clone()));
        }
        if let Ledger::Tables { store_id } = self.ledger {
            let replaced = rules::replace(&self.database, store_id, &wanted, &unreadable);
            if self.database.within(replaced).await? && check {
                tracing::info!(store = store.name_any(), "the rules in the database were put right");
            }
        }
        Ok(Some(known.insert(Arc::new(wanted)).clone()))
    }

    /// The predicate of this store. `rules` are those of [`Self::rules_in_force`].
    pub fn judge<'a>(&'a self, rules: &'a [Rule]) -> Judge<'a> {
        let rules = match self.ledger {
            Ledger::Tables { store_id } => Rules::Table(store_id),
            Ledger::Missing(_) => Rules::Memory(rules),
        };
        Judge { mapping: &self.mapping, defaults: &self.defaults, rules }
    }

    /// The shortest time within which an execution that starts now can become stale: at least a second, since looking
    /// more often for executions that may not even exist costs more than their being late by as much.
    pub fn shortest_timeout(&self, rules: &[Rule]) -> Duration {
        let total = |timeout, grace: Option<_>| timeout + grace.unwrap_or(self.defaults.grace);
        rules
            .iter()
            .map(|rule| total(rule.timeout.unwrap_or(self.defaults.timeout), rule.grace))
            .chain([total(self.defaults.timeout, None)])
            .min()
            .and_then(|shortest| shortest.to_std().ok())
            .unwrap_or_default()
            .max(Duration::from_secs(1))
    }
}

fn claimant(store: &ExecutionStore, predecessor: Option<String>) -> Claimant {
    Claimant {
        predecessor,
        uid: store.uid().unwrap_or_default(),
        namespace: store.namespace().unwrap_or_default(),
        name: store.name_any(),
    }
}
