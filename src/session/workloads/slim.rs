//! The fields of a Job or Pod that are read, and the state that they mean. Others may write much into such an object: no
//! more is read.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use serde::Deserialize;

use crate::api::conditions::clip;
use crate::db::workloads::State;

/// The longest reason that is kept, in bytes.
const WHY: usize = 200;

/// The label of a Pod with the name of its Job.
const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// A page of workloads.
#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) metadata: ListMeta,
    /// Null if there is none. A response without the field is not a list, and all workloads would count as gone.
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) items: Option<Vec<Slim>>,
}

/// A Job or a Pod.
#[derive(Deserialize)]
pub(super) struct Slim {
    pub(super) metadata: SlimMeta,
    #[serde(default)]
    status: SlimStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SlimMeta {
    pub(super) name: String,
    #[serde(default)]
    pub(super) uid: String,
    #[serde(default)]
    deletion_timestamp: Option<DateTime<Utc>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SlimStatus {
    phase: Option<String>,
    reason: Option<String>,
    conditions: Vec<SlimCondition>,
    container_statuses: Vec<SlimContainer>,
}

#[derive(Deserialize)]
struct SlimCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SlimContainer {
    state: SlimState,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SlimState {
    terminated: Option<SlimTerminated>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimTerminated {
    exit_code: i32,
    #[serde(default)]
    reason: Option<String>,
}

impl Slim {
    /// The state of a Job or a Pod: their statuses have nothing in common that could be mistaken.
    pub(super) fn state(&self, now: DateTime<Utc>) -> State {
        let succeeded = self.status.phase.as_deref() == Some("Succeeded");
        if succeeded || self.condition("Complete").is_some() || self.condition("SuccessCriteriaMet").is_some()
        {
            return State::Succeeded;
        }
        let failed = self.condition("Failed");
        if failed.is_some() || self.status.phase.as_deref() == Some("Failed") {
            let why = self.why().or_else(|| failed.and_then(|c| c.reason.clone()));
            return State::Ended(why.as_deref().map(text));
        }
        match self.metadata.deletion_timestamp {
            // The timestamp of a Pod already includes the grace period. A Job waits for its Pods, which may have long
            // ones.
            Some(at) if at < now && self.status.phase.is_some() => {
                let since = at.to_rfc3339_opts(SecondsFormat::Secs, true);
                let why = self.why().map_or(String::new(), |why| format!(", {why}"));
                State::Ended(Some(text(&format!("it should have terminated at {since}{why}"))))
            }
            _ => State::Alive,
        }
    }

    /// The Job that a Pod belongs to, and why the Pod failed, if it did.
    pub(super) fn failure_of_job(&self) -> Option<(&str, String)> {
        let job = self.metadata.labels.as_ref()?.get(JOB_NAME)?;
        let failed = self.status.phase.as_deref() == Some("Failed");
        Some((job, text(&self.why().filter(|_| failed)?)))
    }

    fn condition(&self, type_: &str) -> Option<&SlimCondition> {
        self.status.conditions.iter().find(|c| c.type_ == type_ && c.status == "True")
    }

    /// The reason why a Pod ended: its own reason, else its first failed container, else its disruption.
    fn why(&self) -> Option<String> {
        let disrupted = || self.condition("DisruptionTarget").and_then(|c| c.reason.clone());
        let failed = || {
            let ended = self.status.container_statuses.iter().filter_map(|c| c.state.terminated.as_ref());
            ended.into_iter().find(|ended| ended.exit_code != 0).map(|ended| match &ended.reason {
                Some(reason) => format!("{reason}, exit code {}", ended.exit_code),
                None => format!("exit code {}", ended.exit_code),
            })
        };
        self.status.reason.clone().or_else(failed).or_else(disrupted)
    }
}

/// Returns text that somebody else chose, shortened and on one line.
fn text(text: &str) -> String {
    clip(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(), WHY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(object: &serde_json::Value) -> State {
        let slim: Slim = serde_json::from_value(object.clone()).unwrap();
        slim.state("2026-11-01T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn an_answer_that_is_no_list_does_not_say_that_there_is_nothing() {
        let read = |answer: &str| {
            serde_json::from_str::<Page>(answer).map(|page| page.items.map(|items| items.len()))
        };
        assert_eq!(read(r#"{"metadata": {}, "items": []}"#).unwrap(), Some(0));
        assert_eq!(read(r#"{"metadata": {}, "items": null}"#).unwrap(), None);
        assert!(read(r#"{"metadata": {}}"#).is_err());
        assert!(read(r#"{"metadata": {}, "status": "Success"}"#).is_err());
    }

    #[test]
    fn how_a_workload_stands_and_why_it_ended() {
        let pod =
            |status: serde_json::Value| serde_json::json!({"metadata": {"name": "p"}, "status": status});
        let ended = |why: &str| State::Ended(Some(why.to_owned()));
        assert_eq!(state(&pod(serde_json::json!({"phase": "Running"}))), State::Alive);
        assert_eq!(state(&pod(serde_json::json!({"phase": "Succeeded"}))), State::Succeeded);
        let complete = serde_json::json!({"conditions": [{"type": "Complete", "status": "True"}]});
        assert_eq!(state(&pod(complete)), State::Succeeded);
        let killed = serde_json::json!({"phase": "Failed", "containerStatuses": [{"state": {"running": {}}},
            {"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]});
        assert_eq!(state(&pod(killed)), ended("OOMKilled, exit code 137"));
        let evicted = serde_json::json!({"phase": "Failed", "reason": "Evicted"});
        assert_eq!(state(&pod(evicted)), ended("Evicted"));
        let job = serde_json::json!({"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]});
        assert_eq!(state(&pod(job)), ended("BackoffLimitExceeded"));
        let mut lost = pod(serde_json::json!({"phase": "Running", "reason": "NodeLost"}));
        lost["metadata"]["deletionTimestamp"] = serde_json::json!("2026-11-01T10:31:00Z");
        assert_eq!(state(&lost), ended("it should have terminated at 2026-11-01T10:31:00Z, NodeLost"));
        lost["metadata"]["deletionTimestamp"] = serde_json::json!("2026-11-01T12:00:30Z");
        assert_eq!(state(&lost), State::Alive, "its grace period lasts");
    }
}
