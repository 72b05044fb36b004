//! A message with every field set, to validate templates with.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::message::{Count, Execution, Message, Note};
use crate::api::notifications::Topic;

/// Returns a message with one event per topic.
pub(super) fn message() -> Message {
    let at = DateTime::<Utc>::UNIX_EPOCH;
    Message {
        id: Uuid::nil(),
        at,
        namespace: "team-a".to_owned(),
        store: "jobs".to_owned(),
        channel: "ops".to_owned(),
        owner: Some("owner@example.org".to_owned()),
        counts: Topic::ALL.map(|topic| Count { topic, count: 1 }).to_vec(),
        executions: [Topic::LongRunning, Topic::Stale, Topic::Failed, Topic::FinishedLate]
            .map(|topic| execution(topic, at))
            .to_vec(),
        omitted: 1,
        notes: [Topic::Breaker, Topic::Recovered]
            .map(|topic| Note { topic, at, text: "What happened.".to_owned() })
            .to_vec(),
    }
}

fn execution(topic: Topic, at: DateTime<Utc>) -> Execution {
    let text = |text: &str| Some(text.to_owned());
    Execution {
        topic,
        action: "Failed".to_owned(),
        id: "39".to_owned(),
        job_id: text("21"),
        job_type: text("nightly"),
        execution_number: Some(5),
        started_at: Some(at),
        deadline: Some(at),
        at,
        reason: "DeadlineExceeded".to_owned(),
        detail: None,
        source: "ExecutionPolicy/nightly".to_owned(),
        actor: text("alice"),
        owner: text("owner@example.org"),
    }
}
