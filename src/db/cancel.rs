//! Cancels executions because a person asked for it: guarded, so that whoever finishes a row first wins, and recorded in
//! the statement that does it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::connect::LOGIN_PATH;
use super::decode;
use super::mapping::wire;
use super::own::{Fault, Records};
use super::{Database, DbError, Ledger, Mapping};
use crate::api::OnStale;

/// The reason that is recorded.
pub const CANCEL_REQUESTED: &str = "CancelRequested";

/// How many requests one statement is about.
const AT_ONCE: usize = 500;

/// What a person asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Request {
    /// The execution's id, in the form that Postgres prints.
    pub key: String,
    /// What says so, for example `JobExecution/nightly`.
    pub source: String,
    /// Who, as far as that is known.
    pub actor: Option<String>,
    /// When the execution that is meant started, in whole seconds since 1970, where that is known: ids may be used again.
    pub started: Option<i64>,
}

/// An execution that was cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cancelled {
    /// The row.
    pub id: String,
    /// Its job.
    pub job_id: Option<String>,
    /// Its number within the job.
    pub number: Option<i64>,
    /// When it started, if it had.
    pub started_at: Option<DateTime<Utc>>,
    /// When it was cancelled.
    pub at: DateTime<Utc>,
    /// What said so.
    pub source: String,
}

/// What became of the requests. An execution that is in neither list has ended already, does not exist, or is held by
/// another transaction, which may be finishing it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Those that were cancelled.
    pub cancelled: Vec<Cancelled>,
    /// Those that a constraint or trigger of the table does not let the login cancel, and why.
    pub refused: Vec<(String, String)>,
    /// Why not all of it was recorded, where the operator's tables are there.
    #[serde(skip)]
    pub fault: Option<Fault>,
}

/// Cancels what runs or waits. One that the server refuses holds up no other. The mapping must have a text for cancelled
/// executions ([`Mapping::can_cancel`]).
pub async fn cancel(
    database: &Database,
    mapping: &Mapping,
    ledger: &Ledger,
    requests: &[Request],
) -> Result<Outcome, DbError> {
    let mut outcome = Outcome::default();
    let records = Records::new(database, ledger);
    for requests in requests.chunks(AT_ONCE) {
        match recorded(database, mapping, &records, requests).await {
            Ok(cancelled) => outcome.cancelled.extend(cancelled),
            Err(error) if error.of_a_row() => {
                one_by_one(database, mapping, &records, requests, &mut outcome).await?;
            }
            Err(error) => return Err(error),
        }
    }
    outcome.fault = records.fault();
    Ok(outcome)
}

async fn one_by_one(
    database: &Database,
    mapping: &Mapping,
    records: &Records<'_>,
    requests: &[Request],
    outcome: &mut Outcome,
) -> Result<(), DbError> {
    for request in requests {
        match recorded(database, mapping, records, std::slice::from_ref(request)).await {
            Ok(cancelled) => outcome.cancelled.extend(cancelled),
            Err(error) if error.of_a_row() => outcome.refused.push((request.key.clone(), error.to_string())),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Cancels, and records it unless the operator's own tables refuse that.
async fn recorded(
    database: &Database,
    mapping: &Mapping,
    records: &Records<'_>,
    requests: &[Request],
) -> Result<Vec<Cancelled>, DbError> {
    loop {
        let (version, ledger) = records.ledger();
        match attempt(database, mapping, &ledger, requests).await {
            Err(error) if records.at_fault(version, &error).await? => {}
            done => return done,
        }
    }
}

async fn attempt(
    database: &Database,
    m: &Mapping,
    ledger: &Ledger,
    requests: &[Request],
) -> Result<Vec<Cancelled>, DbError> {
    let recorded = match ledger {
        Ledger::Missing(_) => String::new(),
        Ledger::Tables { store_id, .. } => format!(
            ", recorded AS (
                 INSERT INTO jobexec.events (at, store_id, execution_id, job_id, execution_number, action, reason,
                                             source, actor, started_at)
                 SELECT at, {store_id}, id, job_id, number, 'Cancelled', '{CANCEL_REQUESTED}', source, actor, started_at
                 FROM done)"
        ),
    };
    let sql = format!(
        "WITH request AS MATERIALIZED (
             SELECT DISTINCT ON (key) key::{type_} AS k, source, actor, started
             FROM jsonb_to_recordset($1::jsonb) AS r (key text, source text, actor text, started bigint) ORDER BY key),
         taken AS MATERIALIZED (
             SELECT {id} AS id FROM {table} AS t WHERE {id} = ANY (ARRAY (SELECT k FROM request)) AND ({alive})
               AND EXISTS (SELECT FROM request AS r WHERE r.k = {id}
                           AND COALESCE(floor(extract(epoch FROM {start})) = r.started, r.started IS NULL))
             {lock}),
         cancelled AS (
             UPDATE {table} AS t SET {assignments}
             WHERE {id} = ANY (ARRAY (SELECT id FROM taken)) AND ({alive})
             RETURNING {id} AS id, {job} AS job_id, {number}::bigint AS number, {start} AS started_at,
                       ({alive}) AS alive),
         done AS MATERIALIZED (
             SELECT c.id::text AS id, c.job_id, c.number, c.started_at, statement_timestamp() AS at, r.source, r.actor
             FROM cancelled AS c JOIN request AS r ON r.k = c.id WHERE NOT c.alive){recorded}
         SELECT id, job_id, number, started_at, at, source FROM done WHERE {LOGIN_PATH}",
        type_ = m.id_type().sql(),
        id = m.id(),
        table = m.table(),
        alive = m.only_handled(m.alive()),
        assignments =
            m.end_assignments(OnStale::Cancel, &format!("{CANCEL_REQUESTED}: cancelled by a person's request")),
        lock = m.lock(),
        job = m.job_shown(),
        number = m.number(),
        start = wire(&m.started_at()),
    );
    // Texts and nulls only: there is nothing in it that JSON cannot have.
    let parameter = serde_json::to_string(requests).unwrap_or_default();
    let mut tx = database.write().await?;
    let query = sqlx::query(AssertSqlSafe(sql)).bind(parameter).persistent(false);
    let rows = query.fetch_all(&mut *tx).await?;
    if rows.is_empty() {
        // Nothing is to be kept, and a trigger that tells of changes must not tell of none.
        tx.rollback().await?;
    } else {
        tx.commit().await?;
    }
    rows.iter().map(read).collect()
}

fn read(row: &PgRow) -> Result<Cancelled, DbError> {
    Ok(Cancelled {
        id: row.try_get("id")?,
        job_id: row.try_get("job_id")?,
        number: row.try_get("number")?,
        started_at: decode::maybe_at(row, "started_at")?,
        at: decode::at(row, "at")?,
        source: row.try_get("source")?,
    })
}
