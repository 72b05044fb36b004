//! Writes the status of policies.

use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::{Api, Client};
use serde::Serialize;
use serde_json::json;

use crate::api::{ExecutionPolicy, ExecutionPolicyStatus};
use crate::kubernetes::error::{ReconcileError, bounded};
use crate::kubernetes::guarded::{Named, Refused};
use crate::kubernetes::managers::{FIELD_MANAGER, REFUSAL_MANAGER};

use super::status;

/// Writes the status.
pub(super) async fn publish(
    client: &Client,
    metadata: &ObjectMeta,
    status: &ExecutionPolicyStatus,
) -> Result<(), ReconcileError> {
    apply(client, metadata, FIELD_MANAGER, status).await
}

/// Writes the condition of an object that cannot be used.
pub(super) async fn unusable(client: &Client, refused: &Refused) -> Result<(), ReconcileError> {
    let generation = refused.metadata.generation;
    let conditions = status::refused(&refused.cause, generation, chrono::Utc::now());
    let status = json!({"observedGeneration": generation, "conditions": conditions});
    apply(client, &refused.metadata, REFUSAL_MANAGER, &status).await
}

async fn apply(
    client: &Client,
    metadata: &ObjectMeta,
    manager: &str,
    status: &(impl Serialize + Sync),
) -> Result<(), ReconcileError> {
    let resource = kube::api::ApiResource::erase::<ExecutionPolicy>(&());
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let api: Api<Named<ExecutionPolicy>> = Api::namespaced(client.clone(), &namespace);
    let patch = json!({
        "apiVersion": resource.api_version, "kind": resource.kind,
        // An object created again under the same name must not get the status of the old one.
        "metadata": {"uid": metadata.uid},
        "status": status,
    });
    let params = PatchParams::apply(manager).force();
    bounded(api.patch_status(metadata.name.as_deref().unwrap_or_default(), &params, &Patch::Apply(patch)))
        .await?;
    Ok(())
}
