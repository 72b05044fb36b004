//! The faults of the operator's own tables that a session has met: they stop nothing, and the condition `AuditAvailable`
//! reports them.

use std::sync::PoisonError;

use crate::db::DbError;
use crate::db::own::{self, Fault};
use crate::session::session::Session;

impl Session {
    /// The reason why the operator's tables, which exist, accept no records at present, as far as the session has met
    /// one.
    pub fn fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps and counts the reason why something was not recorded; `None`: it was recorded.
    pub fn note_fault(&self, fault: Option<Fault>) {
        if let Some(fault) = fault {
            self.counters.failed(fault.reason());
            self.keep_fault(fault);
        }
    }

    /// Keeps the reason in an error that is already counted, if it has one.
    pub fn note_error(&self, error: &DbError) {
        if let DbError::Own(fault) = error {
            self.keep_fault(fault.clone());
        }
    }

    fn keep_fault(&self, fault: Fault) {
        let mut known = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref() != Some(&fault) {
            tracing::warn!(reason = fault.reason(), %fault, "what is done is not recorded");
        }
        *known = Some(fault);
    }

    /// Checks whether a known fault is repaired, and repairs it if this login may.
    ///
    /// # Errors
    /// Fails with errors that say nothing about the tables, for example if the server is unreachable.
    pub async fn check_fault(&self) -> Result<(), DbError> {
        if self.fault().is_none() || self.is_follower() || self.read_only {
            return Ok(());
        }
        let (database, ledger) = (&self.database, &self.ledger);
        let mended = async {
            match own::probe(database, ledger).await? {
                Some(_) if own::mend(database).await? => own::probe(database, ledger).await,
                found => Ok(found),
            }
        };
        let found = database.within(mended).await?;
        if found.is_none() {
            tracing::info!("what is done is recorded again");
        }
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(())
    }
}
