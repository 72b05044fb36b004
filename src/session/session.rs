//! An open connection to the database of one store, with everything that was learnt when it was opened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use kube::ResourceExt as _;

use crate::api::ExecutionStore;
use crate::db::change_notifier::Listener;
use crate::db::ledger::{self, Ledger};
use crate::db::own::Fault;
use crate::db::schema::Refusal;
use crate::db::staleness::Rules;
use crate::db::validate::{Problem, Validated, validate};
use crate::db::{Database, DbError, Layout, Mapping, Pools, StalenessPredicate, extras, history};
use crate::metrics::StoreCounters;
use crate::session::credentials::{Credentials, login};
use crate::session::not_ready::NotReady;
use crate::session::records::{Before, READ_ONLY, Records, claimant, told_of_records};
use crate::session::retry_budget::RetryBudget;
use crate::session::rules::{EffectiveRules, RulesCache};

/// The number of connections of a session that is used only occasionally.
const BORROWED_POOL: u32 = 2;

/// An open connection to the database of one store. It describes one generation of the store's spec.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Session {
    /// The database.
    pub database: Database,
    /// The table.
    pub mapping: Mapping,
    /// Set if executions of a job run one after the other: how long a later one must have run before an earlier one is
    /// stale.
    single_active_execution: Option<TimeDelta>,
    /// Set if workloads run the executions: how long a workload must be observed failed or gone.
    pub workloads: Option<TimeDelta>,
    /// Since when the store has been watched without a gap.
    watched: DateTime<Utc>,
    /// The time when the claim was last confirmed, by the clock of the database.
    confirmed: Mutex<DateTime<Utc>>,
    /// The time when it was last checked whether lost heartbeats must be held back, by the clock of the database.
    heartbeats_seen: Mutex<Option<DateTime<Utc>>>,
    /// The budget for retries.
    pub retry_budget: RetryBudget,
    /// The time when it was opened, by the clock of the database.
    pub opened: DateTime<Utc>,
    /// The place for audit records.
    pub ledger: Ledger,
    /// The reason why the operator's tables, which exist, are not used.
    pub refused: Option<Refusal>,
    /// The report on records that another table of this name has left behind, if there are any.
    pub left: Option<crate::db::identity::Told>,
    /// The ids of those records for which somebody must decide whether the time that they granted counts.
    undecided: Vec<i64>,
    /// The result of the request to adopt, from when the session was opened: `Err` says why it was not carried out.
    pub adopted: Option<Result<(), String>>,
    /// True if earlier audit records are known to exist.
    recorded: bool,
    /// The reason why rows cannot be changed, if they cannot.
    pub unwritable: Option<Problem>,
    /// The reason why no execution can be retried, although the table says how.
    pub unretryable: Option<Problem>,
    /// True if the server accepts no writes.
    pub read_only: bool,
    /// True if a trigger reports changes.
    notifies: bool,
    /// The listener for changes.
    hints: Option<Listener>,
    /// True if another replica manages the store: then nothing is claimed, and the rules in effect are only read.
    follower: bool,
    /// The UID and the generation of the object that it describes.
    described: (Option<String>, Option<i64>),
    /// The identity of the table and its server: equal for two stores on one table.
    pub identity: String,
    /// The rules in effect.
    pub(crate) known: RulesCache,
    /// The counters for what is done.
    pub counters: Arc<StoreCounters>,
    /// The reason why the operator's tables, which exist, accept no records, as far as the session has met a reason.
    pub(crate) fault: Mutex<Option<Fault>>,
}

/// The purpose of a session.
enum Hold {
    /// To manage the store: the table is claimed.
    Claim(Before),
    /// To read a store that another replica manages.
    Follow,
}

impl Session {
    /// Connects, validates the spec against the catalog and claims the table. `changed` is called when the table reports
    /// a change.
    pub async fn open(
        pools: &Pools,
        store: &ExecutionStore,
        before: Before,
        credentials: &Credentials,
        counters: Arc<StoreCounters>,
        changed: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, NotReady> {
        let spec = &store.spec;
        let (login, identity) = login(store, credentials)?;
        let size = u32::try_from(spec.connection.pool_size).unwrap_or(3).clamp(2, 20);
        let timeout = spec.connection.statement_timeout.get();
        let opening = async {
            let database = Database::shared(pools, &login, size, timeout).await?;
            Self::prepare(store, database, identity, counters, Hold::Claim(before)).await
        };
        let mut session = opening.await.map_err(|error: NotReady| error.without(&credentials.echoes()))?;
        session.adopted = session.adopted.map(|done| done.map_err(|why| credentials.echoes().without(why)));
        if session.notifies && !session.read_only {
            session.hints = Some(session.database.listen(extras::relation(&Layout::of(spec).table), changed));
        }
        Ok(session)
    }

    /// Connects to the database of a store that another replica manages, and validates the spec against the catalog.
    pub async fn open_follower(
        pools: &Pools,
        store: &ExecutionStore,
        credentials: &Credentials,
        counters: Arc<StoreCounters>,
    ) -> Result<Self, NotReady> {
        let (login, identity) = login(store, credentials)?;
        let timeout = store.spec.connection.statement_timeout.get();
        let opening = async {
            let database = Database::shared(pools, &login, BORROWED_POOL, timeout).await?;
            Self::prepare(store, database, identity, counters, Hold::Follow).await
        };
        opening.await.map_err(|error: NotReady| error.without(&credentials.echoes()))
    }

    /// Validates the spec against the catalog. Closes the database if it cannot be used.
    async fn prepare(
        store: &ExecutionStore,
        database: Database,
        identity: String,
        counters: Arc<StoreCounters>,
        hold: Hold,
    ) -> Result<Self, NotReady> {
        let prepared = Self::describe(store, database.clone(), identity, counters, hold).await;
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
        counters: Arc<StoreCounters>,
        hold: Hold,
    ) -> Result<Self, NotReady> {
        let Validated { mapping, unwritable, unretryable, read_only, notifies } =
            database.within(validate(&database, &Layout::of(&store.spec))).await??;
        let (spec, follower) = (&store.spec, matches!(hold, Hold::Follow));
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
            single_active_execution: spec
                .single_active_execution
                .as_ref()
                .map(|s| s.grace_period.to_chrono()),
            workloads: spec.workloads.as_ref().map(|w| w.grace_period.to_chrono()),
            watched: watched.unwrap_or(opened),
            confirmed: Mutex::new(confirmed.unwrap_or(opened)),
            heartbeats_seen: Mutex::new(None),
            retry_budget: RetryBudget::of(&spec.retry),
            opened,
            ledger,
            refused,
            left,
            undecided,
            adopted,
            recorded,
            unwritable,
            unretryable,
            read_only,
            notifies,
            hints: None,
            follower,
            described: (store.uid(), store.metadata.generation),
            identity,
            known: RulesCache::with_history(history),
            counters,
            fault: Mutex::default(),
        })
    }

    /// Reports whether another replica manages the store.
    pub fn is_follower(&self) -> bool {
        self.follower
    }

    /// Reports whether rows can be changed and recorded without restriction.
    pub fn whole(&self) -> bool {
        let recorded = matches!(self.ledger, Ledger::Tables { .. }) && self.fault().is_none();
        self.unwritable.is_none() && !self.read_only && recorded
    }

    /// Reports whether it describes this object with its current spec.
    pub fn describes(&self, store: &ExecutionStore) -> bool {
        self.described == (store.uid(), store.metadata.generation)
    }

    /// Confirms the claim, and checks again what may have changed unnoticed: columns, permissions, the operator's tables,
    /// a standby that was promoted. Returns whether everything is unchanged.
    pub async fn still_holds(&self, store: &ExecutionStore) -> Result<bool, NotReady> {
        if self.read_only {
            // It may be a setting of the role or the database, which takes effect at login.
            self.database.reconnect();
        }
        let validated = self.database.within(validate(&self.database, &Layout::of(&store.spec))).await??;
        if validated.mapping != self.mapping
            || validated.unretryable != self.unretryable
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
        // Without audit tables there is no record of how long the table has been watched. With them, the operator itself
        // may have been interrupted, as on a machine that slept.
        let watched = matches!(records.ledger, Ledger::Missing(_))
            || records.watched.is_none_or(|watched| watched == self.watched);
        Ok(records.ledger == self.ledger
            && records.refused == self.refused
            && records.left == self.left
            && records.undecided == self.undecided
            && unwritable == self.unwritable
            && watched)
    }

    /// Releases the claim, if there is one and no other operator has confirmed it since.
    pub async fn release(&self, uid: &str) -> Result<(), DbError> {
        let Ledger::Tables { store_id, .. } = self.ledger else { return Ok(()) };
        let confirmed = *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        self.database.within(ledger::release(&self.database, store_id, uid, confirmed)).await
    }

    /// Records when it was checked whether lost heartbeats must be held back.
    pub fn note_heartbeats(&self, seen: Option<DateTime<Utc>>) {
        let mut last = self.heartbeats_seen.lock().unwrap_or_else(PoisonError::into_inner);
        *last = seen.max(*last);
    }

    /// The predicate of this store, for the rules that [`Self::sync_rules`] returned.
    pub fn predicate<'a>(&'a self, effective_rules: &'a EffectiveRules) -> StalenessPredicate<'a> {
        let rules = match self.ledger {
            Ledger::Tables { store_id, .. } => Rules::Table(store_id),
            Ledger::Missing(_) => Rules::Memory,
        };
        StalenessPredicate {
            single_active_execution: self.single_active_execution,
            workloads: self.workloads,
            heartbeats_seen: *self.heartbeats_seen.lock().unwrap_or_else(PoisonError::into_inner),
            undecided: &self.undecided,
            retries: self.retry_budget.limits(self.unretryable.is_none()),
            ..StalenessPredicate::new(&self.mapping, &effective_rules.compiled, rules, self.watched)
        }
    }
}
