//! The custom resources of the API group `jobexec.dev`. `crds/*.yaml` is generated from these types. Their doc comments
//! become the output of `kubectl explain`, so write them for its readers.

pub mod conditions;
pub mod duration;
pub mod execution;
pub mod filter;
pub mod identifier;
pub mod labels;
pub mod names;
pub mod notifications;
pub mod policy;
pub mod retry;
pub mod store;
pub mod table;

pub use duration::{Duration, InvalidDuration, InvalidLimit, Limit};
pub use execution::{JobExecution, JobExecutionSpec, JobExecutionStatus, Phase};
pub use policy::{ExecutionPolicy, ExecutionPolicySpec, ExecutionPolicyStatus, OnStale};
pub use store::{ExecutionStore, ExecutionStoreSpec, ExecutionStoreStatus, Mode};
pub use table::{Columns, Statuses, Table};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// The annotation of an `ExecutionStore` that requests a sweep now. Each new value requests one.
pub const SWEEP_REQUESTED: &str = "jobexec.dev/sweep-requested";

/// The annotation of an `ExecutionStore` that closes its open circuit breaker. Each new value does so once.
pub const RESUME: &str = "jobexec.dev/resume";

/// The annotation of an `ExecutionStore` that makes it take over the records that another store left for the same
/// table, or delete them if the value starts with `discard`. Each new value does so once.
pub const ADOPT: &str = "jobexec.dev/adopt";

/// Returns all custom resource definitions of this operator, in installation order.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![ExecutionStore::crd(), ExecutionPolicy::crd(), JobExecution::crd()]
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Collects the paths of all fields in `schema` that have no size limit.
    fn unbounded(path: &str, schema: &Value, found: &mut Vec<String>) {
        let has = |key: &str| !schema[key].is_null();
        let is_unbounded = match schema["type"].as_str() {
            Some("string") => !has("maxLength") && !has("enum"),
            Some("array") => !has("maxItems"),
            Some("object") => !has("properties") && !has("maxProperties"),
            // The validation rule of each such field limits the text.
            None if schema["x-kubernetes-int-or-string"] == true => !has("x-kubernetes-validations"),
            _ => false,
        };
        if is_unbounded {
            found.push(path.to_owned());
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            unbounded(&format!("{path}.{name}"), field, found);
        }
        if has("items") {
            unbounded(&format!("{path}[]"), &schema["items"], found);
        }
    }

    #[test]
    fn every_spec_field_has_a_size_limit() {
        let mut found = Vec::new();
        for crd in crds() {
            let crd = serde_json::to_value(crd).unwrap();
            let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
            unbounded(crd["spec"]["names"]["kind"].as_str().unwrap(), spec, &mut found);
        }
        assert_eq!(found, Vec::<String>::new());
    }
}
