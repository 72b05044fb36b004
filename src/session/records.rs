//! How the operator's tables stand for a store, and what follows from that for its session.

use chrono::{DateTime, Utc};
use kube::ResourceExt as _;

use crate::api::ExecutionStore;
use crate::api::conditions::{ConditionType, find};
use crate::db::adopt::{self, How, Outcome};
use crate::db::ledger::{self, Claim, Claimant, Found, Ledger};
use crate::db::schema::Refusal;
use crate::db::validate::Problem;
use crate::db::{Database, Mapping, identity, own};
use crate::session::not_ready::NotReady;

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

/// How the operator's tables stand.
pub(crate) struct Records {
    /// Where what is done is recorded.
    pub(crate) ledger: Ledger,
    /// Why they, which are there, are not used.
    pub(crate) refused: Option<Refusal>,
    /// What is said of records that another table of this name has left behind, if there are any.
    pub(crate) left: Option<identity::Told>,
    /// Those of them of which a person has to say whether what was granted in them counts.
    pub(crate) undecided: Vec<i64>,
    /// What came of what a person asks to adopt: `Err` says why it was not carried out.
    pub(crate) adopted: Option<Result<(), String>>,
    /// Since when the store has been looked at without a gap, as far as that is noted.
    pub(crate) watched: Option<DateTime<Utc>>,
    /// When the claim was confirmed.
    pub(crate) confirmed: Option<DateTime<Utc>>,
}

impl Records {
    /// There are none, for this reason.
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

    /// They are there and are not used.
    fn refused(refusal: Refusal, now: Option<DateTime<Utc>>) -> Self {
        Self { refused: Some(refusal.clone()), ..Self::none(refusal.why, now) }
    }

    /// Claims the table, once what a person asks to adopt is the store's, and says how they stand then.
    pub(crate) async fn claim(
        database: &Database,
        mapping: &Mapping,
        claimant: &Claimant,
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

    /// Says how they stand, without claiming the table.
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

    /// Why rows are not to be changed, if these tables are why. Where the login may have recorded something there, an execution
    /// may have more time than is known.
    pub(crate) fn hold_up(&self, recorded: bool) -> Option<Problem> {
        let refusal = self.refused.as_ref().filter(|refusal| refusal.owner_trusted || recorded)?;
        Some(Problem::Records(refusal.clone()))
    }
}

/// Adopts what a person asks for. That it fails is no reason not to look after the table: it is told, and tried again.
async fn carry_out(
    database: &Database,
    mapping: &Mapping,
    claimant: &Claimant,
    how: How,
) -> Result<(), String> {
    let outcome = database.within(adopt::adopt(database, mapping, Some(claimant), how)).await;
    let why = match outcome {
        Ok(Outcome::Done(adopted)) => {
            tracing::info!(store = claimant.name, "as a person asked: {}", adopted.told(how));
            // What has stayed is said as long as it is there; what comes later nobody has asked for.
            return Ok(());
        }
        Ok(Outcome::Claimed(Claimant { namespace, name, .. })) => {
            format!("the ExecutionStore {namespace}/{name} looks after the table")
        }
        Ok(Outcome::Nothing(why)) => why.unwrap_or_else(|| "nothing is recorded of this table".to_owned()),
        Err(error) => error.to_string(),
    };
    tracing::warn!(store = claimant.name, why, "what a person asked to adopt was not carried out");
    Err(why)
}

/// Why nothing is recorded on a server that takes no writes.
pub(crate) const READ_ONLY: &str = "the database is read-only";

/// Whether the store's status says that what is done was recorded, or was held up by what is recorded.
pub(crate) fn told_of_records(store: &ExecutionStore) -> bool {
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
pub(crate) fn claimant(store: &ExecutionStore, predecessor: Option<String>) -> Claimant {
    Claimant {
        predecessor,
        uid: store.uid().unwrap_or_default(),
        namespace: store.namespace().unwrap_or_default(),
        name: store.name_any(),
    }
}
