//! Remembers whether people were notified of a problem and not yet of its end.

use std::sync::atomic::AtomicBool;

/// True if people may know of a problem: they may until the database says otherwise.
pub(super) struct ProblemNotified(pub(super) AtomicBool);

impl Default for ProblemNotified {
    fn default() -> Self {
        Self(AtomicBool::new(true))
    }
}
