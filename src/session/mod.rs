//! The open session of a store: credentials, claim, rules in effect, counts, and the registry of all sessions.

pub mod context;
pub mod counts;
pub mod credentials;
mod fault;
pub mod follower;
pub mod handle;
pub mod not_ready;
pub mod records;
pub mod retry_budget;
pub mod rules;
#[allow(clippy::module_inception, reason = "the session itself")]
pub mod session;
mod sync_rules;
pub mod workloads;

pub use context::Context;
