//! The values for templates: a message, with the names that webhooks get, and derived values. Text from a table becomes one
//! line of bounded length here.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::message::{Count, Execution, Message, Note};
use super::sanitize;
use crate::api::duration;
use crate::api::notifications::Topic;

/// Limit of a text from a table, in characters.
const MAX_TEXT: usize = 200;

/// Limit of a note, in characters.
const MAX_NOTE: usize = 1_000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    id: String,
    at: String,
    namespace: String,
    store: String,
    channel: String,
    owner: Option<String>,
    pub(super) summary: String,
    counts: Vec<CountView>,
    executions: Vec<ExecutionView>,
    omitted: u64,
    notes: Vec<NoteView>,
    commands: Vec<String>,
}

#[derive(Serialize)]
struct CountView {
    topic: &'static str,
    count: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExecutionView {
    topic: &'static str,
    action: String,
    id: String,
    job_id: Option<String>,
    job_type: Option<String>,
    execution_number: Option<i64>,
    started_at: Option<String>,
    ran_for: Option<String>,
    deadline: Option<String>,
    at: String,
    reason: String,
    detail: Option<String>,
    source: String,
    actor: Option<String>,
    owner: Option<String>,
}

#[derive(Serialize)]
struct NoteView {
    topic: &'static str,
    at: String,
    text: String,
}

impl View {
    pub(super) fn of(message: &Message) -> Self {
        let Message { id, at, namespace, store, channel, owner, counts, executions, omitted, notes } =
            message;
        Self {
            id: id.to_string(),
            at: time(*at),
            namespace: line(namespace),
            store: line(store),
            channel: line(channel),
            owner: owner.as_deref().map(line),
            summary: summary(counts),
            counts: counts.iter().map(|c| CountView { topic: c.topic.as_str(), count: c.count }).collect(),
            executions: executions.iter().map(ExecutionView::of).collect(),
            omitted: *omitted,
            notes: notes.iter().map(NoteView::of).collect(),
            commands: commands(message),
        }
    }
}

impl ExecutionView {
    fn of(execution: &Execution) -> Self {
        let optional = |text: &Option<String>| text.as_deref().map(line);
        let ran_for = execution.started_at.map(|at| duration::rough((execution.at - at).as_seconds_f64()));
        Self {
            topic: execution.topic.as_str(),
            action: line(&execution.action),
            id: line(&execution.id),
            job_id: optional(&execution.job_id),
            job_type: optional(&execution.job_type),
            execution_number: execution.execution_number,
            started_at: execution.started_at.map(time),
            ran_for,
            deadline: execution.deadline.map(time),
            at: time(execution.at),
            reason: line(&execution.reason),
            detail: optional(&execution.detail),
            source: line(&execution.source),
            actor: optional(&execution.actor),
            owner: optional(&execution.owner),
        }
    }
}

impl NoteView {
    fn of(note: &Note) -> Self {
        Self { topic: note.topic.as_str(), at: time(note.at), text: sanitize::line(&note.text, MAX_NOTE) }
    }
}

fn line(text: impl AsRef<str>) -> String {
    sanitize::line(text.as_ref(), MAX_TEXT)
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Summarizes what happened, the worst first: `3 executions failed, 2 running long`.
fn summary(counts: &[Count]) -> String {
    const WORST_FIRST: [Topic; 6] = [
        Topic::Breaker,
        Topic::Failed,
        Topic::FinishedLate,
        Topic::Stale,
        Topic::LongRunning,
        Topic::Recovered,
    ];
    let mut noun_written = false;
    let mut phrases = Vec::new();
    for topic in WORST_FIRST {
        let count: u64 = counts.iter().filter(|c| c.topic == topic).map(|c| c.count).sum();
        let state = match topic {
            _ if count == 0 => continue,
            Topic::Breaker => "breaker open",
            Topic::Recovered => "recovered",
            Topic::Failed => "failed",
            Topic::FinishedLate => "finished after all",
            Topic::Stale => "stale",
            Topic::LongRunning => "running long",
        };
        phrases.push(match topic {
            Topic::Breaker | Topic::Recovered => state.to_owned(),
            _ if noun_written => format!("{count} {state}"),
            _ if count == 1 => format!("1 execution {state}"),
            _ => format!("{count} executions {state}"),
        });
        noun_written |= !matches!(topic, Topic::Breaker | Topic::Recovered);
    }
    if phrases.is_empty() { "nothing new".to_owned() } else { phrases.join(", ") }
}

/// Returns the commands to run next, for copying into a shell.
fn commands(message: &Message) -> Vec<String> {
    let Message { namespace, store, .. } = message;
    let name = quoted(&format!("{namespace}/{store}"));
    let mut commands =
        vec![format!("kubectl -n {} describe executionstore {}", quoted(namespace), quoted(store))];
    if let Some(execution) = message.executions.first() {
        // An id that looks like an option goes after `--`.
        commands.push(match quoted(&execution.id) {
            id if id.starts_with('-') => format!("jobexec explain --store {name} -- {id}"),
            id => format!("jobexec explain {id} --store {name}"),
        });
    }
    if message.executions.len() > 1 || message.omitted > 0 {
        commands.push(format!("jobexec history --since 1h --store {name}"));
    }
    if message.counts.iter().any(|count| count.topic == Topic::Breaker) {
        commands.push(format!("jobexec cleanup --dry-run --store {name}"));
        commands.push(format!("jobexec resume --store {name}"));
    }
    commands
}

/// Quotes a word so that a shell executes nothing in it.
fn quoted(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "._/:-".contains(c);
    let word = line(word);
    if !word.is_empty() && word.chars().all(harmless) {
        return word;
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_begins_with_the_worst_and_has_one_noun() {
        let of = |counts: &[(Topic, u64)]| {
            summary(
                &counts
                    .iter()
                    .map(|(topic, count)| Count { topic: *topic, count: *count })
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(of(&[(Topic::LongRunning, 2), (Topic::Failed, 3)]), "3 executions failed, 2 running long");
        assert_eq!(of(&[(Topic::Stale, 1), (Topic::Breaker, 1)]), "breaker open, 1 execution stale");
        assert_eq!(of(&[(Topic::FinishedLate, 1)]), "1 execution finished after all");
        assert_eq!(of(&[(Topic::Recovered, 1)]), "recovered");
        assert_eq!(of(&[]), "nothing new");
    }

    #[test]
    fn id_is_quoted_for_the_shell() {
        assert_eq!(quoted("39"), "39");
        assert_eq!(quoted("$(reboot)\n; x"), "'$(reboot) ; x'");
        assert_eq!(quoted("a'b"), r"'a'\''b'");
        assert_eq!(quoted(""), "''");
    }
}
