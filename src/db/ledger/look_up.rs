//! The records of a table of executions, for callers that claim nothing.

use chrono::{DateTime, Utc};

use super::availability::Ledger;
use super::record::{
    Entered, GAP_SECONDS, HIDDEN, Registered, WATCHED_SINCE, enter, left_behind, of_the_table, registered,
    seen_within, unnumbered,
};
use super::store_identity::StoreIdentity;
use crate::db::mapping::clamp_timestamp;
use crate::db::schema::{self, Refusal};
use crate::db::{Database, DbError, Mapping, identity, outbox};

/// Returns the place to record what a person does to the table, whether or not an operator manages it. Claims nothing.
pub async fn register(database: &Database, mapping: &Mapping) -> Result<Ledger, DbError> {
    if let Some(lack) = schema::lacking(database, mapping.schema_owner()).await? {
        return Ok(Ledger::Missing(lack.why().to_owned()));
    }
    let mut tx = database.write().await?;
    if enter(&mut tx, mapping).await? == Entered::Hidden {
        return Ok(Ledger::Missing(HIDDEN.to_owned()));
    }
    let Some(Registered { store_id, .. }) = registered(&mut tx, mapping).await? else {
        tx.rollback().await?;
        return Ok(Ledger::Missing(unnumbered()));
    };
    let outbox = outbox::usable(&mut tx).await?;
    tx.commit().await?;
    Ok(Ledger::Tables { store_id, outbox })
}

/// The record of a table of executions in the operator's tables.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Known {
    /// The id of the table in the operator's tables.
    pub store_id: i64,
    /// The UID of the store that manages it.
    pub uid: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// The time since which it has been observed without a gap; `None`: no operator observes it at present, so that evidence of
    /// life counts from now on.
    pub watched_since: Option<DateTime<Utc>>,
    /// The last recorded name of the table, if it differs from the present one.
    was: Option<String>,
    /// True if there is an outbox that this login may write to.
    #[sqlx(skip)]
    pub outbox: bool,
    /// The records of other tables or stores in which people gave executions more time that have no extension in the table's own
    /// record: those executions are left alone.
    #[sqlx(skip)]
    pub undecided: Vec<i64>,
}

impl Known {
    /// Returns the store that manages the table, if there is one.
    pub fn claimant(&self) -> Option<StoreIdentity> {
        Some(StoreIdentity {
            uid: self.uid.clone()?,
            predecessor: None,
            namespace: self.namespace.clone()?,
            name: self.name.clone()?,
        })
    }
}

/// The result of looking up a table without claiming it.
#[derive(Clone, Debug)]
pub enum Found {
    /// The table has a record.
    Known(Known),
    /// The operator's tables do not exist, or have no record of the table that this login may see.
    Nothing,
    /// The operator's tables exist and are not used, for this reason.
    Refused(Refusal),
}

/// Looks up the record of the table.
pub async fn look_up(database: &Database, mapping: &Mapping) -> Result<Found, DbError> {
    let (table_schema, table_name) = mapping.relation();
    if let Some(refusal) = schema::refused(database, mapping.schema_owner()).await? {
        return Ok(Found::Refused(refusal));
    }
    let mut tx = database.read().await?;
    let there: bool = sqlx::query_scalar(
        "SELECT to_regclass('jobexec.stores') IS NOT NULL AND to_regclass('jobexec.rules') IS NOT NULL",
    )
    .persistent(false)
    .fetch_one(&mut *tx)
    .await?;
    if !there {
        return Ok(Found::Nothing);
    }
    let sql = format!(
        include_str!("look_up.sql"),
        confirmed = seen_within("$3"),
        watched_since = clamp_timestamp(&format!("({WATCHED_SINCE})")),
        of_the_table = of_the_table(),
    );
    let known: Option<Known> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(table_schema)
        .bind(table_name)
        .bind(GAP_SECONDS)
        .persistent(false)
        .fetch_optional(&mut *tx)
        .await?;
    let left = left_behind(&mut tx, mapping, known.as_ref().map(|known| known.store_id)).await?;
    let refusal = match &known {
        None => identity::undecided(&left, mapping),
        Some(known) => known.was.as_ref().and_then(|was| identity::contradiction(&left, was, mapping)),
    };
    if let Some(refusal) = refusal {
        return Ok(Found::Refused(refusal));
    }
    let Some(known) = known else { return Ok(Found::Nothing) };
    let outbox = outbox::usable(&mut tx).await?;
    let uid = known.uid.as_deref().unwrap_or_default();
    let granting = identity::granting(&mut tx, mapping, Some(known.store_id), uid).await?;
    tx.commit().await?;
    let open = granting.iter().filter(|granting| granting.open);
    let undecided = open.map(|granting| granting.store_id).collect();
    Ok(Found::Known(Known { outbox, undecided, ..known }))
}

/// Returns the database's time.
pub async fn now(database: &Database) -> Result<DateTime<Utc>, DbError> {
    let mut tx = database.read().await?;
    let now =
        sqlx::query_scalar("SELECT statement_timestamp()").persistent(false).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(now)
}
