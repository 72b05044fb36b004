//! The operator's own tables, as far as they are there: who looks after which table, what was done.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Database, DbError, Mapping, outbox, schema};
use crate::api::notifications::Topic;

/// How long a claim holds that its operator no longer confirms.
const CLAIM_EXPIRY_SECONDS: f64 = 600.0;

/// A claim that was not confirmed for so long was not held without a gap: two confirmations may be missed.
const GAP_SECONDS: f64 = 150.0;

/// How many sweeps [`unannounced`] returns at most.
pub const AT_ONCE: usize = 20;

/// Whether what is done can be recorded. Enforcement does not depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ledger {
    /// The tables are there; this is the id of the store's table in them.
    Tables {
        /// `jobexec.stores.store_id`.
        store_id: i32,
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
    },
    /// Another `ExecutionStore` looks after the table.
    Taken(Claimant),
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
/// allowed. A claim of another store counts until it is released or not confirmed for ten minutes. `outage`: the
/// database was away, so evidence of life counts from now on.
pub async fn claim(
    database: &Database,
    mapping: &Mapping,
    claimant: &Claimant,
    outage: bool,
) -> Result<Claim, DbError> {
    if let Some(why) = schema::ensure(database).await? {
        let now = now(database).await?;
        return Ok(Claim::Held { ledger: Ledger::Missing(why), watched_since: now, confirmed: now });
    }
    let (table_schema, table_name) = mapping.relation();
    let mut tx = database.write().await?;
    enter(&mut tx, mapping).await?;
    let (store_id, uid, namespace, name, fresh): (i32, Option<String>, Option<String>, Option<String>, bool) =
        sqlx::query_as(
            "SELECT store_id, uid, namespace, name,
                    COALESCE(seen_at > statement_timestamp() - make_interval(secs => $3), false)
             FROM jobexec.stores WHERE table_schema = $1 AND table_name = $2 FOR NO KEY UPDATE",
        )
        .bind(table_schema)
        .bind(table_name)
        .bind(CLAIM_EXPIRY_SECONDS)
        .persistent(false)
        .fetch_one(&mut *tx)
        .await?;
    if let (Some(uid), Some(namespace), Some(name)) = (uid, namespace, name) {
        let inherited = claimant.predecessor.as_ref() == Some(&uid);
        let holder = Claimant { uid, predecessor: None, namespace, name };
        if holder.uid != claimant.uid && fresh && !inherited {
            return Ok(Claim::Taken(holder));
        }
    }
    let (watched_since, confirmed) = sqlx::query_as(
        "UPDATE jobexec.stores SET uid = $2, namespace = $3, name = $4, seen_at = statement_timestamp(),
                watched_since = CASE WHEN $5 OR seen_at > statement_timestamp() - make_interval(secs => $6) IS NOT TRUE
                                     THEN statement_timestamp() ELSE COALESCE(watched_since, statement_timestamp()) END
         WHERE store_id = $1 RETURNING watched_since, seen_at",
    )
    .bind(store_id)
    .bind(&claimant.uid)
    .bind(&claimant.namespace)
    .bind(&claimant.name)
    .bind(outage)
    .bind(GAP_SECONDS)
    .persistent(false)
    .fetch_one(&mut *tx)
    .await?;
    let outbox = outbox::usable(&mut tx).await?;
    tx.commit().await?;
    Ok(Claim::Held { ledger: Ledger::Tables { store_id, outbox }, watched_since, confirmed })
}

/// Notes that there is such a table, if that is not known.
async fn enter(tx: &mut sqlx::PgConnection, mapping: &Mapping) -> Result<(), sqlx::Error> {
    let (table_schema, table_name) = mapping.relation();
    sqlx::query(
        "INSERT INTO jobexec.stores (table_schema, table_name) SELECT $1, $2
                 WHERE NOT EXISTS (SELECT FROM jobexec.stores WHERE table_schema = $1 AND table_name = $2)
                 ON CONFLICT DO NOTHING",
    )
    .bind(table_schema)
    .bind(table_name)
    .persistent(false)
    .execute(tx)
    .await?;
    Ok(())
}

/// Where to record what a person does to the table, whether or not an operator looks after it. Claims nothing.
pub async fn enlist(database: &Database, mapping: &Mapping) -> Result<Ledger, DbError> {
    if let Some(why) = schema::lacking(database).await? {
        return Ok(Ledger::Missing(why));
    }
    let (table_schema, table_name) = mapping.relation();
    let mut tx = database.write().await?;
    enter(&mut tx, mapping).await?;
    let store_id =
        sqlx::query_scalar("SELECT store_id FROM jobexec.stores WHERE table_schema = $1 AND table_name = $2")
            .bind(table_schema)
            .bind(table_name)
            .persistent(false)
            .fetch_one(&mut *tx)
            .await?;
    let outbox = outbox::usable(&mut tx).await?;
    tx.commit().await?;
    Ok(Ledger::Tables { store_id, outbox })
}

/// What the operator's tables know of a table of executions.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Known {
    /// The id of the table in them.
    pub store_id: i32,
    /// The UID of the store that looks after it.
    pub uid: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Since when it has been looked at without a gap; `None`: nobody looks at it at present, so that evidence of life
    /// counts from now on.
    pub watched_since: Option<DateTime<Utc>>,
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

/// What the operator's tables know of the table; `None`: they are not there, or know nothing.
pub async fn look_up(database: &Database, mapping: &Mapping) -> Result<Option<Known>, DbError> {
    let (table_schema, table_name) = mapping.relation();
    let mut tx = database.read().await?;
    let there: bool = sqlx::query_scalar(
        "SELECT to_regclass('jobexec.stores') IS NOT NULL AND to_regclass('jobexec.rules') IS NOT NULL",
    )
    .persistent(false)
    .fetch_one(&mut *tx)
    .await?;
    if !there {
        return Ok(None);
    }
    let known: Option<Known> = sqlx::query_as(
        "SELECT store_id, uid, namespace, name,
                CASE WHEN seen_at > statement_timestamp() - make_interval(secs => $3) THEN watched_since END AS watched_since
         FROM jobexec.stores WHERE table_schema = $1 AND table_name = $2",
    )
    .bind(table_schema)
    .bind(table_name)
    .bind(GAP_SECONDS)
    .persistent(false)
    .fetch_optional(&mut *tx)
    .await?;
    let outbox = outbox::usable(&mut tx).await?;
    tx.commit().await?;
    Ok(known.map(|known| Known { outbox, ..known }))
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
pub async fn paused(database: &Database, store_id: i32) -> Result<Option<String>, DbError> {
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
pub async fn pause(
    database: &Database,
    store_id: i32,
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

/// Gives up what the store with this UID claims, unless it was confirmed after `confirmed`: then another operator looks after the
/// store by now.
pub async fn release(database: &Database, uid: &str, confirmed: DateTime<Utc>) -> Result<(), DbError> {
    let mut tx = database.write().await?;
    sqlx::query(
        "UPDATE jobexec.stores SET uid = NULL, namespace = NULL, name = NULL, seen_at = NULL
         WHERE uid = $1 AND seen_at <= $2",
    )
    .bind(uid)
    .bind(confirmed)
    .persistent(false)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}

/// The sweeps of the store that no Event tells of yet, with up to `sample` executions each. Those in `own` have ended.
pub async fn unannounced(
    database: &Database,
    store_id: i32,
    own: &[Uuid],
    sample: i64,
) -> Result<Vec<Unannounced>, DbError> {
    let mut tx = database.read().await?;
    let rows: Vec<(Uuid, i64, bool, Vec<String>)> = sqlx::query_as(
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
         FROM jobexec.sweeps AS s WHERE s.store_id = $1 AND s.announced_at IS NULL ORDER BY s.started_at LIMIT $4",
    )
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
