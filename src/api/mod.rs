//! The custom resources of the group `jobexec.dev`. These types are the source of `crds/*.yaml`; their doc
//! comments become the texts of `kubectl explain`, so they are written for that reader.

pub mod conditions;
pub mod duration;
pub mod execution;
pub mod filter;
pub mod names;
pub mod notifications;
pub mod policy;
pub mod store;
pub mod table;

pub use duration::{Duration, InvalidDuration};
pub use execution::{JobExecution, JobExecutionSpec, JobExecutionStatus, Phase};
pub use policy::{ExecutionPolicy, ExecutionPolicySpec, ExecutionPolicyStatus, OnStale};
pub use store::{ExecutionStore, ExecutionStoreSpec, ExecutionStoreStatus, Mode};
pub use table::{Columns, Statuses, Table};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// The annotation of an `ExecutionStore` that asks for a sweep now: any new value does.
pub const SWEEP_REQUESTED: &str = "jobexec.dev/sweep-requested";

/// The annotation of an `ExecutionStore` whose breaker is open that lets the operator go on: any new value does.
pub const RESUME: &str = "jobexec.dev/resume";

/// The annotation of an `ExecutionStore` that has it take over what another store has left for its table, or drop that where the
/// value begins with `discard`: any new value does.
pub const ADOPT: &str = "jobexec.dev/adopt";

/// Every custom resource definition of this operator, in the order in which to install them.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![ExecutionStore::crd(), ExecutionPolicy::crd(), JobExecution::crd()]
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// What in a schema has no end: its paths.
    fn unbounded(path: &str, schema: &Value, found: &mut Vec<String>) {
        let has = |key: &str| !schema[key].is_null();
        let endless = match schema["type"].as_str() {
            Some("string") => !has("maxLength") && !has("enum"),
            Some("array") => !has("maxItems"),
            Some("object") => !has("properties") && !has("maxProperties"),
            // The rule of each bounds the text.
            None if schema["x-kubernetes-int-or-string"] == true => !has("x-kubernetes-validations"),
            _ => false,
        };
        if endless {
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
    fn nothing_in_a_spec_is_without_a_limit() {
        let mut found = Vec::new();
        for crd in crds() {
            let crd = serde_json::to_value(crd).unwrap();
            let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
            unbounded(crd["spec"]["names"]["kind"].as_str().unwrap(), spec, &mut found);
        }
        assert_eq!(found, Vec::<String>::new());
    }
}
