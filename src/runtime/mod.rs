//! The cluster side of the operator: caches, the stores that this replica manages, the work queue, and the overrides in
//! the objects.

pub mod cluster;
pub mod overrides;

pub use cluster::Cluster;
