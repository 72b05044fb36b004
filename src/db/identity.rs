//! Finds the record of a table. The table's oid identifies it, so a rename changes nothing. After a dump and restore, or if a table
//! was rebuilt beside the old one and took its name, only the name is unchanged: the store reports such a record as left behind,
//! and takes it over on request ([`super::adopt`]). If oid and name lead to two records that are in use, neither counts.

mod granted;
mod told;

use std::collections::BTreeMap;
use std::fmt;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

pub(super) use self::granted::{copy, extended_elsewhere, granting, keep, to_keep_from};
pub use self::told::{Told, is_for_a_person, left_alone, told};
pub(super) use self::told::{contradiction, undecided};
use super::granted::{SOURCE, granted_in};
use super::ledger::{OWNER, StoreIdentity};
use super::server_text::line;
use super::{Mapping, outbox};

/// The reason of the condition `AuditAvailable` if records of a table by this name are left behind.
pub const LEFT: &str = "RecordsLeft";

/// The reason if oid and name lead to two records.
const CONTRADICT: &str = "RecordsContradict";

/// The maximum number of records that are read: first those in which people granted something, then the newest.
const MOST: i64 = 10;

/// The maximum number of messages and events of a record that are counted.
pub(super) const COUNTED: i64 = 1000;

/// The record of another table, whose last known name is the one that this table has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its number.
    pub store_id: i64,
    /// The store that claims it.
    pub claimant: Option<StoreIdentity>,
    /// True if the claim was confirmed recently.
    pub confirmed: bool,
    /// The present name of its table; `None` if the table is gone or the record is from a dump.
    pub now_called: Option<String>,
    /// True if it comes from a dump.
    pub dumped: bool,
    /// True if the role that owned its table also owns the table that has the name now.
    pub same_owner: bool,
    /// The number of executions to which a person gave more time in it.
    pub extended: i64,
    /// The number of its messages and events that are still to be delivered, counted up to one more than 1,000.
    pub undelivered: i64,
}

impl Left {
    /// Reports whether its table exists and a store manages it: then the record is as valid as the one of the oid.
    fn is_in_use(&self) -> bool {
        self.now_called.is_some() && self.claimant.is_some()
    }

    /// Reports whether the time that people granted in it counts without a question for the store with this UID: nobody else can
    /// have written the record, at least not since the dump.
    fn is_trusted(&self, uid: &str) -> bool {
        is_trusted(
            self.dumped,
            self.same_owner,
            self.claimant.as_ref().map(|claimant| claimant.uid.as_str()),
            uid,
        )
    }
}

/// Reports whether nobody but the store with the UID `uid` can have written a record that is from a dump, whose table has the same
/// owner, or that belongs to the store with the UID `its`.
fn is_trusted(dumped: bool, same_owner: bool, its: Option<&str>, uid: &str) -> bool {
    dumped || same_owner && its == Some(uid)
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {}", self.store_id)?;
        if let Some(StoreIdentity { namespace, name, .. }) = &self.claimant {
            write!(f, " of the ExecutionStore {namespace}/{name}")?;
        }
        match &self.now_called {
            Some(name) => write!(f, " (its table is called {name} now"),
            None if self.dumped => write!(f, " (from a dump"),
            None => write!(f, " (its table is gone"),
        }?;
        match self.extended {
            0 => write!(f, ")"),
            some => write!(f, "; {some} executions were extended by hand)"),
        }
    }
}

/// A record: its number, the UID, namespace and name of the store that claims it, whether the claim is fresh, the name of its
/// table, whether it is from a dump, whether the owner is the same, and how many executions were extended.
type Row = (i64, Option<String>, Option<String>, Option<String>, bool, Option<String>, bool, bool, i64);

/// Returns the records of tables other than that of `store_id` whose last known name is the one that this table has now. `fresh` is
/// the condition that a claim was confirmed within the last `$4` seconds.
pub(super) async fn left(
    tx: &mut PgConnection,
    mapping: &Mapping,
    store_id: Option<i64>,
    fresh: &str,
    seconds: f64,
) -> Result<Vec<Left>, sqlx::Error> {
    let (schema, name) = mapping.relation();
    let sql = format!(
        include_str!("identity/left.sql"),
        confirmed = fresh,
        table_owner = OWNER,
        granted = granted_in("rule", "$5"),
        limit = MOST,
    );
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(schema)
        .bind(name)
        .bind(store_id)
        .bind(seconds)
        .bind(format!("{SOURCE}%"))
        .persistent(false)
        .fetch_all(&mut *tx)
        .await?;
    let undelivered = undelivered(tx, &rows.iter().map(|row| row.0).collect::<Vec<_>>()).await?;
    let left =
        |(store_id, uid, namespace, name, confirmed, now_called, dumped, same_owner, extended): Row| {
            let claimant = match (uid, namespace, name) {
                (Some(uid), Some(namespace), Some(name)) => {
                    Some(StoreIdentity { uid, predecessor: None, namespace, name })
                }
                _ => None,
            };
            let undelivered = undelivered.get(&store_id).copied().unwrap_or_default();
            Left { store_id, claimant, confirmed, now_called, dumped, same_owner, extended, undelivered }
        };
    Ok(rows.into_iter().map(left).collect())
}

/// Returns how many messages and events of these records are still to be delivered, if this login can find out. It is only
/// reported, so a failure to count them is not an error.
async fn undelivered(tx: &mut PgConnection, records: &[i64]) -> Result<BTreeMap<i64, i64>, sqlx::Error> {
    if records.is_empty() || !outbox::usable(tx).await? {
        return Ok(BTreeMap::new());
    }
    let sql = format!(include_str!("identity/undelivered.sql"), limit = COUNTED);
    let mut savepoint = tx.begin().await?;
    let counts: Result<Vec<(i64, i64)>, sqlx::Error> =
        sqlx::query_as(AssertSqlSafe(sql)).bind(records).persistent(false).fetch_all(&mut *savepoint).await;
    match counts {
        Ok(counts) => {
            savepoint.commit().await?;
            Ok(counts.into_iter().collect())
        }
        Err(error) if error.as_database_error().is_some() => {
            savepoint.rollback().await?;
            let error = line(&error.to_string());
            tracing::warn!(error, "messages that other records have still to deliver could not be counted");
            Ok(BTreeMap::new())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn left(uid: Option<&str>, now_called: Option<&str>, dumped: bool) -> Left {
        let claimant = uid.map(|uid| StoreIdentity {
            uid: uid.into(),
            predecessor: None,
            namespace: "prod".into(),
            name: "jobs".into(),
        });
        let now_called = now_called.map(str::to_owned);
        Left {
            store_id: 3,
            claimant,
            confirmed: false,
            now_called,
            dumped,
            same_owner: true,
            extended: 2,
            undelivered: 0,
        }
    }

    #[test]
    fn two_records_that_are_in_use_contradict_each_other_and_others_do_not() {
        assert!(left(Some("a"), Some("app.old"), false).is_in_use());
        assert!(!left(None, Some("app.old"), false).is_in_use(), "it was given up");
        assert!(!left(Some("a"), None, false).is_in_use(), "its table is gone");
        assert!(!left(Some("a"), None, true).is_in_use());
    }

    #[test]
    fn what_anybody_may_have_written_counts_on_request_only() {
        assert!(left(Some("a"), None, false).is_trusted("a"));
        assert!(left(Some("a"), Some("app.old"), false).is_trusted("a"));
        assert!(left(Some("a"), None, true).is_trusted("b"), "nobody could write it since the dump");
        assert!(!left(Some("a"), None, false).is_trusted("b"));
        assert!(!left(None, None, false).is_trusted("b"));
        let of_anothers_table = Left { same_owner: false, ..left(Some("a"), None, false) };
        assert!(!of_anothers_table.is_trusted("a"), "whoever owned that table may have written it");
    }

    #[test]
    fn what_became_of_its_table_is_told() {
        let texts = [(None, false), (None, true), (Some("app.old"), false)]
            .map(|(now, dumped)| left(Some("a"), now, dumped).to_string());
        assert!(
            texts[0].contains("its table is gone") && texts[0].contains("ExecutionStore prod/jobs"),
            "{texts:?}"
        );
        assert!(texts[1].contains("from a dump") && texts[2].contains("is called app.old now"), "{texts:?}");
        assert!(texts.iter().all(|text| text.contains("2 executions were extended by hand")), "{texts:?}");
    }
}
