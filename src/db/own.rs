//! Faults of the operator's own tables. What they refuse is never the fault of an execution: it is ended all the same, and
//! the store's condition `AuditAvailable` says what was not recorded and how to mend it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ledger::Ledger;
use super::record_fault::{FURTHEST, NUMBERED};
pub use super::record_fault::{Fault, is_fault};
use super::{Database, DbError};

/// Whether an error may come from the operator's own tables, although it does not name them.
fn may_be_ours(error: &DbError) -> bool {
    matches!(
        error,
        DbError::Privilege(_) | DbError::Statement(..) | DbError::DiskFull(_) | DbError::StatementTimeout(_)
    )
}

/// Tries to record, and keeps nothing of it. Returns what refuses the record, if something does.
///
/// # Errors
/// Those that say nothing of the tables, as where the server is away.
pub async fn probe(database: &Database, ledger: &Ledger) -> Result<Option<Fault>, DbError> {
    let Ledger::Tables { store_id, outbox } = ledger else { return Ok(None) };
    let records = [
        (
            "events",
            "INSERT INTO jobexec.events (at, store_id, execution_id, action, reason, source)
             VALUES (statement_timestamp(), $1, '', 'Probed', 'Probed', '')",
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

/// Sets the sequences of the operator's own tables to the highest number that is there, where this login may; none moves
/// back. Returns whether it may set any.
pub async fn mend(database: &Database) -> Result<bool, DbError> {
    let mut mended = false;
    let mut tx = database.write().await?;
    for (_, table, column) in NUMBERED {
        // By the index of each store's numbers: all of them may be many.
        let highest = match table {
            "stores" => format!("(SELECT max({column}) FROM jobexec.stores WHERE {column} < {FURTHEST})"),
            _ => format!(
                "(SELECT max(highest) FROM jobexec.stores AS s, LATERAL \
                  (SELECT max({column}) AS highest FROM jobexec.{table} WHERE store_id = s.store_id AND {column} < {FURTHEST}) AS l)"
            ),
        };
        let sql = format!(
            "SELECT CASE WHEN has_sequence_privilege(name, 'UPDATE')
                         THEN setval(name, GREATEST({highest}, nextval(name))) END IS NOT NULL
             FROM (SELECT pg_get_serial_sequence('jobexec.{table}', '{column}')::regclass AS name) AS sequence"
        );
        let query = sqlx::query_scalar::<_, bool>(sqlx::AssertSqlSafe(sql)).persistent(false);
        mended |= query.fetch_one(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(mended)
}

/// Where a piece of work records what it does: as it was asked to, until the tables turn out to be at fault.
pub(super) struct Records<'a> {
    database: &'a Database,
    state: Mutex<State>,
}

struct State {
    ledger: Ledger,
    /// Grows with each change, so that a statement that was begun before is only tried again.
    version: u32,
    /// Whether it was asked if errors that do not name the tables come from them.
    probed: bool,
    mended: bool,
    fault: Option<Fault>,
}

impl<'a> Records<'a> {
    pub(super) fn new(database: &'a Database, ledger: &Ledger) -> Self {
        let state = State { ledger: ledger.clone(), version: 0, probed: false, mended: false, fault: None };
        Self { database, state: Mutex::new(state) }
    }

    /// Where to record now, and as of which version that is.
    pub(super) fn ledger(&self) -> (u32, Ledger) {
        let state = self.state();
        (state.version, state.ledger.clone())
    }

    /// Why not all is recorded, if that is so.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.state().fault.clone()
    }

    /// Whether the operator's own tables are at fault for `error` of a statement that recorded as of `version`. Then it is
    /// to be tried again, as [`Self::ledger`] says by now: after the sequences were mended, else without the record.
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

    /// That they cannot be mended is no reason to stop.
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

/// What of a record is possible with the fault.
fn without(ledger: &Ledger, fault: &Fault) -> Ledger {
    match ledger {
        Ledger::Tables { store_id, outbox: true } if fault.is_of("outbox") => {
            Ledger::Tables { store_id: *store_id, outbox: false }
        }
        _ => Ledger::Missing(fault.to_string()),
    }
}

/// Does something and records it; where the operator's own tables refuse the record, without it. Returns also why not all
/// was recorded, if that is so.
///
/// # Errors
/// Those of the work itself.
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
