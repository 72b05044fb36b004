//! The functions that write, deliver and adopt messages.

use chrono::{DateTime, TimeDelta, Utc};
use jobexec_operator::db::adopt::{self, How};
use jobexec_operator::db::{messages, outbox};
use jobexec_operator::notify::digest::OutgoingMessage;
use jobexec_operator::notify::message::Message;
use uuid::Uuid;

use super::Setting;
use crate::statements::recorder::Recorder;

pub(super) async fn of_messages(recorder: &mut Recorder, s: &Setting<'_>) {
    let (database, m, id) = (s.database, s.predicate.mapping, s.store_id);
    let channel = vec!["ops".to_owned()];
    let letters = |recipients: &[&str], at: DateTime<Utc>| -> Vec<OutgoingMessage> {
        let message =
            |recipient: &&str| OutgoingMessage { recipient: (*recipient).to_owned(), message: message(at) };
        recipients.iter().map(message).collect()
    };
    let write = |_: &outbox::Posted, at| letters(&["a@example.org", "b@example.org"], at);
    let written = recorder.of("outbox::digest", outbox::digest(database, m, id, write)).await;
    assert_eq!(written, 2, "nothing was posted");
    recorder.of("messages::pending", messages::pending(database, id, &[])).await;
    let taken = recorder.of("messages::take", messages::take(database, id, &[])).await;
    let [first, second] = &taken[..] else { panic!("{taken:?}") };
    recorder
        .of("messages::failed", messages::failed(database, first.id, "no", std::time::Duration::from_secs(1)))
        .await;
    let pause = |_| std::time::Duration::from_secs(1);
    recorder.of("messages::refused", messages::refused(database, id, second, "no", pause)).await;
    if m.owner() != "NULL::text" {
        let ids: Vec<&str> = s.ids.iter().map(String::as_str).collect();
        recorder.of("messages::is_owner", messages::is_owner(database, m, &ids, "owner@example.org")).await;
    }
    recorder.of("messages::hasten", messages::hasten(database, id, &channel)).await;
    recorder
        .of("messages::give_up_old", messages::give_up_old(database, id, TimeDelta::days(1), &channel))
        .await;
    recorder.of("messages::delivered", messages::delivered(database, first.id)).await;
    recorder.of("messages::give_up", messages::give_up(database, second.id, "no")).await;
    recorder.of("messages::expire", messages::expire(database, id)).await;
    recorder.of("messages::forget", messages::forget(database, id, TimeDelta::days(1))).await;
    for (name, how) in [("take_over", How::TakeOver), ("discard", How::Discard)] {
        recorder.of(&format!("adopt::adopt.{name}"), adopt::adopt(database, m, None, how)).await;
        // The record of a table with this name that is gone.
        s.others(
            "INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name) \
             SELECT 1, 1, table_schema, table_name FROM jobexec.stores WHERE registry = 'jobexec.stores'::regclass",
        )
        .await;
        recorder.of(&format!("adopt::adopt.{name}.left"), adopt::adopt(database, m, None, how)).await;
    }
    recorder.of("outbox::recover", outbox::recover(database, id, Utc::now())).await;
}

fn message(at: DateTime<Utc>) -> Message {
    Message {
        id: Uuid::new_v4(),
        at,
        namespace: "n".into(),
        store: "jobs".into(),
        channel: "ops".into(),
        owner: None,
        counts: Vec::new(),
        executions: Vec::new(),
        omitted: 0,
        notes: Vec::new(),
    }
}
