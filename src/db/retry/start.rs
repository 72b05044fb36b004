//! Starts the retries that wait and may start now.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::{SHOWN_DUE, inserted, room, same_end, take_turn};
use crate::api::OnStale;
use crate::api::retry::{OverBudget, RetryMethod};
use crate::db::connect::LOGIN_PATH;
use crate::db::ending::Ending;
use crate::db::ids::id_of;
use crate::db::mapping::clamp_timestamp;
use crate::db::sweep::announced;
use crate::db::{Database, DbError, Ledger, StalenessPredicate, outbox};

/// The action that is recorded when a retry that has waited is started.
pub const STARTED: &str = "RetryStarted";

/// The maximum number of retries that one statement starts.
const BATCH: u32 = 5_000;

/// The maximum number of batches that are started at a time. What is left waits for the next time.
const BATCHES: u32 = 50;

/// The maximum number of retries that are tried one by one after a batch was refused. Others are tried when it is their turn.
const ALONE: u32 = 100;

/// A retry that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The execution whose attempt was ended.
    pub id: String,
    /// The number of the next attempt.
    pub attempt: i64,
    /// The execution with the next attempt.
    pub next_id: String,
    /// Why the attempt was ended.
    pub reason: String,
}

/// The outcome of one statement.
#[derive(Default)]
struct Batch {
    /// The retries that were started.
    started: Vec<Started>,
    /// True if the table refused one or more, which is recorded.
    refused: bool,
    /// True if a row was inserted of which it is not known which execution it retries. Then nothing may be committed.
    unmatched: bool,
}

/// Why a retry was refused of which the new row is not found.
const UNMATCHED: &str = "a trigger of the table changes the new row, so that it is not known which execution it retries: map table.columns.retryOf";

/// Starts the retries of a store that may start now, in batches, and drops those whose execution is no longer as it was left. A
/// retry that the table refuses is tried again later, and does not hold up others.
///
/// # Errors
/// Returns the errors of the database; batches that are committed stay.
pub async fn start(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    ledger: &Ledger,
) -> Result<Vec<Started>, DbError> {
    let Ledger::Tables { store_id, .. } = ledger else { return Ok(Vec::new()) };
    if !predicate.mapping.retries_by_operator() || !predicate.retries.possible {
        return Ok(Vec::new());
    }
    let starter = Starter { database, predicate, ledger, store_id: *store_id };
    starter.drop_obsolete().await?;
    let mut all = Vec::new();
    for _ in 0..BATCHES {
        let started = match starter.batch(None).await {
            Ok(started) if started.len() as u64 >= u64::from(BATCH) => started,
            Ok(started) => {
                all.extend(started);
                break;
            }
            // Another batch uses the budget: it takes a moment.
            Err(NotStarted::Busy) => break,
            Err(refused) if refused.is_of_a_row() => starter.one_by_one().await?,
            Err(refused) => return Err(refused.into_error()),
        };
        all.extend(started);
    }
    Ok(all)
}

/// Why a batch was not started.
enum NotStarted {
    /// Another batch uses the budget.
    Busy,
    /// The new rows were not found.
    Unmatched,
    /// The database refused it.
    Error(DbError),
}

impl NotStarted {
    /// Reports whether other retries may be started nevertheless: the server answered.
    fn is_of_a_row(&self) -> bool {
        match self {
            Self::Busy => false,
            Self::Unmatched => true,
            Self::Error(error) => {
                error.answered() && !matches!(error, DbError::ReadOnly(_) | DbError::RowSecurity)
            }
        }
    }

    fn why(self) -> String {
        match self {
            Self::Error(error) => error.to_string(),
            Self::Busy | Self::Unmatched => UNMATCHED.to_owned(),
        }
    }

    fn into_error(self) -> DbError {
        match self {
            Self::Error(error) => error,
            Self::Busy | Self::Unmatched => DbError::InvalidMessage(UNMATCHED.to_owned()),
        }
    }
}

/// Starts retries of one store.
struct Starter<'a> {
    database: &'a Database,
    predicate: &'a StalenessPredicate<'a>,
    ledger: &'a Ledger,
    store_id: i64,
}

impl Starter<'_> {
    /// Drops the retries of executions that are no longer as they were left, and those beyond the budget, if they are not to wait.
    async fn drop_obsolete(&self) -> Result<(), DbError> {
        let m = self.predicate.mapping;
        let changed = format!(
            include_str!("drop.sql"),
            table = m.table(),
            id = m.id(),
            retried_id = id_of("retry.execution_id", m.id_type()),
            as_left = as_left(self.predicate),
        );
        let beyond = format!(include_str!("drop_beyond_budget.sql"), room = room(self.predicate, "$1"));
        let drops_beyond = self.predicate.retries.over_budget == OverBudget::Fail;
        let mut tx = self.database.write().await?;
        let mut dropped = 0;
        for sql in [Some(changed), drops_beyond.then_some(beyond)].into_iter().flatten() {
            let query = sqlx::query(AssertSqlSafe(sql)).bind(self.store_id).persistent(false);
            dropped += query.execute(&mut *tx).await?.rows_affected();
        }
        // Nothing is written if nothing is dropped.
        if dropped > 0 {
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        Ok(())
    }

    /// Starts one batch, or the retry of one execution.
    async fn batch(&self, only: Option<&str>) -> Result<Vec<Started>, NotStarted> {
        let work = async {
            let mut tx = self.database.write().await?;
            if !take_turn(&mut tx, self.predicate, self.store_id).await? {
                tx.rollback().await?;
                return Ok(None);
            }
            let batch = in_transaction(&mut tx, self.predicate, self.ledger, only).await?;
            if batch.unmatched || (batch.started.is_empty() && !batch.refused) {
                tx.rollback().await?;
            } else {
                tx.commit().await?;
            }
            Ok(Some(batch))
        };
        match self.database.within(work).await {
            Ok(Some(Batch { unmatched: true, .. })) => Err(NotStarted::Unmatched),
            Ok(Some(batch)) => Ok(batch.started),
            Ok(None) => Err(NotStarted::Busy),
            Err(error) => Err(NotStarted::Error(error)),
        }
    }

    /// Starts retries one by one after a batch was refused, and records why one is refused.
    async fn one_by_one(&self) -> Result<Vec<Started>, DbError> {
        let mut tx = self.database.read().await?;
        let sql = format!("{} SELECT execution_id FROM ready", ready(self.predicate, ALONE, ""));
        let query = self.predicate.bind(sqlx::query(AssertSqlSafe(sql))).bind(None::<&str>).persistent(false);
        let ids: Vec<String> = query.try_map(|row: PgRow| row.try_get(0)).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        let mut all = Vec::new();
        for id in ids {
            match self.batch(Some(&id)).await {
                Ok(started) => all.extend(started),
                Err(NotStarted::Busy) => break,
                Err(refused) if refused.is_of_a_row() => self.note_refused(&id, &refused.why()).await?,
                Err(refused) => return Err(refused.into_error()),
            }
        }
        Ok(all)
    }

    /// Records why a retry was refused, and when it is tried again.
    async fn note_refused(&self, id: &str, why: &str) -> Result<(), DbError> {
        let sql = format!(include_str!("refused.sql"), refused = refused("left($3, 1000)"));
        let mut tx = self.database.write().await?;
        let query = sqlx::query(AssertSqlSafe(sql)).bind(self.store_id).bind(id).bind(why);
        query.persistent(false).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Returns the condition that the row `execution` of a `retry` is as the operator left it.
fn as_left(predicate: &StalenessPredicate<'_>) -> String {
    let m = predicate.mapping;
    format!("{} AND {}", m.failed(), same_end("retry", &m.completed_at()))
}

/// Starts the next retries, or that of one execution, as part of `tx`.
async fn in_transaction(
    tx: &mut PgConnection,
    predicate: &StalenessPredicate<'_>,
    ledger: &Ledger,
    only: Option<&str>,
) -> Result<Batch, sqlx::Error> {
    let sql = statement(predicate, ledger);
    let query = predicate.bind(sqlx::query(AssertSqlSafe(sql))).bind(only).persistent(false);
    let mut batch = Batch::default();
    for row in query.fetch_all(tx).await? {
        batch.unmatched |= row.try_get::<bool, _>("unmatched")?;
        match read(&row)? {
            Some(started) => batch.started.push(started),
            None => batch.refused = true,
        }
    }
    Ok(batch)
}

/// Reads a retry that was started; `None`: the table refused it.
fn read(row: &PgRow) -> Result<Option<Started>, sqlx::Error> {
    let Some(next_id) = row.try_get("next_id")? else { return Ok(None) };
    Ok(Some(Started {
        id: row.try_get("execution_id")?,
        attempt: row.try_get("next_attempt")?,
        next_id,
        reason: row.try_get("reason")?,
    }))
}

/// Returns the assignments to a retry that the table refused, for the reason `fault`, an expression. The pause before it is tried again
/// doubles, up to an hour.
fn refused(fault: &str) -> String {
    format!(
        "tries = LEAST(retry.tries + 1, 1000), fault = {fault}, \
         due_at = statement_timestamp() + make_interval(secs => LEAST(3600, 15 * power(2, LEAST(retry.tries, 10))))"
    )
}

/// Returns the statement that starts retries. $1 to $4: the rules, $5: the execution, or NULL.
fn statement(predicate: &StalenessPredicate<'_>, ledger: &Ledger) -> String {
    let m = predicate.mapping;
    let ready = ready(predicate, BATCH, "FOR NO KEY UPDATE OF retry, execution SKIP LOCKED");
    if m.retry_method() == Some(RetryMethod::InPlace) {
        return format!(
            include_str!("set_back.sql"),
            ready = ready,
            table = m.table(),
            assignments = m.retry_assignments("ready.due_at"),
            id = m.id(),
            failed = m.failed(),
            ending = m.ending(),
            as_retried = Ending::Retried.as_str(),
            outcome = outcome(ledger, "ready", "'a trigger of the table does not let the row run again'"),
        );
    }
    // Of one job, one at a time.
    let wanted = if predicate.retries_one_by_one() {
        "SELECT * FROM (SELECT ready.*, row_number() OVER (PARTITION BY job_key ORDER BY due_at, id) AS turn FROM ready) AS turns WHERE turn = 1"
    } else {
        "SELECT * FROM ready"
    };
    format!(
        include_str!("new_execution.sql"),
        ready = ready,
        wanted = wanted,
        inserted = inserted(m),
        outcome = outcome(ledger, "numbered", "'a unique constraint of the table refuses the new row'"),
    )
}

/// Returns the part that records which of the rows of `wanted` are started, and why the others are not, and returns them.
fn outcome(ledger: &Ledger, wanted: &str, fault: &str) -> String {
    format!(
        include_str!("outcome.sql"),
        wanted = wanted,
        refused = refused(fault),
        retried = Ending::Retried.as_str(),
        started = STARTED,
        due_at = SHOWN_DUE,
        posted = outbox::posting(ledger, "$4"),
        login_path = LOGIN_PATH,
        action = announced(OnStale::Retry),
    )
}

/// Returns the first retries that may start, as common table expressions.
fn ready(predicate: &StalenessPredicate<'_>, limit: u32, lock: &str) -> String {
    let m = predicate.mapping;
    let (beats, gone) = predicate.worker_gone();
    let inserts = m.retry_method() == Some(RetryMethod::NewExecution);
    let copies = if inserts { format!(", {}", m.new_row().copies) } else { String::new() };
    // One that was refused waits even if its row could say when it starts.
    let startable = if m.has_schedule() { "retry.tries = 0 OR " } else { "" };
    let alone = predicate.retries_one_by_one().then(|| format!("AND NOT {}", m.has_active_sibling()));
    format!(
        include_str!("ready.sql"),
        rules = predicate.rules(),
        id = m.id(),
        job_shown = m.job_shown(),
        number = m.number(),
        started_at = clamp_timestamp(&m.started_at()),
        attempt = m.attempt(),
        copies = copies,
        table = m.table(),
        retried_id = id_of("retry.execution_id", m.id_type()),
        rules_of_row = predicate.joined(),
        beats = beats,
        as_left = as_left(predicate),
        startable = startable,
        gone = gone,
        room = room(predicate, "$4"),
        alone = alone.unwrap_or_default(),
        batch = limit,
        lock = lock,
    )
}
