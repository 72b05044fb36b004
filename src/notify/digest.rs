//! Groups what happened in a store into one message per recipient. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::message::{Count, Execution, Message, NAMED, Note};
use crate::api::notifications::{Channel, Topic};

/// A message and its recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// An address; empty for a webhook.
    pub recipient: String,
    /// The message.
    pub message: Message,
}

/// The notification channels for the executions of one store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelSet {
    /// The namespace of the store.
    pub namespace: String,
    /// The name of the store.
    pub store: String,
    /// The channels of the store.
    pub channels: Vec<Channel>,
    /// The channels of policies that apply to the store, by the name of the policy.
    pub policies: BTreeMap<String, Vec<Channel>>,
}

impl ChannelSet {
    /// Whether there is any channel.
    pub fn any(&self) -> bool {
        !self.channels.is_empty() || self.policies.values().any(|channels| !channels.is_empty())
    }

    /// Returns the channel with this name: `channel`, or `policy/channel`.
    pub fn channel(&self, name: &str) -> Option<&Channel> {
        let (channels, name) = match name.split_once('/') {
            Some((policy, name)) => (self.policies.get(policy)?, name),
            None => (&self.channels, name),
        };
        channels.iter().find(|channel| channel.name == name)
    }

    /// Whether a channel, as it is configured now, sends a message to this recipient.
    pub fn admits(channel: &Channel, recipient: &str, message: &Message) -> Admission {
        let Some(email) = &channel.email else {
            return if recipient.is_empty() { Admission::Told } else { Admission::Stranger };
        };
        if message.owner.is_none() && email.to.iter().any(|address| address.0 == recipient) {
            Admission::Told
        } else if email.to_owner && message.owner.as_deref() == Some(recipient) {
            Admission::Owner
        } else {
            Admission::Stranger
        }
    }

    /// Returns all channels, each with its full name.
    pub fn all(&self) -> impl Iterator<Item = (String, &Channel)> {
        let policies = self.policies.keys().map(|policy| Some(policy.as_str()));
        std::iter::once(None).chain(policies).flat_map(|policy| self.of(policy))
    }

    /// Returns the channels for executions that the policy governs, or (`None`) those of the store, each with its full name.
    fn of<'a>(&'a self, policy: Option<&'a str>) -> impl Iterator<Item = (String, &'a Channel)> {
        let channels = policy.map_or(Some(&self.channels), |policy| self.policies.get(policy));
        let name = move |channel: &Channel| match policy {
            Some(policy) => format!("{policy}/{}", channel.name),
            None => channel.name.clone(),
        };
        channels.into_iter().flatten().map(move |channel| (name(channel), channel))
    }
}

/// Whether a recipient gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes: the channel names this recipient.
    Told,
    /// Only if this is the owner of one of the executions.
    Owner,
    /// No.
    Stranger,
}

/// The executions and notes for one channel, or for one owner through it.
#[derive(Default)]
struct Group<'a> {
    executions: Vec<&'a Execution>,
    notes: Vec<&'a Note>,
}

/// Groups executions and notes by recipient. `policy` returns the policy whose channels get an execution, if any.
pub fn digest<'a>(
    directory: &'a ChannelSet,
    executions: &[Execution],
    notes: &[Note],
    at: DateTime<Utc>,
    policy: impl Fn(&Execution) -> Option<&'a str>,
) -> Vec<OutgoingMessage> {
    let mut groups: BTreeMap<(String, Option<&str>), Group<'_>> = BTreeMap::new();
    for execution in executions {
        for (name, channel) in
            directory.of(policy(execution)).filter(|(_, c)| execution.topic.is_among(&c.events))
        {
            if let Some(owner) = execution.owner.as_deref().filter(|_| to_owner(channel)) {
                groups.entry((name.clone(), Some(owner))).or_default().executions.push(execution);
            }
            if has_recipients(channel) {
                groups.entry((name, None)).or_default().executions.push(execution);
            }
        }
    }
    for note in notes {
        for (name, channel) in directory.of(None).filter(|(_, c)| note.topic.is_among(&c.events)) {
            if has_recipients(channel) {
                groups.entry((name, None)).or_default().notes.push(note);
            }
        }
    }
    groups
        .into_iter()
        .flat_map(|((name, owner), group)| letters(directory, &name, owner, &group, at))
        .collect()
}

fn to_owner(channel: &Channel) -> bool {
    channel.email.as_ref().is_some_and(|email| email.to_owner)
}

fn has_recipients(channel: &Channel) -> bool {
    channel.webhook.is_some() || channel.email.as_ref().is_some_and(|email| !email.to.is_empty())
}

/// Creates the same message for each recipient, so that each delivery can fail separately.
fn letters(
    directory: &ChannelSet,
    name: &str,
    owner: Option<&str>,
    group: &Group<'_>,
    at: DateTime<Utc>,
) -> Vec<OutgoingMessage> {
    let channel = directory.channel(name);
    let recipients = match (owner, channel.and_then(|channel| channel.email.as_ref())) {
        (Some(owner), _) => vec![owner.to_owned()],
        (None, Some(email)) => email.to.iter().map(|address| address.0.clone()).collect(),
        (None, None) => vec![String::new()],
    };
    let message = message(directory, name, owner, group, at);
    let letter =
        |recipient| OutgoingMessage { recipient, message: Message { id: Uuid::new_v4(), ..message.clone() } };
    recipients.into_iter().map(letter).collect()
}

fn message(
    directory: &ChannelSet,
    channel: &str,
    owner: Option<&str>,
    group: &Group<'_>,
    at: DateTime<Utc>,
) -> Message {
    let topics = || group.executions.iter().map(|e| e.topic).chain(group.notes.iter().map(|n| n.topic));
    let count = |topic| Count { topic, count: topics().filter(|other| *other == topic).count() as u64 };
    Message {
        id: Uuid::new_v4(),
        at,
        namespace: directory.namespace.clone(),
        store: directory.store.clone(),
        channel: channel.to_owned(),
        owner: owner.map(str::to_owned),
        counts: Topic::ALL.into_iter().map(count).filter(|count| count.count > 0).collect(),
        executions: group.executions.iter().take(NAMED).map(|execution| (*execution).clone()).collect(),
        omitted: group.executions.len().saturating_sub(NAMED) as u64,
        notes: group.notes.iter().map(|note| (*note).clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn channels(value: serde_json::Value) -> Vec<Channel> {
        serde_json::from_value(value).unwrap()
    }

    fn directory() -> ChannelSet {
        ChannelSet {
            namespace: "team-a".to_owned(),
            store: "jobs".to_owned(),
            channels: channels(json!([
                {"name": "ops", "email": {"to": ["a@x.org", "b@x.org"], "toOwner": true}},
                {"name": "chat", "events": ["Failed", "Breaker"], "webhook": {"url": "https://x.org"}},
            ])),
            policies: BTreeMap::from([
                ("nightly".to_owned(), channels(json!([{"name": "ops", "email": {"to": ["n@x.org"]}}]))),
                ("quiet".to_owned(), Vec::new()),
            ]),
        }
    }

    fn execution(id: &str, topic: Topic, owner: Option<&str>) -> Execution {
        Execution {
            topic,
            action: "Failed".to_owned(),
            id: id.to_owned(),
            job_id: Some("21".to_owned()),
            job_type: None,
            execution_number: Some(5),
            started_at: None,
            deadline: None,
            at: DateTime::UNIX_EPOCH,
            reason: "DeadlineExceeded".to_owned(),
            detail: None,
            source: "ExecutionStore/jobs".to_owned(),
            actor: None,
            owner: owner.map(str::to_owned),
        }
    }

    fn told(
        executions: &[Execution],
        notes: &[Note],
        policy: Option<&'static str>,
    ) -> Vec<(String, String, Vec<String>)> {
        let letters = digest(&directory(), executions, notes, DateTime::UNIX_EPOCH, |_| policy);
        let ids = |message: &Message| message.executions.iter().map(|e| e.id.clone()).collect();
        letters.iter().map(|l| (l.message.channel.clone(), l.recipient.clone(), ids(&l.message))).collect()
    }

    fn row(channel: &str, to: &str, ids: &[&str]) -> (String, String, Vec<String>) {
        (channel.to_owned(), to.to_owned(), ids.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn recipients_get_their_topics_and_owners_their_executions() {
        let executions =
            [execution("1", Topic::Failed, Some("o@x.org")), execution("2", Topic::LongRunning, None)];
        let all = told(&executions, &[], None);
        let expected = [
            row("chat", "", &["1"]),
            row("ops", "a@x.org", &["1", "2"]),
            row("ops", "b@x.org", &["1", "2"]),
            row("ops", "o@x.org", &["1"]),
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn policy_channels_replace_store_channels_for_executions_only() {
        let executions = [execution("1", Topic::Failed, Some("o@x.org"))];
        let note = Note { topic: Topic::Breaker, at: DateTime::UNIX_EPOCH, text: "too many".to_owned() };
        assert_eq!(told(&executions, &[], Some("nightly")), [row("nightly/ops", "n@x.org", &["1"])]);
        assert_eq!(told(&executions, &[], Some("quiet")), []);
        let expected = [row("chat", "", &[]), row("ops", "a@x.org", &[]), row("ops", "b@x.org", &[])];
        assert_eq!(told(&executions, &[note], Some("quiet")), expected);
    }

    #[test]
    fn message_goes_only_to_recipients_of_the_channel() {
        let executions = [execution("1", Topic::Failed, Some("o@x.org"))];
        let directory = directory();
        let letters = digest(&directory, &executions, &[], DateTime::UNIX_EPOCH, |_| None);
        for letter in &letters {
            let channel = directory.channel(&letter.message.channel).unwrap();
            let admits = |to: &str| ChannelSet::admits(channel, to, &letter.message);
            let of_owner = letter.message.owner.is_some();
            assert_eq!(admits(&letter.recipient), if of_owner { Admission::Owner } else { Admission::Told });
            assert_eq!(admits("evil@x.org"), Admission::Stranger);
        }
    }

    #[test]
    fn ten_thousand_executions_are_one_message_per_recipient() {
        let executions: Vec<_> =
            (0..10_000).map(|n| execution(&n.to_string(), Topic::Failed, None)).collect();
        let letters = digest(&directory(), &executions, &[], DateTime::UNIX_EPOCH, |_| None);
        assert_eq!(letters.len(), 3);
        let message = &letters[0].message;
        assert_eq!((message.executions.len(), message.omitted), (NAMED, 10_000 - NAMED as u64));
        assert_eq!(message.counts, [Count { topic: Topic::Failed, count: 10_000 }]);
    }
}
