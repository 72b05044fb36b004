//! Counts and deadlines of a store, read without changing it.

mod deadline_snapshot;
mod running_counts;
mod table_counts;

pub use deadline_snapshot::{DeadlineSnapshot, pulse};
pub use running_counts::{RunningCounts, Suspects, governed, live, running};
pub use table_counts::{IntegrityViolations, TableCounts, census, contradictions};
