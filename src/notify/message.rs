//! What a message tells, as it is kept until it is delivered, sent to webhooks and given to templates.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::notifications::Topic;

/// How many executions a message names.
pub const NAMED: usize = 50;

/// What happened in one store since the message before, for one who is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// The same for every attempt to deliver it, so that whoever gets it twice can tell.
    pub id: Uuid,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// The namespace of the store.
    pub namespace: String,
    /// The name of the store.
    pub store: String,
    /// The channel that it goes to.
    pub channel: String,
    /// The owner whose executions it tells of; `None`: it tells of everybody's.
    pub owner: Option<String>,
    /// How many things happened of each topic: those that did, in the order of [`Topic::ALL`].
    pub counts: Vec<Count>,
    /// The executions, at most [`NAMED`], as they were recorded.
    pub executions: Vec<Execution>,
    /// How many more there are.
    pub omitted: u64,
    /// What happened to the store as a whole.
    pub notes: Vec<Note>,
}

/// How many things happened of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// The topic.
    pub topic: Topic,
    /// How many.
    pub count: u64,
}

/// What happened to an execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Execution {
    /// What.
    pub topic: Topic,
    /// What exactly: `Warned`, `Alerted`, `Failed`, `Cancelled` or `FinishedLate`.
    pub action: String,
    /// Its id.
    pub id: String,
    /// Its job.
    pub job_id: Option<String>,
    /// The type of its job, where there is such a column.
    pub job_type: Option<String>,
    /// Its number.
    pub execution_number: Option<i64>,
    /// When it started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it was, or will be, stale.
    pub deadline: Option<DateTime<Utc>>,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// Why, for example `DeadlineExceeded`.
    pub reason: String,
    /// What else is known of it, for example why its workload failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The object that says so, for example `ExecutionPolicy/nightly`.
    pub source: String,
    /// Who asked for it, where a person did.
    pub actor: Option<String>,
    /// Its owner, where there is such a column.
    pub owner: Option<String>,
}

/// What happened to a store as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// What.
    pub topic: Topic,
    /// When.
    pub at: DateTime<Utc>,
    /// In a sentence.
    pub text: String,
}
