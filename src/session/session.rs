//! An open connection to the database of one store, with everything that was learnt when it was opened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use kube::ResourceExt as _;

use crate::api::ExecutionStore;
use crate::db::hints::Listener;
use crate::db::judge::Rules;
use crate::db::ledger::{self, Ledger};
use crate::db::own::Fault;
use crate::db::schema::Refusal;
use crate::db::validate::{Problem, Validated, validate};
use crate::db::{Database, DbError, Judge, Layout, Mapping, Pools, extras, history};
use crate::metrics::Tally;
use crate::session::credentials::{Credentials, login};
use crate::session::not_ready::NotReady;
use crate::session::records::{Before, READ_ONLY, Records, claimant, told_of_records};
use crate::session::rules::{EffectiveRules, RulesCache};

/// How many connections a session has that is only asked now and then.
const BORROWED_POOL: u32 = 2;

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
    pub left: Option<crate::db::identity::Told>,
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
    follower: bool,
    /// The UID and the generation of the object that it describes.
    described: (Option<String>, Option<i64>),
    /// Which table it is, on which server: the same for two stores on one table.
    pub identity: String,
    /// What is in force.
    pub(crate) known: RulesCache,
    /// Where what is done is counted.
    pub tally: Arc<Tally>,
    /// Why the operator's tables, which are there, take no record, as far as that was met.
    pub(crate) fault: Mutex<Option<Fault>>,
}

/// What a session is opened for.
enum Hold {
    /// To look after the store: the table is claimed.
    Claim(Before),
    /// To read what another replica looks after.
    Follow,
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
    pub async fn open_follower(
        pools: &Pools,
        store: &ExecutionStore,
        credentials: &Credentials,
        tally: Arc<Tally>,
    ) -> Result<Self, NotReady> {
        let (login, identity) = login(store, credentials)?;
        let timeout = store.spec.connection.statement_timeout.get();
        let opening = async {
            let database = Database::shared(pools, &login, BORROWED_POOL, timeout).await?;
            Self::prepare(store, database, identity, tally, Hold::Follow).await
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
        let follower = matches!(hold, Hold::Follow);
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
            Hold::Follow => Records::look_up(store, &database, &mapping, read_only).await?,
        };
        let unwritable = unwritable.or_else(|| records.hold_up(recorded));
        let Records { ledger, refused, left, undecided, adopted, watched, confirmed } = records;
        let opened = match confirmed.filter(|_| !read_only) {
            Some(confirmed) => confirmed,
            None => database.within(ledger::now(&database)).await?,
        };
        let history = if follower {
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
            follower,
            described: (store.uid(), store.metadata.generation),
            identity,
            known: RulesCache::with_history(history),
            tally,
            fault: Mutex::default(),
        })
    }

    /// Whether another replica looks after the store.
    pub fn is_follower(&self) -> bool {
        self.follower
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
        if self.read_only && !self.follower {
            return Ok(validated.unwritable == self.unwritable);
        }
        let records = if self.follower {
            Records::look_up(store, &self.database, &self.mapping, self.read_only).await?
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

    /// The predicate of this store, for what [`Self::sync_rules`] returned.
    pub fn judge<'a>(&'a self, effective_rules: &'a EffectiveRules) -> Judge<'a> {
        let rules = match self.ledger {
            Ledger::Tables { store_id, .. } => Rules::Table(store_id),
            Ledger::Missing(_) => Rules::Memory,
        };
        Judge {
            single_active_execution: self.single_active_execution,
            workloads: self.workloads,
            heartbeats_seen: *self.heartbeats_seen.lock().unwrap_or_else(PoisonError::into_inner),
            undecided: &self.undecided,
            ..Judge::new(&self.mapping, &effective_rules.compiled, rules, self.watched)
        }
    }
}
