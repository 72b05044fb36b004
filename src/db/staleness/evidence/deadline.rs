//! `DeadlineExceeded`: the execution runs past its deadline.

use super::Kind;
use crate::db::reason::Reason;
use crate::db::staleness::{Selection, StalenessPredicate};

pub(super) struct Deadline;

impl Kind for Deadline {
    fn reason(&self) -> Reason {
        Reason::DeadlineExceeded
    }

    fn source(&self) -> &'static str {
        "verdict.timeout_source"
    }

    fn stale(&self, predicate: &StalenessPredicate<'_>, selection: Selection) -> Vec<String> {
        predicate.past_deadline(selection)
    }
}
