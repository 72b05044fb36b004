//! The custom resources of the group `jobexec.dev`. These types are the source of `crds/*.yaml`; their doc
//! comments become the texts of `kubectl explain`, so they are written for that reader.

pub mod conditions;
pub mod duration;
pub mod execution;
pub mod names;
pub mod notifications;
pub mod policy;
pub mod store;
pub mod table;

pub use duration::{Duration, InvalidDuration};
pub use execution::{JobExecution, JobExecutionSpec, JobExecutionStatus, Phase};
pub use policy::{ExecutionPolicy, ExecutionPolicySpec, ExecutionPolicyStatus, OnTimeout};
pub use store::{ExecutionStore, ExecutionStoreSpec, ExecutionStoreStatus, Mode};
pub use table::{Columns, Statuses, Table};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// The annotation of an `ExecutionStore` that asks for a sweep now: any new value does.
pub const SWEEP_REQUESTED: &str = "jobexec.dev/sweep-requested";

/// The annotation of an `ExecutionStore` whose breaker is open that lets the operator go on: any new value does.
pub const RESUME: &str = "jobexec.dev/resume";

/// Every custom resource definition of this operator, in the order in which to install them.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![ExecutionStore::crd(), ExecutionPolicy::crd(), JobExecution::crd()]
}
