//! How the channels of a store stand: which are left alone for a while, and what is to be said of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::api::{ExecutionStore, notifications};
use crate::controllers::context::backoff_between;
use crate::notify::digest::Directory;
use crate::notify::template::Templates;

/// The pause after a first attempt that failed; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_secs(5);

/// The longest pause.
const PAUSE_CAP: Duration = Duration::from_mins(10);

/// How many recipients that fail are remembered.
const REMEMBERED: usize = 100;

/// How long: an address of a row may never be tried again.
const REMEMBERED_FOR: Duration = Duration::from_hours(1);

/// How many of them a condition names.
const NAMED: usize = 3;

/// What is to be said of telling people, for a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Whether nothing is wrong.
    pub(crate) well: bool,
    /// One word.
    pub(crate) reason: &'static str,
    /// A sentence that says what to do next.
    pub(crate) message: String,
}

/// See the module.
#[derive(Default)]
pub(super) struct Channels(Mutex<State>);

#[derive(Default)]
struct State {
    by_name: BTreeMap<String, Channel>,
    waiting: i64,
    given_up: u64,
    /// What was wrong with a template when it was last used.
    template: Option<String>,
    /// The templates that were tried, which takes its time, and what is wrong with them.
    tried: Option<notifications::Templates>,
    broken: Option<String>,
}

#[derive(Default)]
struct Channel {
    /// How many attempts in a row have failed, and until when it is left alone.
    failures: u32,
    until: Option<Instant>,
    /// Why it fails.
    error: Option<(&'static str, String)>,
    /// Recipients that fail apart from the others, why, and when they last did.
    refused: BTreeMap<String, (String, Instant)>,
}

/// The pause after so many attempts that failed.
pub(super) fn pause(failures: u32) -> Duration {
    backoff_between(PAUSE_FIRST, PAUSE_CAP, failures)
}

impl Channels {
    /// The channels that are left alone at present.
    pub(super) fn held(&self) -> Vec<String> {
        let state = self.state();
        let held = state
            .by_name
            .iter()
            .filter(|(_, channel)| channel.until.is_some_and(|until| until > Instant::now()));
        held.map(|(name, _)| name.clone()).collect()
    }

    /// When the first of them is tried again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.state()
            .by_name
            .values()
            .filter_map(|channel| channel.until)
            .filter(|until| *until > Instant::now())
            .min()
    }

    /// A message was delivered: all that was wrong with its channel is not any more.
    pub(super) fn delivered(&self, name: &str, recipient: &str) {
        let mut state = self.state();
        let channel = state.by_name.entry(name.to_owned()).or_default();
        channel.refused.remove(recipient);
        (channel.failures, channel.until, channel.error) = (0, None, None);
    }

    /// One recipient of a channel failed, which says nothing of the others.
    /// Returns whether that is news.
    pub(super) fn refused(&self, name: &str, recipient: &str, error: String) -> bool {
        let mut state = self.state();
        let refused = &mut state.by_name.entry(name.to_owned()).or_default().refused;
        let known = refused.contains_key(recipient);
        if refused.len() < REMEMBERED || known {
            refused.insert(recipient.to_owned(), (error, Instant::now()));
        }
        !known && refused.len() <= NAMED
    }

    /// A channel failed, which is left alone for a while. Of several attempts made at the same time one counts.
    /// Returns whether that is news.
    pub(super) fn failed(&self, name: &str, reason: &'static str, error: String) -> bool {
        let mut state = self.state();
        let channel = state.by_name.entry(name.to_owned()).or_default();
        let news = channel.error.as_ref().is_none_or(|known| *known != (reason, error.clone()));
        channel.error = Some((reason, error));
        if channel.until.is_none_or(|until| until <= Instant::now()) {
            channel.failures = channel.failures.saturating_add(1);
            channel.until = Some(Instant::now() + pause(channel.failures));
        }
        news
    }

    /// How many messages wait.
    pub(super) fn waiting(&self, messages: i64) {
        self.state().waiting = messages;
    }

    /// How many more were given up.
    pub(super) fn given_up(&self, messages: u64) {
        self.state().given_up += messages;
    }

    /// What was wrong with a template that was used; `None`: nothing.
    pub(super) fn template(&self, wrong: Option<String>) {
        self.state().template = wrong;
    }

    /// What is to be said. `recorded`: there is an outbox.
    pub(super) fn report(&self, store: &ExecutionStore, directory: &Directory, recorded: bool) -> Report {
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
        state.by_name.retain(|name, _| directory.channel(name).is_some());
        for channel in state.by_name.values_mut() {
            channel.refused.retain(|_, (_, at)| at.elapsed() < REMEMBERED_FOR);
        }
        let failing = state.by_name.iter().find_map(|(name, channel)| Some((name, channel.error.as_ref()?)));
        if let Some((name, (reason, error))) = failing {
            return wrong(reason, format!("the channel {name} cannot be told: {error}. {}", outlook(&state)));
        }
        let refused = state.by_name.iter().find(|(_, channel)| !channel.refused.is_empty());
        if let Some((name, channel)) = refused {
            let told: Vec<_> =
                channel.refused.iter().take(NAMED).map(|(to, (why, _))| format!("{to:?}: {why}")).collect();
            let more = channel.refused.len().saturating_sub(told.len());
            let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
            let message =
                format!("recipients of the channel {name} cannot be told: {}{rest}", told.join("; "));
            return wrong("RecipientsRefused", message);
        }
        let templates = store.spec.notifications.as_ref().and_then(|n| n.templates.as_ref());
        if state.tried.as_ref() != templates {
            state.broken = Templates::new(templates).1.first().map(ToString::to_string);
            state.tried = templates.cloned();
        }
        if let Some(error) = state.broken.clone().or_else(|| state.template.clone()) {
            return wrong("TemplateInvalid", format!("the default is used in place of a template: {error}"));
        }
        let count = directory.channels.len() + directory.policies.values().map(Vec::len).sum::<usize>();
        let message = format!("{count} channels are told of what happens");
        Report { well: true, reason: "Notifying", message }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn outlook(state: &State) -> String {
    let given_up = match state.given_up {
        0 => String::new(),
        count => format!("; {count} were given up (jobexec.messages tells which)"),
    };
    format!("{} messages wait and are tried again until giveUpAfter{given_up}", state.waiting)
}
