//! Gives one execution more time without a Kubernetes object: a rule in `jobexec.rules` with its own kind of source, which an
//! operator keeps until the execution has ended.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, Row as _};

use super::decode;
use super::granted::SOURCE;
use super::ids::id_of;
use super::mapping::clamp_timestamp;
use super::own::{self, Fault};
use super::{Database, DbError, Ledger, Mapping, promise};
use crate::rules::RuleSet;

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
    effective_rules: Option<&RuleSet>,
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
    effective_rules: Option<&RuleSet>,
    store_id: i64,
    request: &Request,
    ledger: Ledger,
) -> Result<Outcome, DbError> {
    let recorded = match ledger {
        Ledger::Missing(_) => "",
        Ledger::Tables { .. } => include_str!("extend/recorded.sql"),
    };
    let sql = format!(
        include_str!("extend/extend.sql"),
        id = m.id(),
        id_type = m.id_type().sql(),
        job_id = m.job_shown(),
        number = m.number(),
        started_at = clamp_timestamp(&m.started_at()),
        table = m.table(),
        alive = m.only_handled(m.alive()),
        recorded = recorded,
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
        include_str!("extend/prune.sql"),
        of_this_table = m.of_record("$1"),
        table = m.table(),
        id = m.id(),
        ruled_id = id_of("rule.key", m.id_type()),
        unfinished = m.unfinished_anywhere(),
    );
    let mut tx = database.write().await?;
    sqlx::query(AssertSqlSafe(sql)).bind(store_id).bind(&source).persistent(false).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}
