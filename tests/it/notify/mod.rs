//! Notifications over real SMTP and HTTP.

mod email;
mod template;
mod webhook;

use chrono::{DateTime, TimeDelta, Utc};
use jobexec_operator::api::notifications::Topic;
use jobexec_operator::net::Dialer;
use jobexec_operator::notify::message::{Count, Execution, NAMED, Note};
use jobexec_operator::notify::{Destination, Message, SendError, Templates};

/// The examples in the documentation are valid.
#[test]
fn the_examples_of_the_page_are_true() {
    let page = include_str!("../../../docs/notifications.md");
    let mut blocks = page.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    let mut next = |language| blocks.find(|(l, _)| *l == language).unwrap().1;
    let sample = include_str!("../../../manifests/samples/notifications.yaml");
    let store = next("yaml");
    assert_eq!(sample.split_once('\n').unwrap().1.trim_end(), store);
    let body: serde_json::Value = serde_json::from_str(next("json")).unwrap();
    serde_json::from_value::<Message>(body).unwrap();
    let own: serde_json::Value = serde_saphyr::from_str(next("yaml")).unwrap();
    let (templates, errors) =
        Templates::new(Some(&serde_json::from_value(own["templates"].clone()).unwrap()));
    let (rendered, late) = templates.render(&message());
    assert_eq!((errors, late), (vec![], vec![]));
    assert_eq!(rendered.subject, "jobs: breaker open, 3 executions failed, 2 running long");
    let text = "39 of job 21: DeadlineExceeded after 22.1 h\n40 of job 21: DeadlineExceeded after 22.1 h\nand 1 more";
    assert_eq!(rendered.text.trim_end(), text);
}

/// A fixed time.
fn moment() -> DateTime<Utc> {
    "2025-08-08T16:24:08.575Z".parse().unwrap()
}

/// The case that started this project.
fn execution(id: &str) -> Execution {
    Execution {
        topic: Topic::Failed,
        action: "Failed".to_owned(),
        id: id.to_owned(),
        job_id: Some("21".to_owned()),
        job_type: None,
        execution_number: Some(5),
        started_at: Some(moment() - TimeDelta::minutes(1_326)),
        deadline: Some(moment()),
        at: moment(),
        reason: "DeadlineExceeded".to_owned(),
        detail: None,
        source: "ExecutionPolicy/nightly".to_owned(),
        actor: None,
        owner: None,
    }
}

pub(crate) fn message() -> Message {
    Message {
        id: "7e0b1c52-61c8-4a7e-9a43-0d3a1a9f0c11".parse().unwrap(),
        at: moment(),
        namespace: "team-a".to_owned(),
        store: "jobs".to_owned(),
        channel: "ops".to_owned(),
        owner: None,
        counts: vec![
            Count { topic: Topic::LongRunning, count: 2 },
            Count { topic: Topic::Failed, count: 3 },
            Count { topic: Topic::Breaker, count: 1 },
        ],
        executions: vec![execution("39"), execution("40")],
        omitted: 1,
        notes: vec![Note {
            topic: Topic::Breaker,
            at: moment(),
            text: "1200 executions are stale, more than maxFailuresPerSweep (1000).".to_owned(),
        }],
    }
}

/// A message with as many executions as it may name, out of 10,000.
fn full() -> Message {
    let counts = vec![Count { topic: Topic::Failed, count: 10_000 }];
    let executions = (0..NAMED).map(|id| execution(&id.to_string())).collect();
    Message { counts, executions, omitted: 10_000 - NAMED as u64, ..message() }
}

/// Delivers it with the default templates, which must have no errors.
async fn deliver(destination: &Destination, message: &Message) -> Result<(), SendError> {
    let (templates, errors) = Templates::new(None);
    assert_eq!(errors, []);
    let delivery = destination.deliver(&Dialer::unrestricted(), &templates, message).await;
    assert_eq!(delivery.template_errors, []);
    delivery.outcome
}

/// The reason of an error, after a check that its text contains none of these secrets.
fn reason(error: &SendError, secrets: &[&str]) -> &'static str {
    for secret in secrets {
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains(secret), "{shown} has {secret}");
        }
    }
    error.reason()
}
