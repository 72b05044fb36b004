//! Decide, first half: from what people wish to the rules that SQL judges by. Pure: no I/O, no clock.
//!
//! - [`wish`]: what policies and `JobExecution` objects say, once their texts are read;
//! - [`outage`]: whether workers whose heartbeats stay away were cut off;
//! - [`compile`](fn@compile): precedence, field by field, to [`Rule`]s and a [`Base`]; [`Routes`]: the same of who is told.

mod compile;
pub mod outage;
mod routes;
mod rule;
#[cfg(test)]
mod tests;
pub mod wish;

pub use compile::{Compiled, Conflict, compile};
pub use routes::Routes;
pub use rule::{Base, Rule, Said, Scope, Timeout, Warn};
pub use wish::{Dynamic, Figure, Policy, Wish};

/// How rules name the `JobExecution` that they come from.
pub fn execution_source(name: &str) -> String {
    format!("JobExecution/{name}")
}

/// How rules name the `ExecutionPolicy` that they come from.
pub fn policy_source(name: &str) -> String {
    format!("ExecutionPolicy/{name}")
}

/// How rules name the `ExecutionStore` that they come from.
pub fn store_source(name: &str) -> String {
    format!("ExecutionStore/{name}")
}
