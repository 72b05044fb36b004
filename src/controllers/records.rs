//! How the operator's tables stand for a store, and what follows from that for its session.

use chrono::{DateTime, Utc};
use kube::ResourceExt as _;

use super::session::{Before, NotReady};
use crate::api::ExecutionStore;
use crate::api::conditions::{ConditionType, find};
use crate::db::adopt::{self, Outcome};
use crate::db::ledger::{self, Claim, Claimant, Found, Ledger};
use crate::db::schema::Refusal;
use crate::db::validate::Problem;
use crate::db::{Database, Mapping, identity, own};

/// How the operator's tables stand.
pub(super) struct Records {
    /// Where what is done is recorded.
    pub(super) ledger: Ledger,
    /// Why they, which are there, are not used.
    pub(super) refused: Option<Refusal>,
    /// What is said of records that another table of this name has left behind, if there are any.
    pub(super) left: Option<String>,
    /// Since when the store has been looked at without a gap, as far as that is noted.
    pub(super) watched: Option<DateTime<Utc>>,
    /// When the claim was confirmed.
    pub(super) confirmed: Option<DateTime<Utc>>,
}

impl Records {
    /// There are none, for this reason.
    pub(super) fn none(why: String, now: Option<DateTime<Utc>>) -> Self {
        Self { ledger: Ledger::Missing(why), refused: None, left: None, watched: now, confirmed: now }
    }

    /// They are there and are not used.
    fn refused(refusal: Refusal, now: Option<DateTime<Utc>>) -> Self {
        Self { refused: Some(refusal.clone()), ..Self::none(refusal.why, now) }
    }

    /// Claims the table, once what a person asks to adopt is the store's, and says how they stand then.
    pub(super) async fn claim(
        database: &Database,
        mapping: &Mapping,
        claimant: &Claimant,
        before: &Before,
    ) -> Result<Self, NotReady> {
        if let Some(how) = before.adopt {
            let adopted = adopt::adopt(database, mapping, Some(claimant), how);
            match database.within(adopted).await? {
                Outcome::Done(adopted) => {
                    tracing::info!(store = claimant.name, "as a person asked: {}", adopted.told(how));
                }
                Outcome::Claimed(_) | Outcome::Nothing(_) => {}
            }
        }
        match database.within(ledger::claim(database, mapping, claimant, before.outage)).await? {
            Claim::Held { ledger, watched_since, confirmed, left } => Ok(Self {
                ledger,
                refused: None,
                left: (!left.is_empty()).then(|| identity::told(&left, mapping, &claimant.uid)),
                watched: Some(watched_since),
                confirmed: Some(confirmed),
            }),
            Claim::Refused { refusal, now } => Ok(Self::refused(refusal, Some(now))),
            Claim::Taken(holder) => Err(NotReady::TableClaimed(holder)),
        }
    }

    /// Says how they stand, without claiming the table.
    pub(super) async fn borrow(
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
                watched: known.watched_since,
                confirmed: None,
            }),
        }
    }

    /// Why rows are not to be changed, if these tables are why. Where the login may have recorded something there, an execution
    /// may have more time than is known.
    pub(super) fn hold_up(&self, recorded: bool) -> Option<Problem> {
        let refusal = self.refused.as_ref().filter(|refusal| refusal.owner_trusted || recorded)?;
        Some(Problem::Records(refusal.clone()))
    }
}

/// Why nothing is recorded on a server that takes no writes.
pub(super) const READ_ONLY: &str = "the database is read-only";

/// Whether the store's status says that what is done was recorded, or was held up by what is recorded.
pub(super) fn told_of_records(store: &ExecutionStore) -> bool {
    let conditions = store.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let held = |type_, status| find(conditions, type_).filter(|condition| condition.status == status);
    let (valid, paused) =
        (held(ConditionType::SchemaValid, "False"), held(ConditionType::EnforcementPaused, "True"));
    find(conditions, ConditionType::AuditAvailable).is_some_and(|recording| {
        // Unknown: it could not be looked at, which says nothing of what is there.
        recording.status != "False"
            || own::is_fault(&recording.reason)
            || recording.reason == identity::LEFT
            || valid.is_some_and(|valid| valid.reason == recording.reason)
            || paused.is_some_and(|paused| {
                paused.reason == recording.reason || paused.reason == "DatabaseReadOnly"
            })
    })
}

/// The store as it claims its table. `predecessor`: the UID of the object that had its name before.
pub(super) fn claimant(store: &ExecutionStore, predecessor: Option<String>) -> Claimant {
    Claimant {
        predecessor,
        uid: store.uid().unwrap_or_default(),
        namespace: store.namespace().unwrap_or_default(),
        name: store.name_any(),
    }
}
