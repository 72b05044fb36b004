//! Notifications of events: one message for each recipient, despite crashes and outages, and without delaying a deadline.
//! The tests in `notify` cover the content and the delivery of messages.

mod delivery;
mod mail;
mod messages;

use serde_json::{Value, json};

use crate::support::hook::{Hook, Request};
use crate::support::{Operator, PATIENCE, World, is, message};

/// Inserts stale rows of job 1, with ids from 1.
async fn stale(world: &World, count: i64) {
    world
        .sql(&format!(
            "INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 days' FROM generate_series(1, {count}) n"
        ))
        .await;
}

async fn run(world: &World, id: i64, job: i64, age: &str) {
    world
        .sql(&format!(
            "INSERT INTO job_executions VALUES ({id}, {job}, {id}, 'running', now() - interval '{age}')"
        ))
        .await;
}

/// A channel that posts to this endpoint.
fn to(name: &str, hook: &Hook, on: &[&str]) -> Value {
    let mut channel = json!({"name": name, "webhook": {"url": format!("{}/{name}", hook.base)}});
    if !on.is_empty() {
        channel["events"] = json!(on);
    }
    channel
}

/// `spec.notifications` without waiting times.
fn notifications(channels: &[Value]) -> Value {
    json!({"notifications": {"groupWait": "0s", "groupInterval": "0s", "channels": channels}})
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// Waits until an endpoint has received this many messages, and returns them.
async fn sent(hook: &Hook, count: usize) -> Vec<Value> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let requests = hook.requests();
        if requests.len() >= count {
            return requests.iter().map(body).collect();
        }
        assert!(tokio::time::Instant::now() < deadline, "{} of {count}: {requests:?}", requests.len());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Waits until no event and no message is pending.
async fn all_told(world: &World) {
    world
        .until_true(
            "SELECT NOT EXISTS (SELECT FROM jobexec.outbox) AND NOT EXISTS (SELECT FROM jobexec.messages WHERE ended_at IS NULL)",
        )
        .await;
}

async fn notifying(world: &World, operator: &Operator, truth: &str, reason: &str) -> String {
    let status =
        world.store_until(operator, |s| is(&s.conditions, "NotificationsDelivered", truth, reason)).await;
    message(&status.conditions, "NotificationsDelivered")
}
