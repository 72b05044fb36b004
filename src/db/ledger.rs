//! The operator's own tables, as far as they are there: who looks after which table, what was done. A table of executions is
//! found by its oid ([`super::identity`]), and times that have not come yet are taken for no times.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::identity::{self, Left};
use super::mapping::wire;
use super::own::{self, Fault};
use super::schema::{self, Lack, Refusal};
use super::{Database, DbError, Mapping, extend, outbox};
use crate::api::notifications::Topic;

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

/// How many sweeps [`unannounced`] returns at most.
pub const AT_ONCE: usize = 20;

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

/// What came of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The table is the claimant's.
    Held {
        /// What is recorded.
        ledger: Ledger,
        /// Since when the store has been looked at without a gap, by the database's clock.
        watched_since: DateTime<Utc>,
        /// When it was confirmed, by the same clock.
        confirmed: DateTime<Utc>,
        /// The records of other tables that were last known by the name of this one.
        left: Vec<Left>,
    },
    /// Another `ExecutionStore` looks after the table.
    Taken(Claimant),
    /// There are tables, and they are not used: nothing is claimed.
    Refused {
        /// Why.
        refusal: Refusal,
        /// The database's time.
        now: DateTime<Utc>,
    },
}

/// A sweep that changed something and was not announced yet.
#[derive(Clone, Debug)]
pub struct Unannounced {
    /// The sweep.
    pub id: Uuid,
    /// How many executions it ended.
    pub failed: i64,
    /// Whether it has ended: the asker knows that it has, or its last batch was more than a minute ago. Another operator may
    /// still be at one that did something since.
    pub ended: bool,
    /// The first few of them, each as a short phrase.
    pub sample: Vec<String>,
}

/// Claims the table for `claimant`, or confirms that it does, creating the operator's tables if that is needed and
/// allowed. A claim of another store counts until it is released or not confirmed for ten minutes; that of a store that had
/// this one's name, as long as it is confirmed. `outage`: the database was away, so evidence of life counts from now on.
pub async fn claim(
    database: &Database,
    mapping: &Mapping,
    claimant: &Claimant,
    outage: bool,
) -> Result<Claim, DbError> {
    let missing = |why: String, now| Claim::Held {
        ledger: Ledger::Missing(why),
        watched_since: now,
        confirmed: now,
        left: Vec::new(),
    };
    match schema::ensure(database, mapping.schema_owner()).await? {
        None => {}
        Some(Lack::Missing(why)) => {
            let now = now(database).await?;
            return Ok(match extended(database, mapping).await? {
                Some(false) => missing(why, now),
                // Held up for sure where an extension is there; where it is not known, only if the store has recorded before.
                found => Claim::Refused {
                    refusal: Refusal { reason: "TablesMissing", why, owner_trusted: found.is_some() },
                    now,
                },
            });
        }
        Some(Lack::Refused(refusal)) => {
            return Ok(Claim::Refused { refusal, now: now(database).await? });
        }
    }
    let mut tx = database.write().await?;
    let entered = enter(&mut tx, mapping).await?;
    if entered == Entered::Hidden {
        tx.rollback().await?;
        return Ok(missing(HIDDEN.to_owned(), now(database).await?));
    }
    let Some(Registered { store_id, holder, was }) = registered(&mut tx, mapping).await? else {
        tx.rollback().await?;
        return Ok(missing(unnumbered(), now(database).await?));
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
    if entered == Entered::New || was.is_some() {
        identity::keep(&mut tx, mapping, store_id, &left, &claimant.uid).await?;
    }
    let outbox = outbox::usable(&mut tx).await?;
    tx.commit().await?;
    Ok(Claim::Held { ledger: Ledger::Tables { store_id, outbox }, watched_since, confirmed, left })
}

/// The records of other tables that were last known by the name of this one.
pub(super) async fn left_behind(
    tx: &mut sqlx::PgConnection,
    mapping: &Mapping,
    store_id: Option<i64>,
) -> Result<Vec<Left>, sqlx::Error> {
    identity::left(tx, mapping, store_id, &seen_within("$4"), GAP_SECONDS).await
}

/// Whether a person has given an execution of the table more time, which is recorded nowhere else; `None`: this login may not
/// read it.
async fn extended(database: &Database, mapping: &Mapping) -> Result<Option<bool>, DbError> {
    let (table_schema, table_name) = mapping.relation();
    let mut tx = database.read().await?;
    let (there, readable): (bool, bool) = sqlx::query_as(
        "SELECT count(*) = 2, COALESCE(bool_and(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')), false)
         FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE n.nspname = 'jobexec' AND c.relname IN ('stores', 'rules') AND c.relkind = 'r'",
    )
    .persistent(false)
    .fetch_one(&mut *tx)
    .await?;
    if !there {
        return Ok(Some(false));
    }
    if !readable {
        return Ok(None);
    }
    let sql = format!(
        "SELECT EXISTS (SELECT FROM jobexec.rules WHERE extend_source LIKE $3
                        AND store_id IN (SELECT store_id FROM jobexec.stores WHERE {ITS_ROW}))"
    );
    let found = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(table_schema)
        .bind(table_name)
        .bind(format!("{}%", extend::SOURCE))
        .persistent(false)
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(Some(found))
}

/// Who claims a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// The store.
    pub(super) claimant: Claimant,
    /// Whether the claim counts: it was confirmed of late, and not in a time to come.
    pub(super) counts: bool,
    /// Whether it was not confirmed for longer than a store that is managed leaves it.
    pub(super) silent: bool,
}

impl Holder {
    /// Whether the claim goes over to `claimant`. Of one name a cluster has one store: who is made again under it need not wait
    /// for the claim to end once nobody confirms it.
    fn gives_way_to(&self, claimant: &Claimant) -> bool {
        let Claimant { uid, namespace, name, .. } = &self.claimant;
        let same_name = (namespace, name) == (&claimant.namespace, &claimant.name);
        !self.counts
            || *uid == claimant.uid
            || claimant.predecessor.as_ref() == Some(uid)
            || (self.silent && same_name)
    }
}

/// The record of a table.
pub(super) struct Registered {
    pub(super) store_id: i64,
    /// Who claims it.
    pub(super) holder: Option<Holder>,
    /// What the table was called when it was last looked at, if that was another name.
    pub(super) was: Option<String>,
}

/// The same as a row has it: the id, the UID, the namespace, the name, whether the claim counts, whether it is silent, and the
/// name of the table if that was another one.
type Row = (i64, Option<String>, Option<String>, Option<String>, bool, bool, Option<String>);

/// The record of the table. The row is locked. `None`: it has none.
pub(super) async fn registered(
    tx: &mut sqlx::PgConnection,
    mapping: &Mapping,
) -> Result<Option<Registered>, sqlx::Error> {
    let (table_schema, table_name) = mapping.relation();
    let sql = format!(
        "SELECT store_id, uid, namespace, name, {}, NOT {},
                CASE WHEN (table_schema, table_name) <> ($1, $2) THEN format('%I.%I', table_schema, table_name) END
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
    let Some((store_id, uid, namespace, name, counts, silent, was)) = row else { return Ok(None) };
    let holder = match (uid, namespace, name) {
        (Some(uid), Some(namespace), Some(name)) => {
            Some(Holder { claimant: Claimant { uid, predecessor: None, namespace, name }, counts, silent })
        }
        _ => None,
    };
    Ok(Some(Registered { store_id, holder, was }))
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

/// Writes the claim. Returns since when the table has been looked at without a gap, and now.
async fn confirm(
    tx: &mut sqlx::PgConnection,
    mapping: &Mapping,
    store_id: i64,
    claimant: &Claimant,
    outage: bool,
) -> Result<(DateTime<Utc>, DateTime<Utc>), sqlx::Error> {
    let (table_schema, table_name) = mapping.relation();
    let sql = format!(
        "UPDATE jobexec.stores SET uid = $4, namespace = $5, name = $6, seen_at = statement_timestamp(),
                table_schema = $1, table_name = $2, table_owner = {OWNER},
                watched_since = CASE WHEN $7 OR NOT {seen} THEN statement_timestamp()
                                     ELSE COALESCE({WATCHED_SINCE}, statement_timestamp()) END
         WHERE store_id = $3 RETURNING {watched}, seen_at",
        seen = seen_within("$8"),
        watched = wire("watched_since"),
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
    /// Whether there is an outbox that this login may write to.
    #[sqlx(skip)]
    pub outbox: bool,
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
                CASE WHEN (table_schema, table_name) <> ($1, $2) THEN format('%I.%I', table_schema, table_name) END AS was
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
    Ok(known.map_or(Found::Nothing, |known| Found::Known(Known { outbox, ..known })))
}

/// The database's time.
pub async fn now(database: &Database) -> Result<DateTime<Utc>, DbError> {
    let mut tx = database.read().await?;
    let now =
        sqlx::query_scalar("SELECT statement_timestamp()").persistent(false).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(now)
}

/// Why the breaker of a store is open, if it is.
pub async fn paused(database: &Database, store_id: i64) -> Result<Option<String>, DbError> {
    let mut tx = database.read().await?;
    let why = sqlx::query_scalar(
        "SELECT paused_why FROM jobexec.stores WHERE store_id = $1 AND paused_at IS NOT NULL",
    )
    .bind(store_id)
    .persistent(false)
    .fetch_optional(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(why.map(Option::unwrap_or_default))
}

/// Opens the breaker of a store for this reason, or closes it. People are told that it was opened where there is an `outbox`.
/// Returns why they are not, where the operator's tables do not take that.
///
/// # Errors
/// Those of the database; then the breaker is as it was.
pub async fn pause(
    database: &Database,
    store_id: i64,
    outbox: bool,
    why: Option<&str>,
) -> Result<Option<Fault>, DbError> {
    let ledger = Ledger::Tables { store_id, outbox };
    let paused = |ledger| {
        let outbox = matches!(ledger, Ledger::Tables { outbox: true, .. });
        set_paused(database, store_id, outbox, why)
    };
    Ok(own::recorded(database, &ledger, paused).await?.1)
}

async fn set_paused(
    database: &Database,
    store_id: i64,
    outbox: bool,
    why: Option<&str>,
) -> Result<(), DbError> {
    let mut tx = database.write().await?;
    sqlx::query(
        "UPDATE jobexec.stores SET paused_at = CASE WHEN $2::text IS NULL THEN NULL ELSE statement_timestamp() END,
                paused_why = $2 WHERE store_id = $1",
    )
    .bind(store_id)
    .bind(why)
    .persistent(false)
    .execute(&mut *tx)
    .await?;
    if let Some(why) = why.filter(|_| outbox) {
        outbox::note(&mut tx, store_id, Topic::Breaker, why).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Gives up the claim of the store with this UID, unless it was confirmed after `confirmed`: then another operator looks after the
/// store by now.
pub async fn release(
    database: &Database,
    store_id: i64,
    uid: &str,
    confirmed: DateTime<Utc>,
) -> Result<(), DbError> {
    let mut tx = database.write().await?;
    sqlx::query(
        "UPDATE jobexec.stores SET uid = NULL, namespace = NULL, name = NULL, seen_at = NULL
         WHERE uid = $1 AND seen_at <= $2 AND store_id = $3",
    )
    .bind(uid)
    .bind(confirmed)
    .bind(store_id)
    .persistent(false)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}

/// The sweeps of the store that no Event tells of yet, and that no other store made, with up to `sample` executions each. Those in `own` have ended.
pub async fn unannounced(
    database: &Database,
    store_id: i64,
    own: &[Uuid],
    sample: i64,
) -> Result<Vec<Unannounced>, DbError> {
    let mut tx = database.read().await?;
    let rows: Vec<(Uuid, i64, bool, Vec<String>)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "SELECT s.sweep_id, s.failed,
                s.sweep_id = ANY ($2) OR statement_timestamp() - interval '1 minute' > COALESCE(
                    (SELECT e.at FROM jobexec.events AS e WHERE e.sweep_id = s.sweep_id ORDER BY e.event_id DESC LIMIT 1),
                    s.started_at),
                ARRAY(
                    SELECT format('%s (job %s, #%s', e.execution_id, COALESCE(e.job_id, '?'),
                                  COALESCE(e.execution_number::text, '?'))
                           || COALESCE(', ' || round(EXTRACT(epoch FROM e.at - e.started_at) / 3600, 1) || ' h', '')
                           || CASE WHEN e.reason <> 'DeadlineExceeded' THEN ', ' || e.reason ELSE '' END
                           || CASE WHEN e.action = 'Cancelled' THEN ', cancelled)' ELSE ')' END
                    FROM jobexec.events AS e WHERE e.sweep_id = s.sweep_id ORDER BY e.event_id LIMIT $3)
         FROM jobexec.sweeps AS s WHERE s.store_id = $1 AND s.announced_at IS NULL AND {} ORDER BY s.started_at LIMIT $4",
        outbox::ours("s")
    )))
    .bind(store_id)
    .bind(own)
    .bind(sample)
    .bind(i32::try_from(AT_ONCE).unwrap_or(i32::MAX))
    .persistent(false)
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(rows
        .into_iter()
        .map(|(id, failed, ended, sample)| Unannounced { id, failed, ended, sample })
        .collect())
}

/// Remembers that an Event tells of the sweep.
pub async fn announced(database: &Database, sweep: Uuid) -> Result<(), DbError> {
    let mut tx = database.write().await?;
    sqlx::query("UPDATE jobexec.sweeps SET announced_at = statement_timestamp() WHERE sweep_id = $1")
        .bind(sweep)
        .persistent(false)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(uid: &str, namespace: &str) -> Claimant {
        Claimant { uid: uid.into(), predecessor: None, namespace: namespace.into(), name: "jobs".into() }
    }

    #[test]
    fn a_claim_gives_way_to_who_has_its_name_once_nobody_confirms_it() {
        let held = |counts, silent| Holder { claimant: store("one", "prod"), counts, silent };
        let (again, other) = (store("two", "prod"), store("two", "staging"));
        // It is confirmed: another cluster may have a store of that name.
        assert!(!held(true, false).gives_way_to(&again) && !held(true, false).gives_way_to(&other));
        assert!(held(true, true).gives_way_to(&again) && !held(true, true).gives_way_to(&other));
        assert!(held(false, true).gives_way_to(&other), "it has ended");
        let known = Claimant { predecessor: Some("one".into()), ..again };
        assert!(
            held(true, false).gives_way_to(&known) && held(true, false).gives_way_to(&store("one", "prod"))
        );
    }
}
