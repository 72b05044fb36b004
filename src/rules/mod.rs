//! The first half of the decision: compiles the requests of users to rules, which SQL queries apply to executions.
//! Pure: no I/O, no clock.
//!
//! - [`input`]: the settings of policies and `JobExecution` objects, in the terms of the store's table
//! - [`outage`]: detects workers that lost their connection rather than died
//! - [`compile`](fn@compile): resolves precedence, field by field, to [`Rule`]s and a [`StoreDefaults`]
//! - [`Routes`]: resolves the same precedence for notifications

mod bounds;
mod compile;
pub mod field;
pub mod input;
pub mod outage;
mod retry;
mod routes;
mod rule;
#[cfg(test)]
mod tests;

pub use compile::{Conflict, RuleSet, compile};
pub use input::{ComputedTimeout, ExecutionOverride, HistoryTimeout, Policy};
pub use retry::Retry;
pub use routes::Routes;
pub use rule::{Rule, Scope, Sourced, StoreDefaults, Timeout, UNLIMITED, Warn};

/// Returns the source of a rule field that a `JobExecution` of this name sets.
pub fn execution_source(name: &str) -> String {
    format!("JobExecution/{name}")
}

/// Returns the source of a rule field that an `ExecutionPolicy` of this name sets.
pub fn policy_source(name: &str) -> String {
    format!("ExecutionPolicy/{name}")
}

/// Returns the source of a rule field that an `ExecutionStore` of this name sets.
pub fn store_source(name: &str) -> String {
    format!("ExecutionStore/{name}")
}
