//! The content of a message, as stored until its delivery, sent to webhooks and passed to templates.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::notifications::Topic;

/// How many executions a message lists at most.
pub const NAMED: usize = 50;

/// What happened in one store since the previous message, for one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// The same for every attempt to deliver it, so that recipients can detect duplicates.
    pub id: Uuid,
    /// When the message was created.
    pub at: DateTime<Utc>,
    /// The namespace of the store.
    pub namespace: String,
    /// The name of the store.
    pub store: String,
    /// The channel that delivers it.
    pub channel: String,
    /// The owner of the executions, if the message goes to that owner only.
    pub owner: Option<String>,
    /// The number of occurrences by topic: topics that occurred, in the order of [`Topic::ALL`].
    pub counts: Vec<Count>,
    /// The executions as recorded, at most [`NAMED`].
    pub executions: Vec<Execution>,
    /// How many more executions there are.
    pub omitted: u64,
    /// Events of the store as a whole.
    pub notes: Vec<Note>,
}

/// The number of occurrences of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// The topic.
    pub topic: Topic,
    /// The number.
    pub count: u64,
}

/// An event of an execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Execution {
    /// The topic.
    pub topic: Topic,
    /// The action: `Warned`, `Alerted`, `Failed`, `Cancelled` or `FinishedLate`.
    pub action: String,
    /// The id of the execution.
    pub id: String,
    /// The id of its job.
    pub job_id: Option<String>,
    /// The type of its job, if the column is mapped.
    pub job_type: Option<String>,
    /// The number of the execution within its job.
    pub execution_number: Option<i64>,
    /// When it started.
    pub started_at: Option<DateTime<Utc>>,
    /// The deadline after which the execution is stale.
    pub deadline: Option<DateTime<Utc>>,
    /// When the event happened.
    pub at: DateTime<Utc>,
    /// The reason, for example `DeadlineExceeded`.
    pub reason: String,
    /// More about the reason, for example why its workload failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The object that caused it, for example `ExecutionPolicy/nightly`.
    pub source: String,
    /// The person who requested it, if one did.
    pub actor: Option<String>,
    /// The owner of the execution, if the column is mapped.
    pub owner: Option<String>,
}

/// An event of a store as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// The topic.
    pub topic: Topic,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// A sentence about it.
    pub text: String,
}
