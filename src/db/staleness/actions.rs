//! The actions on stale executions. Each has a statement of its own, so that triggers of the table know which one it is.

use super::StalenessPredicate;
use crate::api::OnStale;

/// The actions that write to a row. A sweep takes the last first, so that what is not to be retried is not.
const WRITING: [OnStale; 3] = [OnStale::Retry, OnStale::Cancel, OnStale::Fail];

impl StalenessPredicate<'_> {
    /// Returns the actions that executions can have by the rules in effect: at least one.
    pub(in crate::db) fn actions(&self) -> Vec<OnStale> {
        let rules = self.effective_rules.rules.iter().filter_map(|rule| rule.on_stale.as_ref());
        let by_rules: Vec<OnStale> = rules
            .chain([&self.effective_rules.base.on_stale])
            .map(|sourced| sourced.value)
            .chain(self.instead_of_retries())
            .map(|action| self.feasible(action))
            .collect();
        let possible = |action: &OnStale| by_rules.contains(action) || *action == OnStale::Fail;
        WRITING.into_iter().filter(possible).collect()
    }

    /// Returns the predicate for the executions with this action only.
    pub(in crate::db) fn with_action(&self, action: OnStale) -> Self {
        // Where all have the same action, no row needs to be asked for its own.
        Self { action: (self.actions().len() > 1).then_some(action), ..*self }
    }

    /// Returns the action that follows from the action of a rule: a table that knows no retry or no cancellation fails instead.
    pub(super) fn feasible(&self, action: OnStale) -> OnStale {
        match action {
            OnStale::Cancel if !self.mapping.can_cancel() => OnStale::Fail,
            OnStale::Retry if !self.can_retry() => OnStale::Fail,
            other => other,
        }
    }

    /// Returns the condition, to be appended to others, that the action `column` leads to the action of this predicate.
    pub(super) fn wanted(&self, column: &str) -> String {
        match self.action {
            None => String::new(),
            // Whatever has no statement of its own is failed: also an action that the rules in memory do not have.
            Some(OnStale::Fail) => {
                let others = self.actions().into_iter().filter(|action| *action != OnStale::Fail);
                let texts: Vec<String> = others.map(|action| format!("'{}'", action.as_str())).collect();
                format!("AND {column} NOT IN ({})", texts.join(", "))
            }
            Some(wanted) => format!("AND {column} = '{}'", wanted.as_str()),
        }
    }
}
