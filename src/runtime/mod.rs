//! The cluster side of the operator: caches, which stores this replica manages, the work queue, and what the objects ask for.

pub mod cluster;
pub mod overrides;

pub use cluster::Cluster;
