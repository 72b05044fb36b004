//! The state of all channels of a store: which are paused, and the report for the condition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::channel::{Channel, NAMED};
use crate::api::{ADOPT, ExecutionStore, notifications};
use crate::notify::digest::ChannelSet;
use crate::notify::template::Templates;

/// The report on notifications, for a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// True if nothing is wrong.
    pub(crate) well: bool,
    /// The reason of the condition.
    pub(crate) reason: &'static str,
    /// The message of the condition, which says what to do next.
    pub(crate) message: String,
}

/// The state of all channels of a store.
#[derive(Default)]
pub(super) struct Channels(Mutex<State>);

#[derive(Default)]
struct State {
    by_name: BTreeMap<String, Channel>,
    /// The spec of each channel, and the channels whose spec changed since their messages were last delayed.
    described: BTreeMap<String, Described>,
    changed: BTreeSet<String>,
    /// The number of waiting messages, and their channels.
    waiting: i64,
    waiting_for: BTreeSet<String>,
    given_up: u64,
    /// The number of messages and events that another store wrote, which are not delivered.
    foreign: i64,
    /// The error of a template when it was last used.
    template: Option<String>,
    /// The templates that were compiled, which takes time, and the first error in them.
    tried: Option<notifications::Templates>,
    broken: Option<String>,
}

/// The spec of a channel, with its mail server.
type Described = (notifications::Channel, Option<notifications::Smtp>);

/// The channels that are paused at present.
pub(super) struct Held {
    /// All paused channels.
    pub(super) all: Vec<String>,
    /// The paused channels that fail as a whole.
    pub(super) failing: Vec<String>,
}

impl Channels {
    /// The channels that are paused at present.
    pub(super) fn held(&self) -> Held {
        let (state, now) = (self.state(), Instant::now());
        let held = || state.by_name.iter().filter(|(_, channel)| channel.held_until(now).is_some());
        let failing = held().filter(|(_, channel)| channel.error().is_some());
        Held {
            all: held().map(|(name, _)| name.clone()).collect(),
            failing: failing.map(|(name, _)| name.clone()).collect(),
        }
    }

    /// The time when the first of them is tried again.
    pub(super) fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        self.state().by_name.values().filter_map(|channel| channel.held_until(now)).min()
    }

    /// Records a delivered message, which clears the problems of its channel.
    pub(super) fn delivered(&self, name: &str, recipient: &str) {
        self.state().by_name.entry(name.to_owned()).or_default().delivered(recipient);
    }

    /// Records that the server of a channel refused a recipient, which says little about the others. Returns whether that
    /// is news.
    pub(super) fn refused(&self, name: &str, recipient: &str, error: String) -> bool {
        self.state().by_name.entry(name.to_owned()).or_default().refused(recipient, error, Instant::now())
    }

    /// Records that one recipient of a channel cannot be reached, which says nothing about the others. Returns whether
    /// that is news.
    pub(super) fn record_failure(&self, name: &str, recipient: &str, error: String) -> bool {
        self.state().by_name.entry(name.to_owned()).or_default().record_failure(
            recipient,
            error,
            Instant::now(),
        )
    }

    /// Records that a channel failed, and pauses it. Returns whether that is news.
    pub(super) fn failed(&self, name: &str, reason: &'static str, error: String) -> bool {
        self.state().by_name.entry(name.to_owned()).or_default().failed(reason, error, Instant::now())
    }

    /// Records the number of waiting messages, and their channels.
    pub(super) fn waiting(&self, messages: i64, channels: &[String]) {
        let mut state = self.state();
        (state.waiting, state.waiting_for) = (messages, channels.iter().cloned().collect());
    }

    /// Records the number of waiting messages and events that another store wrote.
    pub(super) fn foreign(&self, written: i64) {
        self.state().foreign = written;
    }

    /// The channels whose spec has changed, so that their messages need not wait out the old pause.
    pub(super) fn changed(&self) -> Vec<String> {
        self.state().changed.iter().cloned().collect()
    }

    /// Records that the messages of these channels no longer wait.
    pub(super) fn hastened(&self, channels: &[String]) {
        self.state().changed.retain(|name| !channels.contains(name));
    }

    /// Counts abandoned messages.
    pub(super) fn given_up(&self, messages: u64) {
        self.state().given_up += messages;
    }

    /// Records the error of a template that was used; `None`: it works.
    pub(super) fn template(&self, wrong: Option<String>) {
        self.state().template = wrong;
    }

    /// The report for the condition. `recorded`: there is an outbox.
    pub(super) fn report(&self, store: &ExecutionStore, directory: &ChannelSet, recorded: bool) -> Report {
        let wrong = |reason, message| Report { well: false, reason, message };
        if !recorded {
            return wrong(
                "NotRecorded",
                "nobody is told, since there is no outbox that this login may write to: have an administrator run \
                 `jobexec schema --apply --role` with its name"
                    .to_owned(),
            );
        }
        let mut state = self.state();
        state.follow(store, directory);
        state.forget(Instant::now());
        let failing = state.by_name.iter().find_map(|(name, channel)| Some((name, channel.error()?)));
        if let Some((name, (reason, error))) = failing {
            return wrong(reason, format!("the channel {name} cannot be told: {error}. {}", outlook(&state)));
        }
        let refused = state.by_name.iter().find(|(_, channel)| channel.refused_recipients().len() > 0);
        if let Some((name, channel)) = refused {
            let recipients = channel.refused_recipients();
            let more = recipients.len().saturating_sub(NAMED);
            let told: Vec<_> = recipients.take(NAMED).map(|(to, why)| format!("{to:?}: {why}")).collect();
            let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
            let message =
                format!("recipients of the channel {name} cannot be told: {}{rest}", told.join("; "));
            return wrong("RecipientsRefused", message);
        }
        let templates = store.spec.notifications.as_ref().and_then(|n| n.templates.as_ref());
        if state.tried.as_ref() != templates {
            state.broken = Templates::new(templates).1.first().map(ToString::to_string);
            state.tried = templates.cloned();
            // The error was that of other templates.
            state.template = None;
        }
        if let Some(error) = state.broken.clone().or_else(|| state.template.clone()) {
            return wrong("TemplateInvalid", format!("the default is used in place of a template: {error}"));
        }
        if state.foreign > 0 {
            let message = format!(
                "{} messages and events were written for another ExecutionStore, as before this one was made or where the \
                 database was copied, and nobody is told of them: if it is a copy, run `jobexec adopt --discard` on the database to \
                 drop them; `jobexec adopt` has them delivered; the annotation {ADOPT}, with a value that begins with `discard` or \
                 with another new one, does the same",
                state.foreign
            );
            return wrong("WrittenForAnother", message);
        }
        let count = directory.channels.len() + directory.policies.values().map(Vec::len).sum::<usize>();
        let message = format!("{count} channels are told of what happens");
        Report { well: true, reason: "Delivered", message }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps the state of channels whose spec is unchanged, and drops that of all others.
    fn follow(&mut self, store: &ExecutionStore, directory: &ChannelSet) {
        let smtp = store.spec.notifications.as_ref().and_then(|notifications| notifications.smtp.as_ref());
        let describe = |channel: &notifications::Channel| {
            (channel.clone(), smtp.filter(|_| channel.email.is_some()).cloned())
        };
        let described: BTreeMap<String, Described> =
            directory.all().map(|(name, channel)| (name, describe(channel))).collect();
        for (name, now) in &described {
            if self.described.get(name).is_some_and(|before| before != now) {
                self.by_name.remove(name);
                self.changed.insert(name.clone());
            }
        }
        self.by_name.retain(|name, _| described.contains_key(name));
        self.described = described;
    }

    fn forget(&mut self, now: Instant) {
        for (name, channel) in &mut self.by_name {
            channel.forget(self.waiting_for.contains(name), now);
        }
    }
}

fn outlook(state: &State) -> String {
    let given_up = match state.given_up {
        0 => String::new(),
        count => format!("; {count} were given up (jobexec.messages tells which)"),
    };
    format!("{} messages wait and are tried again until giveUpAfter{given_up}", state.waiting)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn store(host: &str, poll: &str) -> ExecutionStore {
        let smtp = json!({"host": host, "from": "jobexec@example.org"});
        let spec = json!({"connection": {"secretRef": {"name": "db"}}, "pollInterval": poll, "notifications": {"smtp": smtp, "channels": []}});
        serde_json::from_value(json!({
            "apiVersion": "jobexec.dev/v1alpha1", "kind": "ExecutionStore", "metadata": {"name": "jobs"}, "spec": spec,
        }))
        .unwrap()
    }

    fn directory(chat: &str) -> ChannelSet {
        let channels = |value: Value| serde_json::from_value(value).unwrap();
        ChannelSet {
            channels: channels(json!([
                {"name": "ops", "email": {"to": ["ops@example.org"]}},
                {"name": "chat", "webhook": {"url": chat}},
            ])),
            policies: BTreeMap::from([(
                "nightly".to_owned(),
                channels(json!([{"name": "ops", "email": {"toOwner": true}}])),
            )]),
            ..ChannelSet::default()
        }
    }

    #[test]
    fn what_is_described_anew_is_tried_at_once() {
        let channels = Channels::default();
        let report = |host, poll, chat| channels.report(&store(host, poll), &directory(chat), true);
        let fail = || {
            for name in ["ops", "chat", "nightly/ops"] {
                channels.failed(name, "Unreachable", "gone".to_owned());
            }
        };
        assert!(report("a", "10s", "http://a").well);
        fail();
        // An unrelated change has no effect.
        assert_eq!(report("a", "20s", "http://a").reason, "Unreachable");
        assert_eq!((channels.held().failing.len(), channels.changed().len()), (3, 0));
        // All channels of one mail server, and no others.
        report("b", "20s", "http://a");
        assert_eq!(
            (channels.held().all, channels.changed()),
            (vec!["chat".to_owned()], vec!["nightly/ops".to_owned(), "ops".to_owned()],)
        );
        channels.hastened(&["ops".to_owned(), "nightly/ops".to_owned()]);
        assert!(report("b", "20s", "http://b").well);
        assert_eq!((channels.held().all, channels.changed()), (vec![], vec!["chat".to_owned()]));
    }

    #[test]
    fn a_channel_for_which_nothing_waits_does_not_count_for_ever() {
        let channels = Channels::default();
        let reason = || channels.report(&store("a", "10s"), &directory("http://a"), true).reason;
        channels.failed("ops", "Unreachable", "gone".to_owned());
        channels.waiting(1, &["ops".to_owned()]);
        let later = Instant::now() + Duration::from_hours(2);
        channels.state().forget(later);
        assert_eq!(reason(), "Unreachable");
        channels.waiting(0, &[]);
        channels.state().forget(later);
        assert_eq!(reason(), "Delivered");
    }

    #[test]
    fn a_channel_that_is_slowed_down_does_not_fail() {
        let channels = Channels::default();
        for n in 0..8 {
            channels.refused("ops", &format!("{n}@example.org"), "550 no".to_owned());
        }
        let held = channels.held();
        assert_eq!((held.all, held.failing), (vec!["ops".to_owned()], vec![]));
        assert_eq!(
            channels.report(&store("a", "10s"), &directory("http://a"), true).reason,
            "RecipientsRefused"
        );
    }
}
