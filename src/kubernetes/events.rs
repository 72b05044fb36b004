//! Events with names derived from their content: publishing the same fact twice leaves one Event. kube's `Recorder`
//! generates random names and merges Events with the same reason whatever their notes are.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use crate::api::conditions::{clip, one_line};
use crate::kubernetes::error::{ReconcileError, bounded};

/// The longest note that the API accepts, in bytes.
const NOTE_LIMIT: usize = 1_024;

/// The controller that Events name as their source.
const CONTROLLER: &str = "jobexec.dev/operator";

/// Something that happened, for `kubectl describe` and `kubectl events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The part of the Event's name that identifies the fact. Lower-case letters, digits and `-`.
    pub key: String,
    /// True if somebody should look at it.
    pub warning: bool,
    /// The reason, in one `PascalCase` word.
    pub reason: String,
    /// The action, in one `PascalCase` word.
    pub action: &'static str,
    /// The description, in a sentence.
    pub note: String,
}

/// Publishes `news` about the object; an existing Event of the same name stays unchanged.
pub async fn publish(client: &Client, about: &ObjectReference, news: News) -> Result<(), ReconcileError> {
    let namespace = about.namespace.clone().unwrap_or_default();
    let name = about.name.clone().unwrap_or_default();
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{}", clip(name, 180).trim_end_matches('…'), news.key)),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        type_: Some(if news.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(news.reason),
        action: Some(news.action.to_owned()),
        note: Some(clip(one_line(news.note), NOTE_LIMIT)),
        event_time: Some(MicroTime(Timestamp::now())),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(std::env::var("HOSTNAME").unwrap_or_else(|_| "jobexec".to_owned())),
        regarding: Some(about.clone()),
        ..Event::default()
    };
    match bounded(Api::<Event>::namespaced(client.clone(), &namespace).create(&PostParams::default(), &event))
        .await
    {
        Err(ReconcileError::Kube(error)) if matches!(*error, kube::Error::Api(ref s) if s.code == 409) => {
            Ok(())
        }
        other => other.map(|_| ()),
    }
}
