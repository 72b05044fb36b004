//! Messages that another `ExecutionStore` wrote are not delivered, and its claim is valid as long as it is confirmed: the
//! database may be a copy.

use std::process::{Command, Output};

use jobexec_operator::api::ExecutionStore;
use serde_json::{Value, json};

use crate::support::hook::{Hook, status};
use crate::support::https::OPEN;
use crate::support::{World, is, message};

const ADOPT: &str = "jobexec.dev/adopt";

/// Rows that come with a copy of a production database: a claim that was confirmed this many seconds ago, a message, an
/// event, and a sweep without a published Event.
fn copied(seconds: u32) -> String {
    format!(
        "INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name, uid, namespace, name, seen_at)
         VALUES ('jobexec.stores'::regclass, 'job_executions'::regclass, 'public', 'job_executions', 'production', 'prod', 'jobs',
                 now() - interval '{seconds} seconds');
         INSERT INTO jobexec.messages (message_id, store_id, channel, recipient, message, created_at, attempts, next_attempt_at, uid)
         SELECT gen_random_uuid(), store_id, 'all', '', '{{}}', now(), 0, now(), 'production' FROM jobexec.stores;
         INSERT INTO jobexec.outbox (store_id, at, event_ids, uid) SELECT store_id, now(), '{{}}', 'production' FROM jobexec.stores;
         INSERT INTO jobexec.sweeps (sweep_id, store_id, trigger, started_at, failed, uid)
         SELECT gen_random_uuid(), store_id, 'Deadline', now() - interval '1 hour', 7, 'production' FROM jobexec.stores"
    )
}

/// The UIDs of the stores that wrote the remaining messages, events and sweeps.
const LEFT: &str = "SELECT concat_ws(' ', (SELECT string_agg(uid, ',') FROM jobexec.messages), \
     (SELECT string_agg(uid, ',') FROM jobexec.outbox), (SELECT string_agg(uid, ',') FROM jobexec.sweeps WHERE announced_at IS NULL))";

/// Runs `jobexec adopt` with the permissions of the operator's login.
fn adopt(world: &World, more: &[&str]) -> Output {
    let login = world.url("right/password");
    world.jobexec(
        &[&["adopt", "--table", "public.job_executions", "--database-url", &login][..], more].concat(),
    )
}

fn out(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn a_copy_of_the_database_tells_nobody_until_somebody_adopts_it() {
    let world = World::new("adopt").await;
    let hook = Hook::start(false, status("200 OK")).await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    let operator = world.operator_with(&OPEN);
    let channel =
        json!({"name": "all", "events": ["Failed"], "webhook": {"url": format!("{}/all", hook.base)}});
    world
        .store(json!({"notifications": {"groupWait": "0s", "groupInterval": "0s", "channels": [channel]}}))
        .await;
    world.until_true("SELECT count(*) = 1 FROM jobexec.messages WHERE ended_at IS NOT NULL").await;
    // As in a copy: a message that was not delivered yet, and an event that is in no message.
    world
        .sql(
            "INSERT INTO jobexec.messages (message_id, store_id, channel, recipient, message, created_at, attempts, next_attempt_at, uid)
             SELECT gen_random_uuid(), store_id, channel, recipient, message, now() - interval '1 minute', 0, now(), 'another'
             FROM jobexec.messages;
             INSERT INTO jobexec.outbox (store_id, at, event_ids, uid)
             SELECT store_id, now(), array_agg(event_id), 'another' FROM jobexec.events GROUP BY store_id",
        )
        .await;
    let status = world
        .store_until(&operator, |s| is(&s.conditions, "NotificationsDelivered", "False", "WrittenForAnother"))
        .await;
    let text = message(&status.conditions, "NotificationsDelivered");
    assert!(text.contains("2 messages and events") && text.contains("jobexec adopt"), "{text}");
    // Local events are notified meanwhile, and nothing else.
    world.sql("INSERT INTO job_executions VALUES (2, 1, 2, 'running', now() - interval '2 days')").await;
    world.until_true("SELECT count(*) = 2 FROM jobexec.messages WHERE ended_at IS NOT NULL").await;
    let ids: Vec<Value> = hook
        .requests()
        .iter()
        .map(|request| serde_json::from_slice::<Value>(&request.body).unwrap()["executions"][0]["id"].clone())
        .collect();
    assert_eq!(ids, [json!("1"), json!("2")]);

    // The permissions of the operator's login are enough.
    let adopted = adopt(&world, &[]);
    assert!(out(&adopted).starts_with("2 messages and events"), "{adopted:?}");
    world.until_true("SELECT count(*) = 4 FROM jobexec.messages WHERE ended_at IS NOT NULL").await;
    world.store_until(&operator, |s| is(&s.conditions, "NotificationsDelivered", "True", "Delivered")).await;
}

#[tokio::test]
async fn a_claim_that_came_with_a_copy_ends_on_request_once_nobody_confirms_it() {
    let world = World::new("copied").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    world.sql(&copied(0)).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world.store_until(&operator, |s| is(&s.conditions, "Ready", "False", "TableClaimed")).await;
    let text = message(&status.conditions, "Ready");
    assert!(text.contains("ExecutionStore prod/jobs looks after this table"), "{text}");
    assert!(
        text.contains("If this database is a copy") && text.contains("jobexec.dev/adopt=discard"),
        "{text}"
    );
    // As long as the claim may be confirmed, the operator adopts nothing, however often it is asked.
    world.annotate(ADOPT, "discard-1").await;
    operator.has_said("\"reason\":\"TableClaimed\"", 3).await;
    assert_eq!(world.one::<String>(LEFT).await, "production production production");
    assert_eq!(world.status(1).await, "running");
    let from_there = adopt(&world, &["--discard"]);
    assert!(
        out(&from_there).contains("there is nothing of another ExecutionStore"),
        "to production it is its own: {from_there:?}"
    );

    // Two and a half minutes later.
    world.sql("UPDATE jobexec.stores SET seen_at = now() - interval '151 seconds'").await;
    world.store_until(&operator, |s| s.observed_adopt.as_deref() == Some("discard-1")).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    world.event_until(&operator, "jobs", "StaleExecutionsFailed").await;
    let events = world.events().await;
    let sweeps: Vec<_> =
        events.iter().filter(|e| e.reason.as_deref() == Some("StaleExecutionsFailed")).collect();
    assert!(sweeps.iter().all(|e| !e.note.as_ref().unwrap().contains("failed 7")), "{sweeps:#?}");
    let quiet = "SELECT count(*) = 1 FROM jobexec.sweeps WHERE uid = 'production' AND announced_at IS NULL";
    assert!(world.one::<bool>(quiet).await, "the sweep of the other one is announced by nobody");
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.messages").await, 0);
}

#[tokio::test]
async fn a_claim_that_is_confirmed_is_taken_from_nobody() {
    let world = World::new("confirmed").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    let holder = "SELECT uid FROM jobexec.stores";
    let before: String = world.one(holder).await;
    let mut second = World::store_with("second", json!({}));
    world.apply::<ExecutionStore>("second", second.clone()).await.unwrap();
    let claimed =
        |s: &jobexec_operator::api::ExecutionStoreStatus| is(&s.conditions, "Ready", "False", "TableClaimed");
    world.store_named_until(&operator, "second", claimed).await;
    let said = operator.own_lines().filter(|line| line.contains("\"reason\":\"TableClaimed\"")).count();
    second["metadata"]["annotations"] = json!({ADOPT: "1"});
    world.apply::<ExecutionStore>("second", second).await.unwrap();
    operator.has_said("\"reason\":\"TableClaimed\"", said + 2).await;
    assert_eq!(world.one::<String>(holder).await, before);
    let status = world.store_named_until(&operator, "second", claimed).await;
    assert_eq!(status.observed_adopt, None);
}

#[tokio::test]
async fn a_store_that_is_made_again_has_its_table_once_nobody_confirms_the_claim_of_the_last_one() {
    let world = World::new("again").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    let uid: String = world.one("SELECT uid FROM jobexec.stores").await;
    world
        .sql(
            "INSERT INTO jobexec.outbox (store_id, at, event_ids, uid) SELECT store_id, now(), '{}', uid FROM jobexec.stores",
        )
        .await;
    operator.kill();
    world.delete::<ExecutionStore>("jobs").await;
    let again = world.store(json!({})).await.metadata.uid.unwrap();
    let operator = world.operator();
    // Its operator may run in another cluster.
    world.sql("UPDATE jobexec.stores SET seen_at = now() - interval '30 seconds'").await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "False", "TableClaimed")).await;
    world.sql("UPDATE jobexec.stores SET seen_at = now() - interval '151 seconds'").await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    assert_eq!(world.one::<String>("SELECT uid FROM jobexec.stores").await, again);
    assert_eq!(
        world.one::<String>("SELECT uid FROM jobexec.outbox").await,
        uid,
        "what is still to be told is not its own"
    );
}

#[tokio::test]
async fn an_annotation_that_an_object_was_made_with_adopts_nothing() {
    let world = World::new("manifest").await;
    world.sql(&copied(700)).await;
    let mut object = World::store_with("jobs", json!({}));
    object["metadata"]["annotations"] = json!({ADOPT: "copied"});
    world.apply::<ExecutionStore>("jobs", object).await.unwrap();
    let operator = world.operator();
    let status = world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    assert_eq!(status.observed_adopt.as_deref(), Some("copied"));
    assert_eq!(world.one::<String>(LEFT).await, "production production production");

    world.annotate(ADOPT, "now").await;
    world.store_until(&operator, |s| s.observed_adopt.as_deref() == Some("now")).await;
    let uid: String = world.one("SELECT uid FROM jobexec.stores").await;
    world.until_true("SELECT count(*) = 1 FROM jobexec.sweeps WHERE announced_at IS NOT NULL").await;
    assert_eq!(world.one::<String>(LEFT).await, format!("{uid} {uid}"));
    assert!(world.event_until(&operator, "jobs", "StaleExecutionsFailed").await.contains("failed 7"));
}

#[tokio::test]
async fn what_cannot_be_adopted_is_said() {
    let world = World::new("nothing").await;
    let cases: [(&[&str], &str); 3] = [
        (&["--table", "public.nothing"], "there is no table \"public\".\"nothing\""),
        (&["--table", "job_executions"], "write SCHEMA.NAME"),
        (&["--store", "jobs"], "write NAMESPACE/NAME"),
    ];
    for (args, told) in cases {
        let ran = world.jobexec(&[&["adopt"], args].concat());
        assert!(!ran.status.success() && out(&ran).contains(told), "{ran:?}");
    }
    let elsewhere = Command::new(env!("CARGO_BIN_EXE_jobexec"))
        .args(["adopt", "--store", "elsewhere/jobs"])
        .env("KUBECONFIG", world.admin_kubeconfig())
        .output()
        .unwrap();
    assert!(
        out(&elsewhere).contains("ExecutionStore jobs does not exist in the namespace elsewhere"),
        "{elsewhere:?}"
    );
    // Nothing is left over.
    for more in [&[][..], &["--discard"]] {
        let ran = adopt(&world, more);
        assert!(
            ran.status.success() && out(&ran).contains("there is nothing of another ExecutionStore to adopt"),
            "{ran:?}"
        );
    }
    // No store manages the copy: the next one that does sends the notifications.
    world.sql("DELETE FROM jobexec.stores").await;
    world.sql(&copied(151)).await;
    let ended = adopt(&world, &["--discard"]);
    assert!(
        out(&ended).contains("the claim of the ExecutionStore prod/jobs")
            && out(&ended).contains("run this again"),
        "{ended:?}"
    );
    assert_eq!(world.one::<String>(LEFT).await, "production production production");
    let dropped = adopt(&world, &["--discard"]);
    assert!(out(&dropped).starts_with("2 messages and events were dropped"), "{dropped:?}");
    assert_eq!(world.one::<String>(LEFT).await, "production");
    // With a cluster, the operator does it.
    world.store(json!({})).await;
    let store = format!("{}/jobs", world.namespace);
    let asked = Command::new(env!("CARGO_BIN_EXE_jobexec"))
        .args(["adopt", "--discard", "--store", &store])
        .env("KUBECONFIG", world.admin_kubeconfig())
        .output()
        .unwrap();
    assert!(asked.status.success(), "{asked:?}");
    let object = world.api::<ExecutionStore>().get("jobs").await.unwrap();
    assert!(object.metadata.annotations.unwrap()[ADOPT].starts_with("discard-"));
}

/// The first reconcile fails, and the status reports it.
#[tokio::test]
async fn an_annotation_that_an_object_was_made_with_adopts_nothing_after_a_look_that_failed_either() {
    let world = World::new("failedlook").await;
    world.sql(&copied(700)).await;
    let mut object = World::store_with("jobs", json!({"connection": {"secretRef": {"name": "later"}}}));
    object["metadata"]["annotations"] = json!({ADOPT: "copied"});
    world.apply::<ExecutionStore>("jobs", object).await.unwrap();
    let operator = world.operator();
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "False", "SecretNotFound")).await;
    world.secret("later", json!({"uri": world.url("right/password")})).await;
    let status = world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    assert_eq!(status.observed_adopt.as_deref(), Some("copied"));
    assert_eq!(world.one::<String>(LEFT).await, "production production production");
}
