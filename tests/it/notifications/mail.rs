//! E-mail to owners and administrators, and a server that refuses recipients.

use serde_json::{Value, json};

use super::{all_told, notifying, sent, to};
use crate::support::World;
use crate::support::hook::{Hook, status};
use crate::support::https::OPEN;
use crate::support::smtp::Sink;
use crate::support::world::TABLE;

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
