//! Reports in the status of objects that they cannot be used, as after a downgrade or over budget.

use std::collections::HashMap;
use std::time::Duration;

use chrono::DateTime;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::status;
use crate::api::JobExecution;
use crate::kubernetes::error::bounded;
use crate::kubernetes::guarded::{Named, Refused};
use crate::kubernetes::managers::REFUSAL_MANAGER;
use crate::runtime::cluster::Cluster;

/// The pause after a failed report.
const AGAIN: Duration = Duration::from_secs(30);

/// The reported objects, by UID: the reason, and the resource version at that time.
pub(super) type Told = HashMap<String, (&'static str, Option<String>)>;

/// Reports each object once. Returns when to try again, if a report failed. `None` and an empty `told` mean that there is
/// no such object.
pub(super) async fn tell(cluster: &Cluster, namespace: &str, told: &mut Told) -> Option<Duration> {
    let api: Api<Named<JobExecution>> = Api::namespaced(cluster.client.clone(), namespace);
    let mut before = std::mem::take(told);
    let mut again = None;
    for Refused { metadata, cause } in cluster.undecodable_executions(namespace) {
        let uid = metadata.uid.clone().unwrap_or_default();
        let now = (cause.reason(), metadata.resource_version.clone());
        if before.remove(&uid).is_some_and(|before| before == now) {
            told.insert(uid, now);
            continue;
        }
        tracing::warn!(execution = metadata.name, error = %cause, "a JobExecution cannot be used");
        // The time is the same for every writer, so that two operators do not overwrite each other in turn.
        let since =
            metadata.creation_timestamp.as_ref().and_then(|t| DateTime::from_timestamp(t.0.as_second(), 0));
        let conditions = status::refused(&cause, metadata.generation, since.unwrap_or_default());
        let patch = json!({
            "apiVersion": JobExecution::api_version(&()), "kind": JobExecution::kind(&()),
            "metadata": {"uid": metadata.uid}, "status": {"conditions": conditions},
        });
        let params = PatchParams::apply(REFUSAL_MANAGER).force();
        let name = metadata.name.unwrap_or_default();
        match bounded(api.patch_status(&name, &params, &Patch::Apply(patch))).await {
            Ok(written) => {
                told.insert(uid, (cause.reason(), written.resource_version()));
            }
            Err(error) => {
                tracing::warn!(execution = name, %error, "the execution's status could not be written");
                again = Some(AGAIN);
            }
        }
    }
    again
}
