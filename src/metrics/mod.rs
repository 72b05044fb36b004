//! Metrics for Prometheus.
//!
//! - [`Metrics`] counts what the whole operator does, [`StoreCounters`] what it does to one store: reconcilers report facts to them
//!   and do not know the names of metrics;
//! - a [`Snapshot`] is the current state of stores and policies, from the same source as conditions, so that both agree and
//!   deleted objects have no series;
//! - `exposition` encodes everything; `stores`, `enforcement`, `policies`, `caches`, `replica` and `process` contain the names
//!   and help texts.
//!
//! Labels are bounded: names of stores and policies, and words of the code; never a job or an execution.

mod caches;
mod enforcement;
mod exposition;
mod operator;
mod page;
mod policies;
mod process;
mod replica;
mod snapshot;
mod store_counters;
mod stores;

pub use exposition::{Format, text};
pub use operator::Metrics;
pub use snapshot::{CacheNow, Done, PolicyNow, Pool, ReplicaNow, Snapshot, StoreSnapshot};
pub use store_counters::{End, StoreCounters};
