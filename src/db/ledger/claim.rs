//! The claim of a store to manage a table of executions, which its operator confirms.

use chrono::{DateTime, Utc};

use super::availability::Ledger;
use super::look_up::now;
use super::owner::OWNER;
use super::record::{
    Entered, GAP_SECONDS, HIDDEN, Registered, WATCHED_SINCE, enter, left_behind, of_the_table, registered,
    seen_within, unnumbered,
};
use super::store_identity::StoreIdentity;
use crate::db::granted::SOURCE;
use crate::db::identity::{self, Left};
use crate::db::mapping::clamp_timestamp;
use crate::db::schema::{self, Lack, Refusal};
use crate::db::{Database, DbError, Mapping, outbox};

/// The result of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The table is the claimant's.
    Held {
        /// The place where actions are recorded.
        ledger: Ledger,
        /// The time since which the store has been observed without a gap, by the database's clock.
        watched_since: DateTime<Utc>,
        /// The time of the confirmation, by the same clock.
        confirmed: DateTime<Utc>,
        /// The records of other tables that were last known by the name of this one.
        left: Vec<Left>,
        /// All such records in which people granted something: executions that the table's own record does not extend are left
        /// alone.
        undecided: Vec<i64>,
    },
    /// Another `ExecutionStore` manages the table.
    Taken(StoreIdentity),
    /// The operator's tables exist and are not used: nothing is claimed.
    Refused {
        /// The reason.
        refusal: Refusal,
        /// The database's time.
        now: DateTime<Utc>,
    },
}

/// Claims the table for `claimant`, or confirms its claim, and creates the operator's tables if that is needed and allowed. The
/// claim of another store counts until it is released or not confirmed for ten minutes; the claim of an earlier store of the same
/// name, only as long as it is confirmed. `outage`: the database was unavailable, so evidence of life counts from now on.
pub async fn claim(
    database: &Database,
    mapping: &Mapping,
    claimant: &StoreIdentity,
    outage: bool,
) -> Result<Claim, DbError> {
    match schema::ensure(database, mapping.schema_owner()).await? {
        None => {}
        Some(Lack::Missing(why)) => return unrecorded(database, mapping, why).await,
        Some(Lack::Refused(refusal)) => {
            return Ok(Claim::Refused { refusal, now: now(database).await? });
        }
    }
    let mut tx = database.write().await?;
    if enter(&mut tx, mapping).await? == Entered::Hidden {
        tx.rollback().await?;
        return Ok(missing(HIDDEN.to_owned(), now(database).await?));
    }
    let Some(Registered { store_id, holder, was, watched }) = registered(&mut tx, mapping).await? else {
        tx.rollback().await?;
        return unrecorded(database, mapping, unnumbered()).await;
    };
    let left = left_behind(&mut tx, mapping, Some(store_id)).await?;
    if let Some(was) = &was
        && let Some(refusal) = identity::contradiction(&left, was, mapping)
    {
        tx.rollback().await?;
        return Ok(Claim::Refused { refusal, now: now(database).await? });
    }
    if let Some(holder) = holder.filter(|holder| !holder.gives_way_to(claimant)) {
        return Ok(Claim::Taken(holder.claimant));
    }
    let (watched_since, confirmed) = confirm(&mut tx, mapping, store_id, claimant, outage).await?;
    let granting = identity::granting(&mut tx, mapping, Some(store_id), &claimant.uid).await?;
    let from = identity::to_keep_from(&left, &granting, &claimant.uid, !watched || was.is_some());
    identity::keep(&mut tx, mapping, store_id, &from).await?;
    let outbox = outbox::usable(&mut tx).await?;
    tx.commit().await?;
    let undecided = granting.iter().map(|granting| granting.store_id).collect();
    let ledger = Ledger::Tables { store_id, outbox };
    Ok(Claim::Held { ledger, watched_since, confirmed, left, undecided })
}

/// Returns the claim of a table for which nothing can be recorded, for this reason.
fn missing(why: String, now: DateTime<Utc>) -> Claim {
    Claim::Held {
        ledger: Ledger::Missing(why),
        watched_since: now,
        confirmed: now,
        left: Vec::new(),
        undecided: Vec::new(),
    }
}

/// Returns the result of a claim if nothing can be recorded for the table. The claim is refused if an extension of an execution is
/// recorded. If that cannot be read, the refusal takes effect only if the store has recorded before.
async fn unrecorded(database: &Database, mapping: &Mapping, why: String) -> Result<Claim, DbError> {
    let now = now(database).await?;
    Ok(match extended(database, mapping).await? {
        Some(false) => missing(why, now),
        found => {
            let refusal = Refusal { reason: "TablesMissing", why, owner_trusted: found.is_some() };
            Claim::Refused { refusal, now }
        }
    })
}

/// Reports whether a person has given an execution of this table, or of a table by its name, more time, which is recorded nowhere
/// else; `None`: this login may not read it.
async fn extended(database: &Database, mapping: &Mapping) -> Result<Option<bool>, DbError> {
    let (table_schema, table_name) = mapping.relation();
    let mut tx = database.read().await?;
    let (there, readable): (bool, bool) =
        sqlx::query_as(include_str!("readable.sql")).persistent(false).fetch_one(&mut *tx).await?;
    if !there {
        return Ok(Some(false));
    }
    if !readable {
        return Ok(None);
    }
    let sql = format!(include_str!("extended.sql"), of_the_table = of_the_table());
    let found = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(table_schema)
        .bind(table_name)
        .bind(format!("{SOURCE}%"))
        .persistent(false)
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(Some(found))
}

/// Writes the claim. Returns the time since which the table has been observed without a gap, and the present time.
async fn confirm(
    tx: &mut sqlx::PgConnection,
    mapping: &Mapping,
    store_id: i64,
    claimant: &StoreIdentity,
    outage: bool,
) -> Result<(DateTime<Utc>, DateTime<Utc>), sqlx::Error> {
    let (table_schema, table_name) = mapping.relation();
    let sql = format!(
        include_str!("claim.sql"),
        table_owner = OWNER,
        confirmed = seen_within("$8"),
        watched_since = WATCHED_SINCE,
        watched_since_read = clamp_timestamp("watched_since"),
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(table_schema)
        .bind(table_name)
        .bind(store_id)
        .bind(&claimant.uid)
        .bind(&claimant.namespace)
        .bind(&claimant.name)
        .bind(outage)
        .bind(GAP_SECONDS)
        .persistent(false)
        .fetch_one(tx)
        .await
}

/// Releases the claim of the store with this UID, unless it was confirmed after `confirmed`: then another operator manages the
/// store by now.
pub async fn release(
    database: &Database,
    store_id: i64,
    uid: &str,
    confirmed: DateTime<Utc>,
) -> Result<(), DbError> {
    let mut tx = database.write().await?;
    sqlx::query(include_str!("release.sql"))
        .bind(uid)
        .bind(confirmed)
        .bind(store_id)
        .persistent(false)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}
