//! Objects that cannot be decoded, as after a downgrade, are told so.

use std::collections::HashMap;
use std::time::Duration;

use chrono::DateTime;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::json;

use super::verdict;
use crate::api::JobExecution;
use crate::controllers::{Context, FIELD_MANAGER, bounded};

/// The pause after one could not be told.
const AGAIN: Duration = Duration::from_secs(30);

/// Which of them were told, by UID, and the version of the object then.
pub(super) type Told = HashMap<String, Option<String>>;

/// Tells each once. Returns when to try again, if some could not be told; `None` with nothing told: there are none.
pub(super) async fn tell(context: &Context, namespace: &str, told: &mut Told) -> Option<Duration> {
    let resource = ApiResource::erase::<JobExecution>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &resource);
    let mut before = std::mem::take(told);
    let mut again = None;
    for invalid in context.unreadable_executions(namespace) {
        let metadata = invalid.metadata;
        let uid = metadata.uid.clone().unwrap_or_default();
        if let Some(version) = before.remove(&uid).filter(|version| *version == metadata.resource_version) {
            told.insert(uid, version);
            continue;
        }
        tracing::warn!(execution = metadata.name, error = invalid.error, "a JobExecution cannot be decoded");
        // The same whoever writes it: two operators are not to take turns.
        let since =
            metadata.creation_timestamp.as_ref().and_then(|t| DateTime::from_timestamp(t.0.as_second(), 0));
        let status = verdict::undecodable(&invalid.error, metadata.generation, since.unwrap_or_default());
        let patch = json!({
            "apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": {"uid": metadata.uid}, "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let name = metadata.name.unwrap_or_default();
        match bounded(api.patch_status(&name, &params, &Patch::Apply(patch))).await {
            Ok(written) => {
                told.insert(uid, written.metadata.resource_version);
            }
            Err(error) => {
                tracing::warn!(execution = name, %error, "the execution's status could not be written");
                again = Some(AGAIN);
            }
        }
    }
    again
}
