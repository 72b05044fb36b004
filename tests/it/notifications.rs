//! Notifications of events: one message for each recipient, despite crashes and outages, and without delaying a deadline.
//! The tests in `notify` cover the content and the delivery of messages.

use jobexec_operator::api::ExecutionStore;
use serde_json::{Value, json};

use crate::support::hook::{Answer, Hook, Request, status};
use crate::support::https::OPEN;
use crate::support::smtp::Sink;
use crate::support::world::TABLE;
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

async fn notifying(world: &World, operator: &Operator, truth: &str, reason: &str) -> String {
    let status =
        world.store_until(operator, |s| is(&s.conditions, "NotificationsDelivered", truth, reason)).await;
    message(&status.conditions, "NotificationsDelivered")
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

/// The e-mails that were sent, as recipient and content, once there are this many.
async fn mails(sink: &mut Sink, count: usize) -> Vec<(String, String)> {
    let mut mails = Vec::new();
    while mails.len() < count {
        let mail = sink.next("mail").await;
        let to = mail["recipients"][0].as_str().unwrap().to_owned();
        mails.push((to, mail["content"].as_str().unwrap().to_owned()));
    }
    mails.sort();
    mails
}

#[tokio::test]
async fn owners_are_mailed_of_their_own_executions_and_administrators_of_all() {
    let told = json!({"tls": "starttls", "login": ["operator", "correct horse"]});
    let Some(mut sink) = Sink::start("owners", &told).await else { return };
    let spec = json!({"table": {"columns": {"owner": "owner"}}});
    let tables = format!("{TABLE}; ALTER TABLE job_executions ADD COLUMN owner text");
    let world = World::with("notified-owners", &tables, &spec).await;
    for (id, owner) in
        [(1, "ada@example.org"), (2, "ada@example.org"), (3, "x@y.org\r\nBcc: all@y.org"), (4, "")]
    {
        run_of(&world, id, owner).await;
    }
    world.secret("mail", json!({"username": "operator", "password": "wrong", "ca": sink.certificate})).await;
    let operator = world.operator();
    let mut spec = spec;
    spec["notifications"] = json!({
        "groupWait": "0s", "groupInterval": "0s",
        "smtp": {"host": "127.0.0.1", "port": sink.port, "from": "jobexec@example.org",
                 "credentialsSecretRef": {"name": "mail"}, "caSecretRef": {"name": "mail", "key": "ca"}},
        "channels": [{"name": "people", "email": {"to": ["ops@example.org"], "toOwner": true}}],
    });
    world.store(spec).await;
    let why = notifying(&world, &operator, "False", "LoginRefused").await;
    assert!(!why.contains("wrong"), "{why}");
    world.until_true("SELECT bool_and(status = 'failed') FROM job_executions").await;
    world
        .secret("mail", json!({"username": "operator", "password": "correct horse", "ca": sink.certificate}))
        .await;
    let mails = mails(&mut sink, 2).await;
    assert_eq!([&*mails[0].0, &*mails[1].0], ["ada@example.org", "ops@example.org"]);
    assert!(
        mails[0].1.contains("Subject: [jobexec]") && mails[0].1.contains("2 executions failed"),
        "{}",
        mails[0].1
    );
    assert!(mails[1].1.contains("4 executions failed"), "{}", mails[1].1);
    all_told(&world).await;
    // An invalid address is never tried, and the message reports that.
    let error: String = world.one("SELECT error FROM jobexec.messages WHERE outcome = 'GivenUp'").await;
    assert!(error.contains("is not a valid mail address"), "{error}");
    notifying(&world, &operator, "False", "RecipientsRefused").await;
}

async fn run_of(world: &World, id: i64, owner: &str) {
    let insert =
        "INSERT INTO job_executions VALUES ($1, $1, $1, 'running', now() - interval '2 days', NULL, $2)";
    sqlx::query(insert).bind(id).bind(owner).execute(&world.pool).await.unwrap();
}

/// The spec of a store whose owners get e-mail through this server.
fn mailing_owners(sink: &Sink) -> Value {
    json!({"table": {"columns": {"owner": "owner"}}, "notifications": {
        "groupWait": "0s", "groupInterval": "0s", "giveUpAfter": "1m",
        "smtp": {"host": "127.0.0.1", "port": sink.port, "security": "None", "from": "jobexec@example.org"},
        "channels": [{"name": "owners", "email": {"toOwner": true}}],
    }})
}

/// Creates a world with that store, and this many owners whom the server does not know.
async fn with_owners_gone(test: &str, sink: &Sink, count: i64) -> World {
    let tables = format!("{TABLE}; ALTER TABLE job_executions ADD COLUMN owner text");
    let world = World::with(test, &tables, &mailing_owners(sink)).await;
    for id in 1..=count {
        run_of(&world, id, &format!("{id}@gone.example")).await;
    }
    world
}

#[tokio::test]
async fn a_server_that_refuses_one_after_another_is_asked_slowly_and_nobody_is_given_up_untried() {
    let Some(mut sink) = Sink::start("many who are refused", &json!({"refuses": "gone.example"})).await
    else {
        return;
    };
    let world = with_owners_gone("notified-gone", &sink, 16).await;
    // Every message is older than giveUpAfter as soon as it is written.
    let pool = world.pool.clone();
    let _aging = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        let age = "UPDATE jobexec.messages SET created_at = created_at - interval '1 hour'
                   WHERE created_at > now() - interval '30 minutes'";
        loop {
            sqlx::raw_sql(age).execute(&pool).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }));
    let operator = world.operator();
    world.store(mailing_owners(&sink)).await;
    let refused = async |sink: &mut Sink, count: usize| {
        for _ in 0..count {
            sink.next("recipient").await;
        }
        std::time::Instant::now()
    };
    let many = refused(&mut sink, 8).await;
    run_of(&world, 17, "ada@example.org").await;
    // After pauses of 1 s and 2 s.
    let pauses = refused(&mut sink, 5).await - many;
    assert!(pauses >= std::time::Duration::from_millis(2_900), "{pauses:?}");
    notifying(&world, &operator, "False", "RecipientsRefused").await;
    assert_eq!(mails(&mut sink, 1).await[0].0, "ada@example.org");
    all_told(&world).await;
    world
        .until_true(
            "SELECT bool_and(attempts = 1) AND count(*) FILTER (WHERE outcome = 'GivenUp' AND error LIKE '%550%') = 16
             FROM jobexec.messages",
        )
        .await;
}

#[tokio::test]
async fn those_who_are_refused_do_not_hold_up_another_channel() {
    let told = json!({"refuses": "gone.example", "slowly": 2});
    let Some(mut sink) = Sink::start("a server that refuses slowly", &told).await else { return };
    let hook = Hook::start(false, status("200 OK")).await;
    let world = with_owners_gone("notified-slowly", &sink, 32).await;
    let own = json!({"selector": {"jobIds": ["99"]}, "notifications": {"channels": [to("chat", &hook, &["Failed"])]}});
    world.policy("urgent", own).await;
    let operator = world.operator_with(&OPEN);
    world.store(mailing_owners(&sink)).await;
    sink.next("recipient").await;
    world.sql("INSERT INTO job_executions VALUES (99, 99, 99, 'running', now() - interval '2 days')").await;
    sent(&hook, 1).await;
    let untried: i64 =
        world.one("SELECT count(*) FROM jobexec.messages WHERE channel = 'owners' AND attempts = 0").await;
    assert!(untried > 0, "it waited for all of them");
    drop(operator);
}

#[tokio::test]
async fn a_refusal_speaks_for_all_that_waits_for_the_recipient() {
    let Some(mut sink) =
        Sink::start("a recipient that is refused", &json!({"refuses": "gone.example"})).await
    else {
        return;
    };
    let world = with_owners_gone("notified-once", &sink, 1).await;
    let operator = world.operator();
    let mut spec = mailing_owners(&sink);
    spec["notifications"]["channels"][0]["email"]["to"] = json!(vec!["1@gone.example"; 8]);
    world.store(spec).await;
    // Attempts that were in progress at the same time.
    for _ in 0..4 {
        sink.next("recipient").await;
    }
    world
        .until_true(
            "SELECT count(*) FILTER (WHERE attempts = 1 AND error LIKE '%550%') = 4 AND count(*) FILTER (WHERE attempts = 0) = 5
                    AND bool_and(next_attempt_at > now() + interval '50 s') FROM jobexec.messages",
        )
        .await;
    assert_eq!(sink.end().await, Vec::<String>::new());
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
