//! The budget of a store for retries.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::api::retry::{OverBudget, StoreRetry};
use crate::db::staleness::RetryLimits;

/// The budget of a store for retries, by the executions that were last counted.
pub struct RetryBudget {
    /// The maximum number of retries within an hour.
    limit: AtomicI64,
    /// True once executions were counted: before, no retry is dropped.
    known: AtomicBool,
    over_budget: OverBudget,
}

impl RetryBudget {
    /// Creates the budget, before executions were counted.
    pub(super) fn of(spec: &StoreRetry) -> Self {
        Self {
            limit: AtomicI64::new(spec.retries_an_hour(None)),
            known: AtomicBool::new(false),
            over_budget: spec.over_budget,
        }
    }

    /// Takes note of how many executions started within the last hour, if that is known.
    pub fn update(&self, spec: &StoreRetry, recent: Option<i64>) {
        self.limit.store(spec.retries_an_hour(recent), Ordering::Relaxed);
        self.known.store(recent.is_some(), Ordering::Relaxed);
    }

    /// Returns the maximum number of retries within an hour.
    pub fn limit(&self) -> i64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Returns the limits for a store whose executions can be retried, or cannot.
    pub(super) fn limits(&self, possible: bool) -> RetryLimits {
        let known = self.known.load(Ordering::Relaxed);
        let over_budget = if known { self.over_budget } else { OverBudget::Hold };
        RetryLimits { possible, budget: Some(self.limit()), over_budget }
    }
}
