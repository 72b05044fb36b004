//! Cancels executions at a person's request. The statement checks the status, so that the transaction that finishes a row first
//! wins, and it also writes the record.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::connect::LOGIN_PATH;
use super::decode;
use super::ending::Ending;
use super::mapping::clamp_timestamp;
use super::own::{Fault, Records};
use super::sweep::{ASKED, announced};
use super::{Database, DbError, Ledger, Mapping};
use crate::api::OnStale;

/// The reason that is recorded.
pub const CANCEL_REQUESTED: &str = "CancelRequested";

/// The maximum number of requests in one statement.
const AT_ONCE: usize = 500;

/// A person's request to cancel an execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Request {
    /// The execution's id, in the form that Postgres prints.
    pub key: String,
    /// The source of the request, for example `JobExecution/nightly`.
    pub source: String,
    /// The person, if known.
    pub actor: Option<String>,
    /// The start of the intended execution, in whole seconds since 1970, if known: an id may be used again.
    pub started: Option<i64>,
}

/// An execution that was cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cancelled {
    /// The id of the row.
    pub id: String,
    /// Its job.
    pub job_id: Option<String>,
    /// Its number within the job.
    pub number: Option<i64>,
    /// Its start, if it had started.
    pub started_at: Option<DateTime<Utc>>,
    /// The time of the cancellation.
    pub at: DateTime<Utc>,
    /// The source of the request.
    pub source: String,
}

/// The result of the requests. An execution in neither list has already ended, does not exist, or is locked by another transaction,
/// which may be finishing it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The executions that were cancelled.
    pub cancelled: Vec<Cancelled>,
    /// The executions that the login cannot cancel because of a constraint or trigger of the table, and the reason.
    pub refused: Vec<(String, String)>,
    /// The reason why not everything was recorded although the operator's tables exist.
    #[serde(skip)]
    pub fault: Option<Fault>,
}

impl Outcome {
    /// Adds executions that were cancelled, and the ids of those whose workers were asked to stop.
    fn add(&mut self, done: Vec<Result<Cancelled, String>>) {
        for done in done {
            match done {
                Ok(cancelled) => self.cancelled.push(cancelled),
                Err(id) => self.refused.push((id, ASKED.to_owned())),
            }
        }
    }
}

/// Cancels executions that run or wait. An execution that the server refuses does not hold up the others. The mapping must have a
/// text for cancelled executions ([`Mapping::can_cancel`]).
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
            Ok(done) => outcome.add(done),
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
            Ok(done) => outcome.add(done),
            Err(error) if error.of_a_row() => outcome.refused.push((request.key.clone(), error.to_string())),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Cancels executions, and records it unless the operator's own tables reject the record.
async fn recorded(
    database: &Database,
    mapping: &Mapping,
    records: &Records<'_>,
    requests: &[Request],
) -> Result<Vec<Result<Cancelled, String>>, DbError> {
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
) -> Result<Vec<Result<Cancelled, String>>, DbError> {
    let recorded = match ledger {
        Ledger::Missing(_) => String::new(),
        Ledger::Tables { store_id, .. } => {
            format!(include_str!("cancel/recorded.sql"), store_id = store_id, reason = CANCEL_REQUESTED)
        }
    };
    let sql = format!(
        include_str!("cancel/cancel.sql"),
        id_type = m.id_type().sql(),
        id = m.id(),
        table = m.table(),
        alive = m.only_handled(m.alive()),
        assignments = m.end_assignments(
            OnStale::Cancel,
            &format!("{CANCEL_REQUESTED}: cancelled by a person's request")
        ),
        lock = m.lock(),
        job_id = m.job_shown(),
        number = m.number(),
        started_at = clamp_timestamp(&m.started_at()),
        ending = m.ending(),
        completed = Ending::Completed.as_str(),
        recorded = recorded,
        login_path = LOGIN_PATH,
        action = announced(OnStale::Cancel),
        may_end = m.may_end(None).unwrap_or_else(|| "true".to_owned()),
    );
    // The requests contain only values that JSON can represent.
    let parameter = serde_json::to_string(requests).unwrap_or_default();
    let mut tx = database.write().await?;
    let query = sqlx::query(AssertSqlSafe(sql)).bind(parameter).persistent(false);
    let rows = query.fetch_all(&mut *tx).await?;
    if rows.is_empty() {
        // There is nothing to keep, and a trigger that announces changes must not announce any.
        tx.rollback().await?;
    } else {
        tx.commit().await?;
    }
    rows.iter().map(read).collect()
}

/// Reads an execution that was cancelled, or the id of one whose worker was asked to stop.
fn read(row: &PgRow) -> Result<Result<Cancelled, String>, DbError> {
    let id = row.try_get("id")?;
    let Some(at) = decode::maybe_at(row, "at")? else { return Ok(Err(id)) };
    Ok(Ok(Cancelled {
        id,
        job_id: row.try_get("job_id")?,
        number: row.try_get("number")?,
        started_at: decode::maybe_at(row, "started_at")?,
        at,
        source: row.try_get("source")?,
    }))
}
