//! Who gets a message of what, and how many things one message covers.

use jobexec_operator::api::ExecutionStore;
use serde_json::{Value, json};

use super::{all_told, body, notifications, notifying, run, sent, stale, to};
use crate::support::World;
use crate::support::hook::{Hook, status};
use crate::support::https::OPEN;

/// The messages by channel, as `channel: topic count, …`.
async fn written(world: &World) -> Vec<String> {
    world
        .one(
            "SELECT COALESCE(array_agg(line ORDER BY line), '{}') FROM (
                 SELECT channel || ': ' || (
                     SELECT COALESCE(string_agg((c->>'topic') || ' ' || (c->>'count'), ', '), '')
                     FROM jsonb_array_elements(message->'counts') AS c) AS line FROM jobexec.messages) AS m",
        )
        .await
}

#[tokio::test]
async fn each_is_told_once_of_what_they_want_to_know() {
    let world = World::new("notified").await;
    let hook = Hook::start(false, status("200 OK")).await;
    stale(&world, 3).await;
    for (id, job, age) in [(11, 2, "2 days"), (12, 3, "2 days"), (13, 4, "2 hours"), (14, 5, "2 days")] {
        run(&world, id, job, age).await;
    }
    // Job 2 has its own channel, job 3 none, and job 5 is only reported.
    let own = json!({"selector": {"jobIds": ["2"]}, "notifications": {"channels": [to("own", &hook, &["Failed"])]}});
    world.policy("two", own).await;
    world.policy("three", json!({"selector": {"jobIds": ["3"]}, "notifications": {"channels": []}})).await;
    world.policy("five", json!({"selector": {"jobIds": ["5"]}, "onStale": "AlertOnly"})).await;
    let operator = world.operator_with(&OPEN);
    world.store(notifications(&[to("all", &hook, &[]), to("breaker", &hook, &["Breaker"])])).await;
    world
        .until_true("SELECT count(*) = 7 FROM jobexec.events WHERE action IN ('Failed', 'Warned', 'Alerted')")
        .await;
    all_told(&world).await;
    let told: Vec<Value> = hook.requests().iter().map(body).collect();
    let of = |channel: &str, topic: &str| {
        let mut ids: Vec<i64> = told
            .iter()
            .filter(|message| message["channel"] == channel)
            .flat_map(|message| message["executions"].as_array().unwrap())
            .filter(|execution| execution["topic"] == topic)
            .map(|execution| execution["id"].as_str().unwrap().parse().unwrap())
            .collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(of("all", "Failed"), [1, 2, 3], "{told:#?}");
    assert_eq!(of("all", "LongRunning"), [13]);
    assert_eq!(of("all", "Stale"), [14]);
    assert_eq!(of("two/own", "Failed"), [11]);
    assert!(told.iter().all(|message| message["channel"] != "breaker"), "{told:#?}");
    let execution = &told.iter().find(|message| message["channel"] == "two/own").unwrap()["executions"][0];
    assert_eq!(execution["reason"], "DeadlineExceeded");
    assert_eq!(execution["source"], "ExecutionStore/jobs");
    notifying(&world, &operator, "True", "Delivered").await;
    let metrics = operator.metrics().await;
    let line = "jobexec_store_notifications_total{namespace=\"";
    let delivered =
        metrics.lines().find(|l| l.starts_with(line) && l.contains("outcome=\"delivered\"")).unwrap();
    assert!(delivered.ends_with(&format!(" {}", told.len())), "{delivered}");
    // When no execution runs for long any more, those who were notified of that get a message, once.
    world
        .sql("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE status = 'running'")
        .await;
    world.until_true("SELECT unwell_since IS NULL FROM jobexec.stores").await;
    all_told(&world).await;
    let last = hook.requests().last().map(body).unwrap();
    assert_eq!(
        (&last["channel"], &last["counts"]),
        (&json!("all"), &json!([{"topic": "Recovered", "count": 1}]))
    );
    assert_eq!(hook.requests().len(), told.len() + 1);
}

#[tokio::test]
async fn ten_thousand_failures_are_one_message() {
    let world = World::new("notified-many").await;
    let hook = Hook::start(false, status("204 No Content")).await;
    stale(&world, 10_000).await;
    world.store(notifications(&[to("all", &hook, &["Failed"])])).await;
    // The sweep consists of several transactions, and one message should cover all of them.
    world
        .apply::<ExecutionStore>(
            "jobs",
            World::store_with(
                "jobs",
                json!({"notifications": {"groupWait": "5s", "channels": [to("all", &hook, &["Failed"])]}}),
            ),
        )
        .await
        .unwrap();
    let operator = world.operator();
    let told = sent(&hook, 1).await;
    assert_eq!(told[0]["counts"], json!([{"topic": "Failed", "count": 10_000}]));
    assert_eq!(told[0]["executions"].as_array().unwrap().len(), 50);
    assert_eq!(told[0]["omitted"], 9_950);
    all_told(&world).await;
    assert_eq!(written(&world).await, ["all: Failed 10000"]);
    drop(operator);
}

#[tokio::test]
async fn an_open_breaker_is_told_and_that_all_is_well_again() {
    let world = World::new("notified-breaker").await;
    let hook = Hook::start(false, status("200 OK")).await;
    stale(&world, 4).await;
    let operator = world.operator();
    let mut spec = notifications(&[to("all", &hook, &[])]);
    spec["maxFailuresPerSweep"] = json!(2);
    world.store(spec).await;
    let told = sent(&hook, 1).await;
    assert_eq!(told[0]["notes"][0]["topic"], "Breaker");
    assert!(told[0]["notes"][0]["text"].as_str().unwrap().contains("would end 4 executions"), "{told:#?}");
    world.annotate("jobexec.dev/resume", "now").await;
    world.until_true("SELECT bool_and(status = 'failed') FROM job_executions").await;
    world.until_true("SELECT unwell_since IS NULL FROM jobexec.stores").await;
    all_told(&world).await;
    let mut topics: Vec<Value> =
        hook.requests().iter().flat_map(|r| body(r)["counts"].as_array().unwrap().clone()).collect();
    topics.sort_by_key(ToString::to_string);
    let expected = json!([{"topic": "Breaker", "count": 1}, {"topic": "Failed", "count": 4}, {"topic": "Recovered", "count": 1}]);
    let mut expected = expected.as_array().unwrap().clone();
    expected.sort_by_key(ToString::to_string);
    assert_eq!(topics, expected);
    drop(operator);
}

#[tokio::test]
async fn a_template_with_an_error_is_told_and_the_default_used() {
    let world = World::new("notified-words").await;
    let hook = Hook::start(false, status("200 OK")).await;
    stale(&world, 1).await;
    let operator = world.operator();
    let mut spec = notifications(&[to("chat", &hook, &[])]);
    spec["notifications"]["channels"][0]["webhook"]["format"] = json!("Slack");
    spec["notifications"]["templates"] = json!({"text": "line one\n{{ nonsense( }}"});
    world.store(spec.clone()).await;
    let why = notifying(&world, &operator, "False", "TemplateInvalid").await;
    assert!(why.contains("text") && why.contains('2'), "{why}");
    assert!(sent(&hook, 1).await[0]["text"].as_str().unwrap().contains("DeadlineExceeded"));
    spec["notifications"]["templates"] = json!({"text": "{{ store }} is in trouble"});
    world.store_changed(&operator, spec).await;
    run(&world, 2, 2, "2 days").await;
    assert_eq!(sent(&hook, 2).await[1]["text"], "jobs is in trouble");
    notifying(&world, &operator, "True", "Delivered").await;
}

#[tokio::test]
async fn two_operators_tell_each_thing_in_one_message() {
    let world = World::new("notified-twice").await;
    let hook = Hook::start(false, status("200 OK")).await;
    world.store(notifications(&[to("all", &hook, &["Failed"])])).await;
    let (one, two) = (world.operator(), world.operator());
    for id in 1..=30 {
        run(&world, id, id, "2 days").await;
        world.until_true(&format!("SELECT status = 'failed' FROM job_executions WHERE id = {id}")).await;
    }
    all_told(&world).await;
    let told: Vec<i64> = world
        .one(
            "SELECT array_agg((e->>'id')::bigint ORDER BY (e->>'id')::bigint)
             FROM jobexec.messages, jsonb_array_elements(message->'executions') AS e",
        )
        .await;
    assert_eq!(told, (1..=30).collect::<Vec<_>>());
    drop((one, two));
}
