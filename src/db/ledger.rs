//! The operator's own tables, as far as they are there: who looks after which table, what was done. A table of executions is
//! found by its oid ([`super::identity`]), and times that have not come yet are taken for no times.

pub mod announcements;
pub mod breaker;
mod claim;

use chrono::{DateTime, Utc};

use super::identity::{self, Left};
use super::mapping::wire;
use super::own::Fault;
use super::schema::{self, Refusal};
use super::{Database, DbError, Mapping, outbox};
pub(super) use claim::Holder;
pub use claim::{Claim, claim, release};

/// How long a claim holds that its operator no longer confirms.
const CLAIM_EXPIRY_SECONDS: f64 = 600.0;

/// A claim that was not confirmed for so long was not held without a gap: two confirmations may be missed.
pub(super) const GAP_SECONDS: f64 = 150.0;

/// The oid of the table whose schema is `$1` and whose name is `$2`.
pub(super) const TABLE: &str =
    "(SELECT c.oid FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                      WHERE n.nspname = $1 AND c.relname = $2)";

/// The role that owns it.
pub(super) const OWNER: &str = "(SELECT pg_get_userbyid(c.relowner)::text FROM pg_catalog.pg_class AS c
                      JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2)";

/// The row of that table in `jobexec.stores`.
pub(super) const ITS_ROW: &str = "registry = 'jobexec.stores'::regclass AND table_oid = \
    (SELECT c.oid FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
     WHERE n.nspname = $1 AND c.relname = $2)";

/// Whether what is done can be recorded. Enforcement does not depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ledger {
    /// The tables are there; this is the id of the store's table in them.
    Tables {
        /// `jobexec.stores.store_id`.
        store_id: i64,
        /// Whether there is an outbox that this login may write to.
        outbox: bool,
    },
    /// They are not, for this reason.
    Missing(String),
}

/// The `ExecutionStore` that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// Its UID.
    pub uid: String,
    /// The UID of the object that had its name before, if one is known to have: its claim goes over.
    pub predecessor: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The records of other tables that were last known by the name of this one.
pub(super) async fn left_behind(
    tx: &mut sqlx::PgConnection,
    mapping: &Mapping,
    store_id: Option<i64>,
) -> Result<Vec<Left>, sqlx::Error> {
    identity::left(tx, mapping, store_id, &seen_within("$4"), GAP_SECONDS).await
}

/// The record of a table.
pub(super) struct Registered {
    pub(super) store_id: i64,
    /// Who claims it.
    pub(super) holder: Option<Holder>,
    /// What the table was called when it was last looked at, if that was another name.
    pub(super) was: Option<String>,
    /// Whether a store has ever claimed the table: the command line enters a table too.
    pub(super) watched: bool,
}

/// The same as a row has it: the id, the UID, the namespace, the name, whether the claim counts, whether it is silent, the
/// name of the table if that was another one, and whether a store has ever claimed it.
type Row = (i64, Option<String>, Option<String>, Option<String>, bool, bool, Option<String>, bool);

/// The record of the table. The row is locked. `None`: it has none.
pub(super) async fn registered(
    tx: &mut sqlx::PgConnection,
    mapping: &Mapping,
) -> Result<Option<Registered>, sqlx::Error> {
    let (table_schema, table_name) = mapping.relation();
    let sql = format!(
        "SELECT store_id, uid, namespace, name, {}, NOT {},
                CASE WHEN (table_schema, table_name) <> ($1, $2) THEN format('%I.%I', table_schema, table_name) END,
                watched_since IS NOT NULL
         FROM jobexec.stores WHERE {ITS_ROW} FOR NO KEY UPDATE",
        seen_within("$3"),
        seen_within("$4"),
    );
    let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(table_schema)
        .bind(table_name)
        .bind(CLAIM_EXPIRY_SECONDS)
        .bind(GAP_SECONDS)
        .persistent(false)
        .fetch_optional(tx)
        .await?;
    let Some((store_id, uid, namespace, name, counts, silent, was, watched)) = row else { return Ok(None) };
    let holder = match (uid, namespace, name) {
        (Some(uid), Some(namespace), Some(name)) => {
            Some(Holder { claimant: Claimant { uid, predecessor: None, namespace, name }, counts, silent })
        }
        _ => None,
    };
    Ok(Some(Registered { store_id, holder, was, watched }))
}

/// Whether a claim was confirmed within so many seconds, and not in a time to come, which nobody can have done. The clock counts:
/// who waited for the row sees a claim that was confirmed after its own statement began.
fn seen_within(seconds: &str) -> String {
    format!(
        "COALESCE(seen_at > statement_timestamp() - make_interval(secs => {seconds}) AND seen_at <= clock_timestamp(), false)"
    )
}

/// Since when the table has been looked at without a gap, as far as that can be: at no end of time, and in no time to come.
const WATCHED_SINCE: &str =
    "CASE WHEN isfinite(watched_since) AND watched_since <= clock_timestamp() THEN watched_since END";

/// What came of noting that there is a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// It was not known.
    New,
    /// It was.
    Known,
    /// This login does not see what is kept of it.
    Hidden,
}

/// Notes that there is such a table, if that is not known. The right to UPDATE any column of it opens the records.
pub(super) async fn enter(tx: &mut sqlx::PgConnection, mapping: &Mapping) -> Result<Entered, sqlx::Error> {
    let (table_schema, table_name) = mapping.relation();
    let may = format!("SELECT COALESCE(has_any_column_privilege({TABLE}, 'UPDATE'), false)");
    let may: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(may))
        .bind(table_schema)
        .bind(table_name)
        .persistent(false)
        .fetch_one(&mut *tx)
        .await?;
    if !may {
        return Ok(Entered::Hidden);
    }
    let sql = format!(
        "INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name, table_owner)
         SELECT 'jobexec.stores'::regclass, {TABLE}, $1, $2, {OWNER} FROM generate_series(1, $3)
         WHERE NOT EXISTS (SELECT FROM jobexec.stores WHERE {ITS_ROW})
         ON CONFLICT DO NOTHING"
    );
    // Where its number is given already, as by a sequence that was left behind, a later one is free.
    for numbers in [1, NUMBERS] {
        let entered = sqlx::query(sqlx::AssertSqlSafe(sql.as_str()))
            .bind(table_schema)
            .bind(table_name)
            .bind(numbers)
            .persistent(false)
            .execute(&mut *tx)
            .await?;
        let there = format!("SELECT EXISTS (SELECT FROM jobexec.stores WHERE {ITS_ROW})");
        let there =
            sqlx::query_scalar::<_, bool>(sqlx::AssertSqlSafe(there)).bind(table_schema).bind(table_name);
        if entered.rows_affected() > 0 {
            return Ok(Entered::New);
        }
        if there.persistent(false).fetch_one(&mut *tx).await? {
            break;
        }
    }
    Ok(Entered::Known)
}

/// How many numbers are tried for a table of executions where the first one is given already: more than there are such tables.
const NUMBERS: i32 = 10_000;

/// Why a table has no number.
fn unnumbered() -> String {
    Fault::behind("stores", "the table of executions got no number").to_string()
}

/// Why nothing is recorded for a login that may not end executions.
pub(super) const HIDDEN: &str = "what is recorded of a table is seen and written by those who may UPDATE it, and this login may not update \
     any of its columns; grant what `jobexec schema --role` prints";

/// Where to record what a person does to the table, whether or not an operator looks after it. Claims nothing.
pub async fn enlist(database: &Database, mapping: &Mapping) -> Result<Ledger, DbError> {
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

/// What the operator's tables know of a table of executions.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Known {
    /// The id of the table in them.
    pub store_id: i64,
    /// The UID of the store that looks after it.
    pub uid: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Since when it has been looked at without a gap; `None`: nobody looks at it at present, so that evidence of life
    /// counts from now on.
    pub watched_since: Option<DateTime<Utc>>,
    /// What the table was called when it was last looked at, if that was another name.
    was: Option<String>,
    /// Whether a store has ever claimed the table.
    watched: bool,
    /// Whether there is an outbox that this login may write to.
    #[sqlx(skip)]
    pub outbox: bool,
    /// The records of other tables or stores of which a person has to say whether what was granted in them counts.
    #[sqlx(skip)]
    pub undecided: Vec<i64>,
}

impl Known {
    /// The store that looks after the table, if one does.
    pub fn claimant(&self) -> Option<Claimant> {
        Some(Claimant {
            uid: self.uid.clone()?,
            predecessor: None,
            namespace: self.namespace.clone()?,
            name: self.name.clone()?,
        })
    }
}

/// What the operator's tables say when they are asked and nothing is claimed.
#[derive(Clone, Debug)]
pub enum Found {
    /// They know the table.
    Known(Known),
    /// They are not there, or know nothing of it that this login may see.
    Nothing,
    /// They are there and are not used.
    Refused(Refusal),
}

/// What the operator's tables know of the table.
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
        "SELECT store_id, uid, namespace, name, CASE WHEN {seen} THEN {watched} END AS watched_since,
                CASE WHEN (table_schema, table_name) <> ($1, $2) THEN format('%I.%I', table_schema, table_name) END AS was,
                watched_since IS NOT NULL AS watched
         FROM jobexec.stores WHERE {ITS_ROW}",
        seen = seen_within("$3"),
        watched = wire(&format!("({WATCHED_SINCE})")),
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
    let outbox = outbox::usable(&mut tx).await?;
    tx.commit().await?;
    let found = |known: Known| {
        // Nothing was kept of any before a store has claimed the table.
        let uid = known.uid.as_deref().unwrap_or_default();
        let undecided = identity::undecided_among(&left, known.watched.then_some(uid));
        Found::Known(Known { outbox, undecided, ..known })
    };
    Ok(known.map_or(Found::Nothing, found))
}

/// The database's time.
pub async fn now(database: &Database) -> Result<DateTime<Utc>, DbError> {
    let mut tx = database.read().await?;
    let now =
        sqlx::query_scalar("SELECT statement_timestamp()").persistent(false).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(now)
}
