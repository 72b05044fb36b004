//! The statuses and Events of a namespace, as a text to compare.

use std::collections::BTreeMap;

use jobexec_operator::api::{ExecutionPolicy, ExecutionStore, JobExecution};
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde::Serialize;
use serde_json::{Value, json};

use super::redact::Redaction;
use crate::support::World;

/// The statuses of all objects of the operator, by kind and name.
pub(super) async fn statuses(world: &World, redaction: &Redaction) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for store in world.api::<ExecutionStore>().list(&ListParams::default()).await.unwrap() {
        all.insert(format!("ExecutionStore/{}", store.name_any()), shown(&store.status));
    }
    for policy in world.api::<ExecutionPolicy>().list(&ListParams::default()).await.unwrap() {
        all.insert(format!("ExecutionPolicy/{}", policy.name_any()), shown(&policy.status));
    }
    for execution in world.api::<JobExecution>().list(&ListParams::default()).await.unwrap() {
        all.insert(format!("JobExecution/{}", execution.name_any()), shown(&execution.status));
    }
    all.into_iter().map(|(name, status)| (name, redaction.of(&status))).collect()
}

/// A status with its conditions by type: each has a time at which it changed, which is a time of the test, and the
/// generation of the status.
fn shown(status: &impl Serialize) -> Value {
    let mut status = json!(status);
    let generation = status["observedGeneration"].clone();
    let mut conditions = BTreeMap::new();
    for condition in status["conditions"].as_array().into_iter().flatten() {
        assert!(condition["lastTransitionTime"].is_string(), "{condition}");
        let text = |field: &str| condition[field].as_str().unwrap().to_owned();
        let mut shown = format!("{}/{}: {}", text("status"), text("reason"), text("message"));
        if condition["observedGeneration"] != generation {
            shown.push_str(&format!(" (generation {})", condition["observedGeneration"]));
        }
        conditions.insert(text("type"), shown);
    }
    status["conditions"] = json!(conditions);
    status
}

/// The Events, by kind and name of their object. Their times are those of the test, and their names derive from their
/// content.
pub(super) async fn events(world: &World, redaction: &Redaction) -> BTreeMap<String, Vec<Value>> {
    let mut all = BTreeMap::<String, Vec<Value>>::new();
    for event in world.events().await {
        let about = event.regarding.unwrap_or_default();
        let about = format!("{}/{}", about.kind.unwrap_or_default(), about.name.unwrap_or_default());
        all.entry(about).or_default().push(redaction.of(&json!({
            "type": event.type_, "reason": event.reason, "action": event.action, "note": event.note,
            "reportingController": event.reporting_controller,
        })));
    }
    for events in all.values_mut() {
        events.sort_by_key(Value::to_string);
    }
    all
}

pub(super) fn yaml(value: &impl Serialize) -> String {
    serde_saphyr::to_string(value).unwrap()
}
