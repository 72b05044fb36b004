//! Messages that cannot be delivered or recorded: they delay nothing, are tried again, and leave a trace.

use serde_json::json;

use super::{all_told, notifications, notifying, run, sent, stale, to};
use crate::support::hook::{Answer, Hook, status};
use crate::support::https::OPEN;
use crate::support::{World, is, message};

#[tokio::test]
async fn what_cannot_be_delivered_delays_nothing_and_is_delivered_later() {
    let world = World::new("notified-later").await;
    let deaf = Hook::start(false, Answer::Hang).await;
    let broken = Hook::start(false, Answer::Huge).await;
    world.secret("hook", json!({"url": format!("{}/secret-path", deaf.base)})).await;
    stale(&world, 1).await;
    let channel = json!({"name": "chat", "webhook": {"urlSecretRef": {"name": "hook", "key": "url"}}});
    let operator = world.operator();
    world.store(notifications(&[channel])).await;
    // Deadlines are met while the first message hangs and after it has failed.
    sent_to(&deaf, 1).await;
    run(&world, 2, 2, "2 days").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
    let why = notifying(&world, &operator, "False", "TimedOut").await;
    assert!(
        why.contains("channel chat") && why.contains(&deaf.base) && !why.contains("secret-path"),
        "{why}"
    );
    world.secret("hook", json!({"url": format!("{}/secret-path", broken.base)})).await;
    let why = notifying(&world, &operator, "False", "HTTPStatus").await;
    assert!(why.len() < 1_000 && why.contains("500"), "{why}");
    assert!(!operator.log().contains("secret-path"), "the URL is a secret");
    // A crash loses nothing, and the message stays the same.
    operator.kill();
    let well = Hook::start(true, status("200 OK")).await;
    world.secret("hook", json!({"url": well.base, "ca": well.certificate, "key": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})).await;
    let channel = json!({"name": "chat", "webhook": {
        "urlSecretRef": {"name": "hook", "key": "url"}, "caSecretRef": {"name": "hook", "key": "ca"},
        "signingSecretRef": {"name": "hook", "key": "key"},
    }});
    world.store(notifications(&[channel])).await;
    let operator = world.operator();
    sent(&well, 1).await;
    all_told(&world).await;
    let mut ids: Vec<String> =
        well.requests().iter().map(|request| request.headers["webhook-id"].clone()).collect();
    assert!(well.requests().iter().all(|request| request.headers["webhook-signature"].starts_with("v1,")));
    let tried: Vec<String> =
        deaf.requests().iter().map(|request| request.headers["webhook-id"].clone()).collect();
    assert!(ids.contains(&tried[0]), "{ids:?} {tried:?}");
    ids.sort();
    ids.dedup();
    let kept: Vec<String> =
        world.one("SELECT array_agg(message_id::text ORDER BY message_id::text) FROM jobexec.messages").await;
    assert_eq!(ids, kept);
    notifying(&world, &operator, "True", "Delivered").await;
}

/// Waits until an endpoint has received this many requests, whatever their content.
async fn sent_to(hook: &Hook, count: usize) {
    sent(hook, count).await;
}

#[tokio::test]
async fn what_nobody_takes_is_given_up_with_a_trace() {
    let world = World::new("notified-not").await;
    let moved = Hook::start(
        false,
        Answer::Text(
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/internal\r\nContent-Length: 0\r\n\r\n"
                .to_owned(),
        ),
    )
    .await;
    stale(&world, 1).await;
    let operator = world.operator_with(&OPEN);
    let mut spec = notifications(&[to("chat", &moved, &[])]);
    spec["notifications"]["giveUpAfter"] = json!("1m");
    world.store(spec).await;
    let why = notifying(&world, &operator, "False", "Redirected").await;
    assert!(why.contains("1 messages wait"), "{why}");
    // Its `giveUpAfter` passes at once.
    world.sql("UPDATE jobexec.messages SET created_at = created_at - interval '1 hour'").await;
    world
        .until_true("SELECT bool_and(outcome = 'GivenUp' AND error LIKE '%302%') FROM jobexec.messages")
        .await;
    let given_up = |s: &jobexec_operator::api::ExecutionStoreStatus| {
        message(&s.conditions, "NotificationsDelivered").contains("1 were given up")
    };
    world.store_until(&operator, given_up).await;
    let metrics = operator.metrics().await;
    let counted = |l: &&str| l.starts_with("jobexec_store_notifications_total{") && l.contains("given_up");
    assert!(metrics.lines().find(counted).unwrap().ends_with(" 1"), "{metrics}");
    // Without channels there is no condition, and nothing is stored for them.
    world.store_changed(&operator, json!({"notifications": null})).await;
    world.store_until(&operator, |s| s.conditions.iter().all(|c| c.type_ != "NotificationsDelivered")).await;
    world.until_true("SELECT NOT notifies FROM jobexec.stores").await;
}

#[tokio::test]
async fn without_the_right_to_the_outbox_deadlines_are_met_and_that_is_told() {
    let world = World::new("notified-mute").await;
    let hook = Hook::start(false, status("200 OK")).await;
    world.sql(&format!("REVOKE ALL ON jobexec.outbox FROM {}", world.role)).await;
    stale(&world, 1).await;
    let operator = world.operator();
    world.store(notifications(&[to("chat", &hook, &[])])).await;
    world.until_true("SELECT status = 'failed' FROM job_executions").await;
    let why = notifying(&world, &operator, "False", "NotRecorded").await;
    assert!(why.contains("jobexec schema --apply --role"), "{why}");
    world.store_until(&operator, |s| is(&s.conditions, "AuditAvailable", "True", "TablesPresent")).await;
    // An operator notices the new permission within a minute; a new one has it at once.
    world.sql(&format!("GRANT ALL ON jobexec.outbox TO {}", world.role)).await;
    operator.kill();
    let operator = world.operator();
    run(&world, 2, 2, "2 days").await;
    assert_eq!(sent(&hook, 1).await[0]["executions"][0]["id"], "2");
    drop(operator);
}

#[tokio::test]
async fn a_channel_that_is_corrected_is_tried_at_once() {
    let world = World::new("notified-corrected").await;
    let (broken, well) =
        (Hook::start(false, status("500 No")).await, Hook::start(false, status("200 OK")).await);
    stale(&world, 1).await;
    let operator = world.operator_with(&OPEN);
    world.store(notifications(&[to("chat", &broken, &[])])).await;
    notifying(&world, &operator, "False", "HTTPStatus").await;
    // It has failed for long.
    world.until_true("SELECT bool_and(error IS NOT NULL) FROM jobexec.messages").await;
    world.sql("UPDATE jobexec.messages SET next_attempt_at = now() + interval '1 hour'").await;
    world.store_changed(&operator, notifications(&[to("chat", &well, &[])])).await;
    sent(&well, 1).await;
    notifying(&world, &operator, "True", "Delivered").await;
}
