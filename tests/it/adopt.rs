//! What another `ExecutionStore` had written is not delivered: the database may be a copy of its own.

use serde_json::{Value, json};

use crate::support::hook::{Hook, status};
use crate::support::https::OPEN;
use crate::support::{World, is, message};

#[tokio::test]
async fn a_copy_of_the_database_tells_nobody_until_somebody_adopts_it() {
    let world = World::new("adopt").await;
    let hook = Hook::start(false, status("200 OK")).await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    let operator = world.operator_with(&OPEN);
    let channel = json!({"name": "all", "on": ["Failed"], "webhook": {"url": format!("{}/all", hook.base)}});
    world
        .store(json!({"notifications": {"groupWait": "0s", "groupInterval": "0s", "channels": [channel]}}))
        .await;
    world.until_true("SELECT count(*) = 1 FROM jobexec.messages WHERE ended_at IS NOT NULL").await;
    // As the copy has it: a message that was still to be delivered, and an event that was in none.
    world
        .sql(
            "INSERT INTO jobexec.messages (message_id, store_id, channel, recipient, message, created_at, attempts, next_attempt_at, uid)
             SELECT gen_random_uuid(), store_id, channel, recipient, message, now() - interval '1 minute', 0, now(), 'another'
             FROM jobexec.messages;
             INSERT INTO jobexec.outbox (store_id, at, event_ids, uid)
             SELECT store_id, now(), array_agg(event_id), 'another' FROM jobexec.events GROUP BY store_id",
        )
        .await;
    let status =
        world.store_until(&operator, |s| is(&s.conditions, "Notifying", "False", "WrittenForAnother")).await;
    let text = message(&status.conditions, "Notifying");
    assert!(text.contains("2 messages and events") && text.contains("jobexec adopt"), "{text}");
    // What happens here is told meanwhile, and nothing else.
    world.sql("INSERT INTO job_executions VALUES (2, 1, 2, 'running', now() - interval '2 days')").await;
    world.until_true("SELECT count(*) = 2 FROM jobexec.messages WHERE ended_at IS NOT NULL").await;
    let ids: Vec<Value> = hook
        .requests()
        .iter()
        .map(|request| serde_json::from_slice::<Value>(&request.body).unwrap()["executions"][0]["id"].clone())
        .collect();
    assert_eq!(ids, [json!("1"), json!("2")]);

    // The rights of the operator's login are enough.
    let login = world.url("right/password");
    let adopted = world.jobexec(&["adopt", "--table", "public.job_executions", "--database-url", &login]);
    assert!(String::from_utf8_lossy(&adopted.stdout).starts_with("2 messages and events"), "{adopted:?}");
    world.until_true("SELECT count(*) = 4 FROM jobexec.messages WHERE ended_at IS NOT NULL").await;
    world.store_until(&operator, |s| is(&s.conditions, "Notifying", "True", "Notifying")).await;
}
