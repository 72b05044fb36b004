//! Objects as watches deliver them, trimmed to the fields that the operator reads, and guarded: an object that cannot be
//! used does not stall the others, and takes no more memory than a name.

use std::borrow::Cow;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::boundary::{Place, caught_now};

/// The longest decoder error that is kept, in bytes: it may quote the object.
const ERROR_LIMIT: usize = 500;

/// A kind whose objects are cached.
pub trait Cached:
    Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
    + Clone
    + DeserializeOwned
    + Serialize
    + Debug
    + Send
    + Sync
    + 'static
{
    /// The most memory that one object may take, in bytes, as [`Self::cost`] estimates it.
    const OBJECT_LIMIT: u64;

    /// The variable that sets the budget of a namespace.
    const VARIABLE: &'static str;

    /// Drops the fields that the operator does not read.
    fn trim(&mut self);

    /// Estimates the memory that the trimmed object and everything derived from it take, in bytes.
    fn cost(&self) -> u64;
}

/// An object, or why it cannot be used.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Refused>);

/// An object that cannot be used.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The fields that identify the object; all others are dropped.
    pub metadata: ObjectMeta,
    /// The reason why it cannot be used.
    pub cause: Cause,
}

/// The reason why an object cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Cause {
    /// This version of the operator does not understand it.
    #[error("this object cannot be decoded: {0}")]
    Undecodable(String),
    /// It is too large by itself.
    #[error("this object takes {} KiB of the operator's memory, and one object may take {} KiB", cost / 1_024, limit / 1_024)]
    TooLarge {
        /// The memory that it takes, in bytes.
        cost: u64,
        /// The memory that one object may take, in bytes.
        limit: u64,
    },
    /// The older objects of its namespace use up the budget.
    #[error("the older objects of this kind use up what this namespace may take of the operator's memory, {} KiB", limit / 1_024)]
    OverBudget {
        /// The budget of the namespace, in bytes.
        limit: u64,
        /// The variable that sets the budget.
        variable: &'static str,
    },
}

impl Cause {
    /// The reason, for a condition.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Undecodable(_) => "InvalidObject",
            Self::TooLarge { .. } => "ObjectTooLarge",
            Self::OverBudget { .. } => "BudgetExceeded",
        }
    }

    /// The remedy, for a condition.
    pub fn remedy(&self) -> String {
        match self {
            Self::Undecodable(_) => "Correct it, or upgrade the operator".to_owned(),
            Self::TooLarge { .. } => "Shorten its lists and texts, or divide it into several".to_owned(),
            Self::OverBudget { variable, .. } => {
                format!("Delete or shorten objects of this namespace, or raise {variable} of the operator")
            }
        }
    }
}

impl<K: Cached> Guarded<K> {
    /// Returns the object reduced to its identity, with a reason.
    #[must_use]
    pub fn refused(&self, cause: Cause) -> Self {
        Self(Err(Refused { metadata: identity(self.meta()), cause }))
    }

    /// Estimates the memory that it takes, in bytes; 0 for a refused object.
    pub fn cost(&self) -> u64 {
        self.0.as_ref().map_or(0, K::cost)
    }
}

/// Reports whether version `a` of an object is newer than `b`. Versions that are not numbers cannot be compared, as with
/// an API server other than that of Kubernetes: any difference then counts as older.
pub fn newer(a: Option<&String>, b: Option<&String>) -> bool {
    let number = |version: Option<&String>| version.and_then(|version| version.parse::<u64>().ok());
    matches!((number(a), number(b)), (Some(a), Some(b)) if a > b)
}

/// For predicates: a hash that changes when an object becomes usable or unusable, or for another reason. Then it must be
/// reconciled.
#[allow(clippy::unnecessary_wraps, reason = "the signature is the predicate's")]
pub fn usable<K>(object: &Guarded<K>) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    object.0.as_ref().err().map(|refused| refused.cause.reason()).hash(&mut hasher);
    Some(hasher.finish())
}

/// The fields that identify an object.
fn identity(meta: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        generation: meta.generation,
        creation_timestamp: meta.creation_timestamp.clone(),
        ..ObjectMeta::default()
    }
}

/// The size of an object as JSON, in bytes.
pub(crate) fn json_len(object: &impl Serialize) -> u64 {
    struct Count(u64);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // An object that cannot be serialized did not come from JSON; it exceeds any limit.
    serde_json::to_writer(&mut count, object).map_or(u64::MAX, |()| count.0)
}

/// The metadata that identifies an object: no other field is kept while it is decoded.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Identity {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
}

/// An object of which only the identity is decoded.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Identified {
    metadata: Identity,
}

impl From<Identified> for ObjectMeta {
    fn from(Identified { metadata }: Identified) -> Self {
        let Identity { name, namespace, uid, resource_version, generation, creation_timestamp } = metadata;
        Self { name, namespace, uid, resource_version, generation, creation_timestamp, ..Self::default() }
    }
}

impl<'de, K: Cached> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Raw text, since a tree takes ten times as much memory.
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let decoded = caught_now(Place::Watch, || {
            let mut object = serde_json::from_str::<K>(raw.get()).map_err(|error| cut(error.to_string()))?;
            object.trim();
            Ok(object)
        });
        // A panic here would end the watch for this kind, again after each restart.
        let decoded = decoded.unwrap_or_else(|panicked| Err(panicked.to_string()));
        match decoded {
            Ok(object) => Ok(Self(Ok(object))),
            Err(error) => {
                let identified: Identified =
                    serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?;
                Ok(Self(Err(Refused { metadata: identified.into(), cause: Cause::Undecodable(error) })))
            }
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > ERROR_LIMIT {
        let end = (0..=ERROR_LIMIT).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &K::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &K::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|refused| &refused.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|refused| &mut refused.metadata, K::meta_mut)
    }
}

/// An object of kind `K` in a response of the API server, decoded only as far as its identity, however large it is.
#[derive(Clone, Debug)]
pub struct Named<K>(ObjectMeta, PhantomData<K>);

impl<'de, K> Deserialize<'de> for Named<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Identified::deserialize(deserializer)?.into(), PhantomData))
    }
}

impl<K: Resource> Resource for Named<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &K::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &K::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{ExecutionPolicy, ExecutionStore, JobExecution};

    fn decode<K: Cached>(object: &serde_json::Value) -> Guarded<K> {
        // Decodes as a watch does, with the kind of change before the object.
        let line = json!({"type": "ADDED"}).to_string().replace('}', &format!(",\"object\":{object}}}"));
        match serde_json::from_str::<kube::core::WatchEvent<Guarded<K>>>(&line).unwrap() {
            kube::core::WatchEvent::Added(object) => object,
            other => panic!("{other:?}"),
        }
    }

    fn heavy(spec: &serde_json::Value) -> serde_json::Value {
        let long = "x".repeat(100_000);
        json!({
            "apiVersion": "jobexec.dev/v1alpha1", "kind": "Any",
            "metadata": {
                "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 3,
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {"note": long, "jobexec.dev/resume": "now"},
                "labels": {"note": "x", "jobexec.dev/store": "jobs"},
                "finalizers": [long],
                "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": long, "uid": long}],
                "managedFields": [{"manager": "me", "operation": "Apply", "fieldsV1": {"f:spec": {"f:timeout": {}, "f:x": {long.clone(): {}}}}}],
            },
            "spec": spec,
        })
    }

    #[test]
    fn what_nothing_reads_is_not_kept() {
        let execution = decode::<JobExecution>(&heavy(
            &json!({"storeRef": {"name": "jobs"}, "executionId": "1", "timeout": "1h"}),
        ));
        let policy =
            decode::<ExecutionPolicy>(&heavy(&json!({"storeRef": {"name": "jobs"}, "timeout": "1h"})));
        let store = decode::<ExecutionStore>(&heavy(&json!({"connection": {"secretRef": {"name": "db"}}})));
        assert!(json_len(execution.0.as_ref().unwrap()) < 1_000);
        assert!(json_len(policy.0.as_ref().unwrap()) < 1_000);
        assert!(json_len(store.0.as_ref().unwrap()) < 3_000);
        assert_eq!(store.meta().annotations.as_ref().unwrap().len(), 1);
        assert_eq!(execution.meta().labels.as_ref().unwrap().len(), 1);
        assert_eq!(crate::kubernetes::field_owner::actor(execution.meta()).as_deref(), Some("me"));
    }

    #[test]
    fn of_an_object_that_cannot_be_decoded_only_the_identity_is_kept() {
        let object = heavy(&json!({"storeRef": {"name": "jobs"}, "onStale": "y".repeat(100_000)}));
        let Err(refused) = decode::<ExecutionPolicy>(&object).0 else { panic!("it was decoded") };
        assert!(refused.cause.to_string().len() < 700, "{}", refused.cause);
        assert_eq!(refused.cause.reason(), "InvalidObject");
        assert!(json_len(&refused.metadata) < 300);
        assert_eq!((refused.metadata.uid.as_deref(), refused.metadata.generation), (Some("u"), Some(3)));
    }
}
