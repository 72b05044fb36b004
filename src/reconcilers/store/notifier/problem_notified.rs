//! Whether people were notified of a problem, and not yet that it is over.

use std::sync::atomic::AtomicBool;

/// Whether people may know of trouble: they may until the database says that they do not.
pub(super) struct ProblemNotified(pub(super) AtomicBool);

impl Default for ProblemNotified {
    fn default() -> Self {
        Self(AtomicBool::new(true))
    }
}
