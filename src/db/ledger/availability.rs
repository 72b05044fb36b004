//! The place where actions are recorded.

/// The place where actions are recorded, if they can be. Enforcement does not depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ledger {
    /// The operator's tables exist, with this id of the store's table.
    Tables {
        /// `jobexec.stores.store_id`.
        store_id: i64,
        /// True if there is an outbox that this login may write to.
        outbox: bool,
    },
    /// The operator's tables are not available, for this reason.
    Missing(String),
}
