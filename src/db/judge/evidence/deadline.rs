//! `DeadlineExceeded`: the execution runs past its deadline.

use super::Kind;
use crate::db::judge::{Judge, Take};
use crate::db::reason::Reason;

pub(super) struct Deadline;

impl Kind for Deadline {
    fn reason(&self) -> Reason {
        Reason::DeadlineExceeded
    }

    fn source(&self) -> &'static str {
        "verdict.timeout_source"
    }

    fn stale(&self, judge: &Judge<'_>, take: Take) -> Vec<String> {
        judge.past_deadline(take)
    }
}
