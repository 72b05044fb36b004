//! The reconcilers. Each is a pipeline: observe, decide, apply, publish.

pub mod execution;
pub mod policy;
mod run;
mod snapshot;
pub mod store;

pub use run::run;
