//! The state of the operator's tables for a store, and its effects on the session.

use chrono::{DateTime, Utc};
use kube::ResourceExt as _;

use crate::api::ExecutionStore;
use crate::api::conditions::{ConditionType, find};
use crate::db::adopt::{self, How, Outcome};
use crate::db::ledger::{self, Claim, Found, Ledger, StoreIdentity};
use crate::db::schema::Refusal;
use crate::db::validate::Problem;
use crate::db::{Database, Mapping, identity, own};
use crate::session::not_ready::NotReady;

/// The history of a store before a session.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// The UID of an earlier object with the store's name, if one is known.
    pub predecessor: Option<String>,
    /// True if the database was unreachable until now.
    pub outage: bool,
    /// True if a session of this store has written audit records.
    pub recorded: bool,
    /// The requested way to adopt what another store has left.
    pub adopt: Option<How>,
}

/// The state of the operator's tables.
pub(crate) struct Records {
    /// The place for audit records.
    pub(crate) ledger: Ledger,
    /// The reason why the tables, which exist, are not used.
    pub(crate) refused: Option<Refusal>,
    /// The report on records that another table of this name has left behind, if there are any.
    pub(crate) left: Option<identity::Told>,
    /// The ids of those records for which somebody must decide whether the time that they granted counts.
    pub(crate) undecided: Vec<i64>,
    /// The result of the request to adopt: `Err` says why it was not carried out.
    pub(crate) adopted: Option<Result<(), String>>,
    /// Since when the store has been watched without a gap, as far as that is recorded.
    pub(crate) watched: Option<DateTime<Utc>>,
    /// The time when the claim was confirmed.
    pub(crate) confirmed: Option<DateTime<Utc>>,
}

impl Records {
    /// The state without any tables, for this reason.
    pub(crate) fn none(why: String, now: Option<DateTime<Utc>>) -> Self {
        Self {
            ledger: Ledger::Missing(why),
            refused: None,
            left: None,
            undecided: Vec::new(),
            adopted: None,
            watched: now,
            confirmed: now,
        }
    }

    /// The state with tables that exist and are not used.
    fn refused(refusal: Refusal, now: Option<DateTime<Utc>>) -> Self {
        Self { refused: Some(refusal.clone()), ..Self::none(refusal.why, now) }
    }

    /// Claims the table after the requested adoption, and returns the state after that.
    pub(crate) async fn claim(
        database: &Database,
        mapping: &Mapping,
        claimant: &StoreIdentity,
        before: &Before,
    ) -> Result<Self, NotReady> {
        let adopted = match before.adopt {
            Some(how) => Some(carry_out(database, mapping, claimant, how).await),
            None => None,
        };
        let records = match database.within(ledger::claim(database, mapping, claimant, before.outage)).await?
        {
            Claim::Held { ledger, watched_since, confirmed, left, undecided } => Self {
                ledger,
                refused: None,
                left: identity::told(&left, mapping, &claimant.uid),
                undecided,
                adopted: None,
                watched: Some(watched_since),
                confirmed: Some(confirmed),
            },
            Claim::Refused { refusal, now } => Self::refused(refusal, Some(now)),
            Claim::Taken(holder) => return Err(NotReady::TableClaimed(holder)),
        };
        Ok(Self { adopted, ..records })
    }

    /// Returns the state without claiming the table.
    pub(crate) async fn look_up(
        store: &ExecutionStore,
        database: &Database,
        mapping: &Mapping,
        read_only: bool,
    ) -> Result<Self, NotReady> {
        if read_only {
            return Ok(Self::none(READ_ONLY.to_owned(), None));
        }
        let known = match database.within(ledger::look_up(database, mapping)).await? {
            Found::Known(known) => known,
            Found::Nothing => return Ok(Self::none("the schema jobexec is not there".to_owned(), None)),
            Found::Refused(refusal) => return Ok(Self::refused(refusal, None)),
        };
        match known.claimant() {
            Some(holder)
                if holder.uid != store.uid().unwrap_or_default() && known.watched_since.is_some() =>
            {
                Err(NotReady::TableClaimed(holder))
            }
            _ => Ok(Self {
                ledger: Ledger::Tables { store_id: known.store_id, outbox: known.outbox },
                refused: None,
                left: None,
                undecided: known.undecided,
                adopted: None,
                watched: known.watched_since,
                confirmed: None,
            }),
        }
    }

    /// The reason not to change rows, if these tables are the reason. If the login may have recorded something there, an
    /// execution may have more time than is known.
    pub(crate) fn hold_up(&self, recorded: bool) -> Option<Problem> {
        let refusal = self.refused.as_ref().filter(|refusal| refusal.owner_trusted || recorded)?;
        Some(Problem::Records(refusal.clone()))
    }
}

/// Carries out the requested adoption. A failure does not prevent the store from being managed: it is reported and tried
/// again.
async fn carry_out(
    database: &Database,
    mapping: &Mapping,
    claimant: &StoreIdentity,
    how: How,
) -> Result<(), String> {
    let outcome = database.within(adopt::adopt(database, mapping, Some(claimant), how)).await;
    let why = match outcome {
        Ok(Outcome::Done(adopted)) => {
            tracing::info!(store = claimant.name, "as a person asked: {}", adopted.told(how));
            // The condition reports what is left over for as long as it exists. The request does not cover what comes
            // later.
            return Ok(());
        }
        Ok(Outcome::Claimed(StoreIdentity { namespace, name, .. })) => {
            format!("the ExecutionStore {namespace}/{name} looks after the table")
        }
        Ok(Outcome::Nothing(why)) => why.unwrap_or_else(|| "nothing is recorded of this table".to_owned()),
        Err(error) => error.to_string(),
    };
    tracing::warn!(store = claimant.name, why, "what a person asked to adopt was not carried out");
    Err(why)
}

/// The reason why nothing is recorded on a server that accepts no writes.
pub(crate) const READ_ONLY: &str = "the database is read-only";

/// Reports whether the store's status shows that audit records were written, or that such records paused enforcement.
pub(crate) fn told_of_records(store: &ExecutionStore) -> bool {
    let conditions = store.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let held = |type_, status| find(conditions, type_).filter(|condition| condition.status == status);
    let (valid, paused) =
        (held(ConditionType::SchemaValid, "False"), held(ConditionType::EnforcementPaused, "True"));
    find(conditions, ConditionType::AuditAvailable).is_some_and(|recording| {
        // `Unknown` means that it could not be checked, which says nothing about existing records.
        recording.status != "False"
            || own::is_fault(&recording.reason)
            || recording.reason == identity::LEFT
            || valid.is_some_and(|valid| valid.reason == recording.reason)
            || paused.is_some_and(|paused| {
                paused.reason == recording.reason || paused.reason == "DatabaseReadOnly"
            })
    })
}

/// The store as the claimant of its table. `predecessor`: the UID of an earlier object with its name.
pub(crate) fn claimant(store: &ExecutionStore, predecessor: Option<String>) -> StoreIdentity {
    StoreIdentity {
        predecessor,
        uid: store.uid().unwrap_or_default(),
        namespace: store.namespace().unwrap_or_default(),
        name: store.name_any(),
    }
}
