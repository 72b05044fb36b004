//! Faults of the operator's own tables. If they reject a record, the execution is not at fault: it is ended nevertheless, and the
//! store's condition `AuditAvailable` reports what was not recorded and how to fix it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ledger::Ledger;
use super::record_fault::{FURTHEST, NUMBERED};
pub use super::record_fault::{Fault, is_fault};
use super::{Database, DbError};

/// Reports whether an error may come from the operator's own tables although it does not name them.
fn may_be_ours(error: &DbError) -> bool {
    matches!(
        error,
        DbError::Privilege(_) | DbError::Statement(..) | DbError::DiskFull(_) | DbError::StatementTimeout(_)
    )
}

/// Tries to write a record and rolls it back. Returns the fault that rejects the record, if there is one.
///
/// # Errors
/// Returns errors that say nothing about the tables, for example if the server is unreachable.
pub async fn probe(database: &Database, ledger: &Ledger) -> Result<Option<Fault>, DbError> {
    let Ledger::Tables { store_id, outbox } = ledger else { return Ok(None) };
    let records = [
        (
            "events",
            "INSERT INTO jobexec.events (at, store_id, execution_id, action, reason, source)
             VALUES (statement_timestamp(), $1, '', 'Probed', 'Probed', '')",
        ),
        (
            "retries",
            "INSERT INTO jobexec.retries (store_id, execution_id, attempt, reason, source, due_at, waits, forced, tries)
             VALUES ($1, '', 1, 'Probed', '', statement_timestamp(), false, false, 0)",
        ),
        (
            "sweeps",
            "INSERT INTO jobexec.sweeps (sweep_id, store_id, trigger, started_at, failed)
             VALUES (gen_random_uuid(), $1, 'Probed', statement_timestamp(), 0)",
        ),
        (
            "outbox",
            "INSERT INTO jobexec.outbox (store_id, at, event_ids) VALUES ($1, statement_timestamp(), '{}')",
        ),
        (
            "messages",
            "INSERT INTO jobexec.messages (message_id, store_id, channel, recipient, message, created_at, attempts, next_attempt_at)
             VALUES (gen_random_uuid(), $1, '', '', '{}', statement_timestamp(), 0, statement_timestamp())",
        ),
    ];
    let wanted = records.into_iter().filter(|(table, _)| *outbox || !["outbox", "messages"].contains(table));
    for (table, record) in wanted {
        let mut tx = database.write().await?;
        let tried = sqlx::query(record).bind(store_id).persistent(false).execute(&mut *tx).await;
        tx.rollback().await?;
        match tried.map_err(DbError::from) {
            Ok(_) => {}
            Err(DbError::Own(fault)) => return Ok(Some(fault)),
            Err(error) if may_be_ours(&error) => {
                return Ok(Some(Fault::refused(table, error.to_string())));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Sets the sequences of the operator's own tables to the highest existing number if this login may; none moves back. Returns
/// whether the login may set any.
pub async fn mend(database: &Database) -> Result<bool, DbError> {
    let mut mended = false;
    let mut tx = database.write().await?;
    for (_, table, column) in NUMBERED {
        // Uses the index on each store's numbers, because reading all of them may be slow.
        let highest = match table {
            "stores" => format!("(SELECT max({column}) FROM jobexec.stores WHERE {column} < {FURTHEST})"),
            _ => format!(
                "(SELECT max(highest) FROM jobexec.stores AS store, LATERAL
                  (SELECT max({column}) AS highest FROM jobexec.{table}
                   WHERE store_id = store.store_id AND {column} < {FURTHEST}) AS of_store)"
            ),
        };
        let sql = format!(include_str!("own/mend.sql"), highest = highest, table = table, column = column);
        let query = sqlx::query_scalar::<_, bool>(sqlx::AssertSqlSafe(sql)).persistent(false);
        mended |= query.fetch_one(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(mended)
}

/// The ledger that a task records to: the requested one, until the tables turn out to be at fault.
pub(super) struct Records<'a> {
    database: &'a Database,
    state: Mutex<State>,
}

struct State {
    ledger: Ledger,
    /// Grows with each change, so that a statement that began before the change is only tried again.
    version: u32,
    /// True once the tables were probed for errors that do not name them.
    probed: bool,
    mended: bool,
    fault: Option<Fault>,
}

impl<'a> Records<'a> {
    pub(super) fn new(database: &'a Database, ledger: &Ledger) -> Self {
        let state = State { ledger: ledger.clone(), version: 0, probed: false, mended: false, fault: None };
        Self { database, state: Mutex::new(state) }
    }

    /// Returns the ledger to record to now, and its version.
    pub(super) fn ledger(&self) -> (u32, Ledger) {
        let state = self.state();
        (state.version, state.ledger.clone())
    }

    /// Returns the reason if not everything is recorded.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.state().fault.clone()
    }

    /// Reports whether the operator's own tables caused `error` in a statement that recorded with the ledger of `version`. If so,
    /// the caller tries again with the present [`Self::ledger`]: after the sequences were fixed, or else without the record.
    pub(super) async fn at_fault(&self, version: u32, error: &DbError) -> Result<bool, DbError> {
        let (now, ledger) = self.ledger();
        if now != version {
            return Ok(true);
        }
        if matches!(ledger, Ledger::Missing(_)) {
            return Ok(false);
        }
        let fault = match error {
            DbError::Own(fault) => Some(fault.clone()),
            error if may_be_ours(error) && !std::mem::replace(&mut self.state().probed, true) => {
                probe(self.database, &ledger).await?
            }
            _ => None,
        };
        let Some(fault) = fault else { return Ok(false) };
        let tried = std::mem::replace(&mut self.state().mended, true);
        let mended = !tried && fault.is_sequence_behind() && self.mend().await;
        let mut state = self.state();
        if state.version == version {
            state.version += 1;
            if !mended {
                state.ledger = without(&ledger, &fault);
                state.fault.get_or_insert(fault);
            }
        }
        Ok(true)
    }

    /// Sets the sequences. A failure is no reason to stop.
    async fn mend(&self) -> bool {
        match mend(self.database).await {
            Ok(mended) => mended,
            Err(error) => {
                tracing::warn!(%error, "sequences of the schema jobexec could not be set");
                false
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the part of the ledger that works despite the fault.
fn without(ledger: &Ledger, fault: &Fault) -> Ledger {
    match ledger {
        Ledger::Tables { store_id, outbox: true } if fault.is_of("outbox") => {
            Ledger::Tables { store_id: *store_id, outbox: false }
        }
        _ => Ledger::Missing(fault.to_string()),
    }
}

/// Does the work and records it, or does it without the record if the operator's own tables reject the record. Also returns the
/// reason if not everything was recorded.
///
/// # Errors
/// Returns the errors of the work itself.
pub(super) async fn recorded<T, F>(
    database: &Database,
    ledger: &Ledger,
    work: impl Fn(Ledger) -> F,
) -> Result<(T, Option<Fault>), DbError>
where
    F: Future<Output = Result<T, DbError>>,
{
    let records = Records::new(database, ledger);
    loop {
        let (version, ledger) = records.ledger();
        match work(ledger).await {
            Err(error) if records.at_fault(version, &error).await? => {}
            done => return Ok((done?, records.fault())),
        }
    }
}
