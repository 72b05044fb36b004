//! Where it is recorded what is done.

/// Whether what is done can be recorded. Enforcement does not depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ledger {
    /// The tables are there; this is the id of the store's table in them.
    Tables {
        /// `jobexec.stores.store_id`.
        store_id: i64,
        /// Whether there is an outbox that this login may write to.
        outbox: bool,
    },
    /// They are not, for this reason.
    Missing(String),
}
