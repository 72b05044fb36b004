//! An open connection to the database of one store, with everything that was learnt when it was opened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ::url::Url;
use chrono::{DateTime, TimeDelta, Utc};
use kube::ResourceExt as _;
use percent_encoding::percent_decode_str;

use super::Context;
use super::in_force::{InForce, Known};
use super::records::{READ_ONLY, Records, claimant, told_of_records};
use super::secret::{self, Purpose, SecretError};
use crate::api::store::{Connection, SecretKeyRef};
use crate::api::{ADOPT, ExecutionStore};
use crate::boundary;
use crate::db::adopt::How;
use crate::db::hints::Listener;
use crate::db::judge::Rules;
use crate::db::ledger::{self, Claimant, Ledger};
use crate::db::own::Fault;
use crate::db::schema::Refusal;
use crate::db::url::{self, InvalidUrl, Login};
use crate::db::validate::{Problem, Validated, validate};
use crate::db::{Database, DbError, Judge, Layout, Mapping, Pools, extras, history};
use crate::metrics::Tally;
use crate::secrets::{CaBundle, Echoes, ExposeSecret as _, SecretString};

/// How many connections a session has that is only asked now and then.
const BORROWED_POOL: u32 = 2;

/// Why a store cannot be worked on, from the first step that failed.
#[derive(Clone, Debug, thiserror::Error)]
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
    #[error("{}", claimed_by(.0))]
    TableClaimed(Claimant),
    /// A panic ended the work on the store.
    #[error("{}", boundary::MESSAGE)]
    Internal,
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
            Self::Internal => boundary::REASON,
        }
    }

    /// The same without what a server repeats of the credentials.
    fn without(self, echoes: &Echoes) -> Self {
        match self {
            Self::Database(error) => Self::Database(error.edited(|text| echoes.without(text))),
            other => other,
        }
    }

    /// Whether others had all connections, which says nothing of the store.
    pub(super) const fn is_busy(&self) -> bool {
        matches!(self, Self::Database(DbError::Busy(_)))
    }

    /// Whether the connection is no good any more.
    pub(super) const fn of_connection(&self) -> bool {
        matches!(self, Self::Database(error) if error.of_connection())
    }
}

/// The credentials of a store, as its Secrets hold them.
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
    /// Reads them.
    pub async fn read(context: &Context, store: &ExecutionStore) -> Result<Self, SecretError> {
        let namespace = store.namespace().unwrap_or_default();
        let connection = &store.spec.connection;
        let SecretKeyRef { name, key } = &connection.secret_ref;
        let uri = secret::read(context, &namespace, name, key, Purpose::Connection).await?;
        let ca = match &connection.ca_secret_ref {
            Some(SecretKeyRef { name, key }) => {
                Some(secret::read_authorities(context, &namespace, name, key).await?)
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

    /// What a server may repeat of them: the password.
    fn echoes(&self) -> Echoes {
        let url = Url::parse(self.uri.expose_secret().trim()).ok();
        let password = url.as_ref().and_then(Url::password).unwrap_or_default();
        let decoded = percent_decode_str(password).decode_utf8_lossy();
        Echoes::new([password, &*decoded])
    }

    /// Whether they are from the Secrets that `connection` names.
    pub fn are_of(&self, connection: &Connection) -> bool {
        self.secret_ref == connection.secret_ref && self.ca_secret_ref == connection.ca_secret_ref
    }
}

/// An open connection to the database of one store. It describes one generation of the store's spec.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Session {
    /// The database.
    pub database: Database,
    /// The table.
    pub mapping: Mapping,
    /// Where executions of a job come one after the other: how long a later one must have run before an earlier one is
    /// stale.
    single_active_execution: Option<TimeDelta>,
    /// Where executions are run by workloads: how long one must be seen failed or gone.
    pub workloads: Option<TimeDelta>,
    /// Since when the store has been looked at without a gap.
    watched: DateTime<Utc>,
    /// When the claim was last confirmed, by the database's clock.
    confirmed: Mutex<DateTime<Utc>>,
    /// When it was last seen whether lost heartbeats are to be held, by the database's clock.
    heartbeats_seen: Mutex<Option<DateTime<Utc>>>,
    /// When it was opened, by the database's clock.
    pub opened: DateTime<Utc>,
    /// Where what is done is recorded.
    pub ledger: Ledger,
    /// Why the operator's tables, which are there, are not used.
    pub refused: Option<Refusal>,
    /// What is said of records that another table of this name has left behind, if there are any.
    pub left: Option<String>,
    /// Those of them of which a person has to say whether what was granted in them counts.
    undecided: Vec<i64>,
    /// What came of what a person asked to adopt as it was opened: `Err` says why it was not carried out.
    pub adopted: Option<Result<(), String>>,
    /// Whether what is done is known to have been recorded before.
    recorded: bool,
    /// Why rows cannot be changed, if they cannot.
    pub unwritable: Option<Problem>,
    /// Whether the server takes no writes.
    pub read_only: bool,
    /// Whether a trigger tells of changes.
    notifies: bool,
    /// Listens for them.
    hints: Option<Listener>,
    /// Whether another replica looks after the store: then nothing is claimed, and what is in force is only read.
    borrowed: bool,
    /// The UID and the generation of the object that it describes.
    described: (Option<String>, Option<i64>),
    /// Which table it is, on which server: the same for two stores on one table.
    pub identity: String,
    /// What is in force.
    pub(super) known: Known,
    /// Where what is done is counted.
    pub tally: Arc<Tally>,
    /// Why the operator's tables, which are there, take no record, as far as that was met.
    pub(super) fault: Mutex<Option<Fault>>,
}

/// What a session is opened for.
enum Hold {
    /// To look after the store: the table is claimed.
    Claim(Before),
    /// To read what another replica looks after.
    Borrow,
}

/// What is known of the time before a session.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// The UID of the object that had the store's name before, if one is known to have.
    pub predecessor: Option<String>,
    /// Whether the database was away until now.
    pub outage: bool,
    /// Whether a session of this store has recorded what was done.
    pub recorded: bool,
    /// What a person asks for with what another store has left.
    pub adopt: Option<How>,
}

impl Session {
    /// Connects, holds the spec against the catalog and claims the table. `changed` is called when the table says that it
    /// has changed.
    pub async fn open(
        pools: &Pools,
        store: &ExecutionStore,
        before: Before,
        credentials: &Credentials,
        tally: Arc<Tally>,
        changed: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, NotReady> {
        let spec = &store.spec;
        let (login, identity) = login(store, credentials)?;
        let size = u32::try_from(spec.connection.pool_size).unwrap_or(3).clamp(2, 20);
        let timeout = spec.connection.statement_timeout.get();
        let opening = async {
            let database = Database::shared(pools, &login, size, timeout).await?;
            Self::prepare(store, database, identity, tally, Hold::Claim(before)).await
        };
        let mut session = opening.await.map_err(|error: NotReady| error.without(&credentials.echoes()))?;
        session.adopted = session.adopted.map(|done| done.map_err(|why| credentials.echoes().without(why)));
        if session.notifies && !session.read_only {
            session.hints = Some(session.database.listen(extras::relation(&spec.table), changed));
        }
        Ok(session)
    }

    /// Connects to the database of a store that another replica looks after, and holds the spec against the catalog.
    pub async fn borrow(
        pools: &Pools,
        store: &ExecutionStore,
        credentials: &Credentials,
        tally: Arc<Tally>,
    ) -> Result<Self, NotReady> {
        let (login, identity) = login(store, credentials)?;
        let timeout = store.spec.connection.statement_timeout.get();
        let opening = async {
            let database = Database::shared(pools, &login, BORROWED_POOL, timeout).await?;
            Self::prepare(store, database, identity, tally, Hold::Borrow).await
        };
        opening.await.map_err(|error: NotReady| error.without(&credentials.echoes()))
    }

    /// Holds the spec against the catalog. What cannot be used is closed.
    async fn prepare(
        store: &ExecutionStore,
        database: Database,
        identity: String,
        tally: Arc<Tally>,
        hold: Hold,
    ) -> Result<Self, NotReady> {
        let prepared = Self::describe(store, database.clone(), identity, tally, hold).await;
        if let Err(error) = &prepared {
            if error.of_connection() {
                database.renew();
            }
            database.close().await;
        }
        prepared
    }

    async fn describe(
        store: &ExecutionStore,
        database: Database,
        identity: String,
        tally: Arc<Tally>,
        hold: Hold,
    ) -> Result<Self, NotReady> {
        let Validated { mapping, unwritable, read_only, notifies } =
            database.within(validate(&database, &Layout::of(&store.spec))).await??;
        let borrowed = matches!(hold, Hold::Borrow);
        let mut recorded = told_of_records(store);
        let records = match hold {
            Hold::Claim(before) if read_only => Records {
                adopted: before.adopt.map(|_| Err(READ_ONLY.to_owned())),
                ..Records::none(READ_ONLY.to_owned(), Some(Utc::now()))
            },
            Hold::Claim(before) => {
                recorded |= before.recorded;
                let claimant = claimant(store, before.predecessor.clone());
                Records::claim(&database, &mapping, &claimant, &before).await?
            }
            Hold::Borrow => Records::borrow(store, &database, &mapping, read_only).await?,
        };
        let unwritable = unwritable.or_else(|| records.hold_up(recorded));
        let Records { ledger, refused, left, undecided, adopted, watched, confirmed } = records;
        let opened = match confirmed.filter(|_| !read_only) {
            Some(confirmed) => confirmed,
            None => database.within(ledger::now(&database)).await?,
        };
        let history = if borrowed {
            BTreeMap::new()
        } else {
            database.within(history::load(&database, &ledger)).await?
        };
        Ok(Self {
            database,
            mapping,
            single_active_execution: store
                .spec
                .single_active_execution
                .as_ref()
                .map(|s| s.grace_period.to_chrono()),
            workloads: store.spec.workloads.as_ref().map(|w| w.grace_period.to_chrono()),
            watched: watched.unwrap_or(opened),
            confirmed: Mutex::new(confirmed.unwrap_or(opened)),
            heartbeats_seen: Mutex::new(None),
            opened,
            ledger,
            refused,
            left,
            undecided,
            adopted,
            recorded,
            unwritable,
            read_only,
            notifies,
            hints: None,
            borrowed,
            described: (store.uid(), store.metadata.generation),
            identity,
            known: Known::with_history(history),
            tally,
            fault: Mutex::default(),
        })
    }

    /// Whether another replica looks after the store.
    pub fn is_borrowed(&self) -> bool {
        self.borrowed
    }

    /// Whether nothing keeps rows from being changed and recorded.
    pub fn whole(&self) -> bool {
        let recorded = matches!(self.ledger, Ledger::Tables { .. }) && self.fault().is_none();
        self.unwritable.is_none() && !self.read_only && recorded
    }

    /// Whether it describes this object, and its spec as it is.
    pub fn describes(&self, store: &ExecutionStore) -> bool {
        self.described == (store.uid(), store.metadata.generation)
    }

    /// Confirms the claim and looks again at what may have changed without anybody telling: columns, rights, the
    /// operator's tables, a standby that was promoted. Returns whether all is as it was.
    pub async fn still_holds(&self, store: &ExecutionStore) -> Result<bool, NotReady> {
        if self.read_only {
            // It may be a setting of the role or the database, and those are taken at login.
            self.database.log_in_anew();
        }
        let validated = self.database.within(validate(&self.database, &Layout::of(&store.spec))).await??;
        if validated.mapping != self.mapping
            || validated.read_only != self.read_only
            || validated.notifies != self.notifies
        {
            return Ok(false);
        }
        if self.read_only && !self.borrowed {
            return Ok(validated.unwritable == self.unwritable);
        }
        let records = if self.borrowed {
            Records::borrow(store, &self.database, &self.mapping, self.read_only).await?
        } else {
            let claimant = claimant(store, None);
            Records::claim(&self.database, &self.mapping, &claimant, &Before::default()).await?
        };
        if let (Ledger::Tables { .. }, Some(confirmed)) = (&records.ledger, records.confirmed) {
            *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = confirmed;
        }
        let unwritable = validated.unwritable.or_else(|| records.hold_up(self.recorded));
        // Without records nobody notes since when the table has been looked at. With them the operator itself may have been
        // away, as on a machine that slept.
        let watched = matches!(records.ledger, Ledger::Missing(_))
            || records.watched.is_none_or(|watched| watched == self.watched);
        Ok(records.ledger == self.ledger
            && records.refused == self.refused
            && records.left == self.left
            && records.undecided == self.undecided
            && unwritable == self.unwritable
            && watched)
    }

    /// Gives up the claim, if there is one and no other operator has confirmed it since.
    pub async fn release(&self, uid: &str) -> Result<(), DbError> {
        let Ledger::Tables { store_id, .. } = self.ledger else { return Ok(()) };
        let confirmed = *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        self.database.within(ledger::release(&self.database, store_id, uid, confirmed)).await
    }

    /// Notes when it was seen whether lost heartbeats are to be held.
    pub fn note_heartbeats(&self, seen: Option<DateTime<Utc>>) {
        let mut last = self.heartbeats_seen.lock().unwrap_or_else(PoisonError::into_inner);
        *last = seen.max(*last);
    }

    /// The predicate of this store, for what [`Self::bring_in_force`] returned.
    pub fn judge<'a>(&'a self, in_force: &'a InForce) -> Judge<'a> {
        let rules = match self.ledger {
            Ledger::Tables { store_id, .. } => Rules::Table(store_id),
            Ledger::Missing(_) => Rules::Memory,
        };
        Judge {
            single_active_execution: self.single_active_execution,
            workloads: self.workloads,
            heartbeats_seen: *self.heartbeats_seen.lock().unwrap_or_else(PoisonError::into_inner),
            undecided: &self.undecided,
            ..Judge::new(&self.mapping, &in_force.compiled, rules, self.watched)
        }
    }
}

/// What to do about the store that claims the table.
fn claimed_by(holder: &Claimant) -> String {
    let Claimant { uid, namespace, name, .. } = holder;
    let remedy =
        format!("the ExecutionStore {namespace}/{name} looks after this table: delete it, or this one");
    if uid.is_empty() {
        // Nothing is recorded, so nothing can have come with a copy.
        return remedy;
    }
    format!(
        "{remedy}. If it is gone, its claim ends within ten minutes. If this database is a copy of the one that it looks after, its \
         claim came along: annotate this store with {ADOPT}=discard, or run `jobexec adopt --discard` on the database. That ends a claim \
         which nobody has confirmed for two and a half minutes, and drops the messages that came along; {ADOPT}=yes and `jobexec \
         adopt` have them delivered"
    )
}

/// How to log in, and which table that is, on which server.
fn login(store: &ExecutionStore, credentials: &Credentials) -> Result<(Login, String), NotReady> {
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
