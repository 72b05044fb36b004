//! Calls to the API server and caches of its objects, independent of what the objects mean.

pub mod backoff;
pub mod budget;
pub mod cached;
pub mod error;
pub mod events;
pub mod failures;
pub mod field_owner;
pub mod guarded;
pub mod managers;
pub mod queue;
pub mod scope;
pub mod secret;
pub mod selector;
pub mod watching;

pub use backoff::backoff;
pub use cached::Budgets;
pub use scope::Scope;
