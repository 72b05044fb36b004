//! What a session knows of faults of the operator's own tables: they hold up nothing, and the condition `AuditAvailable` says so.

use std::sync::PoisonError;

use crate::db::DbError;
use crate::db::own::{self, Fault};
use crate::session::session::Session;

impl Session {
    /// Why the operator's tables, which are there, take no record at present, as far as that was met.
    pub fn fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes why something was not recorded, and counts it; `None`: it was.
    pub fn note_fault(&self, fault: Option<Fault>) {
        if let Some(fault) = fault {
            self.tally.failed(fault.reason());
            self.keep_fault(fault);
        }
    }

    /// Notes the same of an error that is counted already, if it says so.
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

    /// Finds out whether a fault that was met is mended, and mends it where this login may.
    ///
    /// # Errors
    /// Those that say nothing of the tables, as where the server is away.
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
