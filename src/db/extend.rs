//! Gives one execution more time without a Kubernetes object: a rule in `jobexec.rules` with its own kind of source, which an
//! operator keeps until the execution has ended.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, Row as _};

use super::decode;
use super::granted::SOURCE;
use super::ids::id_of;
use super::mapping::wire;
use super::own::{self, Fault};
use super::{Database, DbError, Ledger, Mapping, promise};
use crate::rules::Compiled;

/// A person's request for more time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The execution, by its id in canonical form.
    pub id: String,
    /// The whole extension, so that a repeated request adds nothing.
    pub by: TimeDelta,
    /// The person, as a name for the rule's source.
    pub who: String,
    /// The person, for the record.
    pub actor: String,
}

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The extension is in effect and recorded; contains the start of the execution, if there is one.
    Extended(Option<DateTime<Utc>>),
    /// An object extends this execution, and that extension applies.
    Governed(String),
    /// The execution has ended or does not exist.
    NotAlive,
}

/// Extends an execution that runs, waits or is paused, and records its deadline by `effective_rules`; no later rule moves the
/// deadline before that. `None`: no operator has put rules into effect. Also returns the reason if the operator's tables accept the
/// rule but reject the record, so that the audit log lacks it.
///
/// # Errors
/// Returns the errors of the database; then nothing is extended.
pub async fn extend(
    database: &Database,
    m: &Mapping,
    effective_rules: Option<&Compiled>,
    store_id: i64,
    request: &Request,
) -> Result<(Outcome, Option<Fault>), DbError> {
    let ledger = Ledger::Tables { store_id, outbox: false };
    own::recorded(database, &ledger, |ledger| {
        attempt(database, m, effective_rules, store_id, request, ledger)
    })
    .await
}

async fn attempt(
    database: &Database,
    m: &Mapping,
    effective_rules: Option<&Compiled>,
    store_id: i64,
    request: &Request,
    ledger: Ledger,
) -> Result<Outcome, DbError> {
    let recorded = match ledger {
        Ledger::Missing(_) => "",
        Ledger::Tables { .. } => {
            ", recorded AS (
                 INSERT INTO jobexec.events (at, store_id, execution_id, job_id, execution_number, action, reason, source,
                                             actor, note, started_at)
                 SELECT statement_timestamp(), $1, a.id, a.job_id, a.number, 'DeadlineMoved', 'ExtendRequested', $4, $6,
                        'extended by ' || $3::interval::text, a.started_at
                 FROM alive AS a JOIN put ON put.key = a.id)"
        }
    };
    let sql = format!(
        "WITH alive AS MATERIALIZED (
             SELECT {id}::text AS id, {job} AS job_id, {number}::bigint AS number, {start} AS started_at,
                    (SELECT r.extend_source FROM jobexec.rules AS r
                     WHERE r.store_id = $1 AND r.scope = 'execution' AND r.key = {id}::text
                       AND r.extend_source NOT LIKE $5) AS governed
             FROM {table} AS t WHERE {id} = $2::text::{type_} AND {alive}),
         put AS (
             INSERT INTO jobexec.rules AS r (store_id, scope, key, extend_by, extend_source, overruled, earliest, fixed)
             SELECT $1, 'execution', id, $3, $4, '{{}}', interval '0', false FROM alive WHERE governed IS NULL
             ON CONFLICT (store_id, scope, key) DO UPDATE
                 SET extend_by = excluded.extend_by, extend_source = excluded.extend_source
             RETURNING r.key){recorded}
         SELECT governed, started_at FROM alive",
        id = m.id(),
        type_ = m.id_type().sql(),
        job = m.job_shown(),
        number = m.number(),
        start = wire(&m.started_at()),
        table = m.table(),
        alive = m.only_handled(m.alive()),
    );
    let mut tx = database.write().await?;
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(store_id)
        .bind(&request.id)
        .bind(request.by)
        .bind(format!("{SOURCE}{}", request.who))
        .bind(format!("{SOURCE}%"))
        .bind(&request.actor)
        .persistent(false)
        .fetch_optional(&mut *tx)
        .await?;
    if let Some(effective_rules) = effective_rules {
        promise::note(&mut tx, m, effective_rules, store_id).await?;
    }
    tx.commit().await?;
    let Some(row) = row else { return Ok(Outcome::NotAlive) };
    Ok(match row.try_get("governed")? {
        Some(object) => Outcome::Governed(object),
        None => Outcome::Extended(decode::maybe_at(&row, "started_at")?),
    })
}

/// Deletes the extensions of executions that have ended.
pub async fn prune(database: &Database, m: &Mapping, store_id: i64) -> Result<(), DbError> {
    let any = "SELECT EXISTS (SELECT FROM jobexec.rules WHERE store_id = $1 AND scope = 'execution'
                              AND extend_source LIKE $2)";
    let mut tx = database.read().await?;
    let source = format!("{SOURCE}%");
    let any: bool =
        sqlx::query_scalar(any).bind(store_id).bind(&source).persistent(false).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    if !any {
        return Ok(());
    }
    let sql = format!(
        "DELETE FROM jobexec.rules AS r WHERE r.store_id = $1 AND r.scope = 'execution' AND r.extend_source LIKE $2
           AND r.timeout IS NULL
           AND {} AND NOT EXISTS (SELECT FROM {} AS t WHERE {} = {} AND {})",
        m.of_record("$1"),
        m.table(),
        m.id(),
        id_of("r.key", m.id_type()),
        // An execution that no longer passes the filter may pass it again.
        m.unfinished_anywhere(),
    );
    let mut tx = database.write().await?;
    sqlx::query(AssertSqlSafe(sql)).bind(store_id).bind(&source).persistent(false).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}
