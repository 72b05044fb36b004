//! Finds who last requested something in the spec of an object, and when.

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use kube::api::ObjectMeta;

use crate::api::JobExecution;

/// The person or program that last requested something: the field manager of `spec.timeout`, `spec.extendBy` or
/// `spec.cancel`, which is all that an object shows.
pub fn actor(meta: &ObjectMeta) -> Option<String> {
    field_owner(meta)?.manager.clone()
}

/// The time of that request, to the second, by the clock of the API server.
pub fn requested_at(meta: &ObjectMeta) -> Option<DateTime<Utc>> {
    let time =
        field_owner(meta).and_then(|entry| entry.time.as_ref()).or(meta.creation_timestamp.as_ref())?;
    DateTime::from_timestamp(time.0.as_second(), 0)
}

/// The managed fields reduced to those that [`actor`] and [`requested_at`] read.
pub(crate) fn trimmed_field_owner(execution: &JobExecution) -> Option<Vec<ManagedFieldsEntry>> {
    let entry = field_owner(&execution.metadata).filter(|_| execution.spec.asks())?;
    let fields = FieldsV1(serde_json::json!({"f:spec": {"f:timeout": {}}}));
    Some(vec![ManagedFieldsEntry {
        manager: entry.manager.clone(),
        time: entry.time.clone(),
        fields_v1: Some(fields),
        ..ManagedFieldsEntry::default()
    }])
}

fn field_owner(meta: &ObjectMeta) -> Option<&ManagedFieldsEntry> {
    let entries = meta.managed_fields.as_deref().unwrap_or_default();
    let owns = |fields: &serde_json::Value| {
        ["f:timeout", "f:extendBy", "f:cancel"].iter().any(|field| !fields["f:spec"][field].is_null())
    };
    entries
        .iter()
        .filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| owns(&fields.0)))
        .max_by_key(|entry| entry.time.as_ref().map(|time| time.0))
}
