//! `jobexec explain`: explains the state of one execution.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::CliError;
use super::backend::{Backend, BackendArgs, Explained};
use super::output::{self, Format, Output, hours, length};
use crate::api::Phase;
use crate::api::duration::NEVER;
use crate::db::explain::{Considered, Explanation, Record};
use crate::db::retry::{Latest, State};

/// The options of `jobexec explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec explain 39                    an execution in the default table of DATABASE_URL
  jobexec explain 39 -f store.yaml      in the table that an ExecutionStore describes
  jobexec explain 39 -o json
  jobexec explain 39 --store prod/jobs  in a store managed by the operator of the current kube context

The rules shown are those that the operator applies (stored in jobexec.rules).")]
pub(super) struct Args {
    /// The id of the execution.
    #[arg(allow_negative_numbers = true)]
    id: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    backend: BackendArgs,
}

/// Explains why an execution is stale or not, and what happens next.
pub(super) async fn run(args: Args) -> Result<(), CliError> {
    let mut store = Backend::open(args.backend).await?;
    store.print_warning();
    let Explained { explanation, records, managed } = store.explain(&args.id).await?;
    store.close().await;
    match args.output.format {
        Format::Json | Format::Yaml => {
            let view = View { explanation: &explanation, recorded: &records, operator: managed };
            output::object(args.output.format, &view)
        }
        Format::Name => output::print(&format!("{}\n", explanation.id)),
        Format::Table | Format::Wide => {
            let mut text = render(&explanation, &records, args.output);
            if !managed {
                text.push_str(NOT_MANAGED);
            }
            output::print(&text)
        }
    }
}

const NOT_MANAGED: &str = "\nNo operator manages this table: only the store's own settings count here.\n";

/// The explanation in JSON or YAML.
#[derive(Serialize)]
struct View<'a> {
    #[serde(flatten)]
    explanation: &'a Explanation,
    recorded: &'a [Record],
    /// Whether an operator manages this table, so that policies and objects count.
    operator: bool,
}

/// Renders the explanation for people. Writing to a string cannot fail.
fn render(e: &Explanation, records: &[Record], output: Output) -> String {
    let time = |at| output.time(at);
    let mut out = String::new();
    let number = e.number.map_or_else(|| "?".to_owned(), |n| n.to_string());
    let type_ = e.job_type.as_ref().map_or(String::new(), |type_| format!(" of type {type_}"));
    let _ = writeln!(
        out,
        "Execution {} (job {}{type_}, #{number}): {}{}",
        e.id,
        e.job_id.as_deref().unwrap_or("?"),
        e.status,
        e.runtime().map_or(String::new(), |r| format!(", {} for {}", ran(e), hours(r.as_seconds_f64()))),
    );
    for (name, at) in [("created", e.created_at), ("started", e.started_at), ("ended", e.completed_at)] {
        if let Some(at) = at {
            let _ = writeln!(out, "  {name:10} {}", time(at));
        }
    }
    if let Some(at) = e.checkpoint_at {
        let earlier =
            if e.started_at.is_some_and(|start| at <= start) { ", by an earlier attempt" } else { "" };
        let _ = writeln!(out, "  checkpoint {}{earlier}", time(at));
    }
    out.push_str("\nRules\n");
    let width = |cell: fn(&Considered) -> &str| e.considered.iter().map(|c| cell(c).len()).max().unwrap_or(0);
    let (values, sources) = (width(|c| &c.value), width(|c| &c.source));
    for Considered { field, value, source, why, counts } in &e.considered {
        let mark = if *counts { "*" } else { " " };
        let _ = writeln!(out, "{mark} {field:16} {value:values$}  {source:sources$}  {why}");
    }
    if !e.phase.finished() {
        evidence(&mut out, e, output);
    }
    if !records.is_empty() {
        out.push_str("\nRecorded\n");
    }
    for Record { at, action, reason, source, actor, note } in records {
        let by = actor.as_ref().map_or(String::new(), |actor| format!(", by {actor}"));
        let note = note.as_ref().map_or(String::new(), |note| format!(": {note}"));
        let _ = writeln!(out, "  {}  {action} ({reason}) on behalf of {source}{by}{note}", time(*at));
    }
    let _ = writeln!(out, "\n{}", outlook(e, output));
    // Text from the table must not control the terminal.
    out.lines().map(|line| output::escape_control(line) + "\n").collect()
}

fn evidence(out: &mut String, e: &Explanation, output: Output) {
    let time = |at| output.time(at);
    out.push_str("\nEvidence\n");
    let none = match e.without_deadline() {
        _ if e.phase == Phase::Paused => "none, because the execution is paused".to_owned(),
        Some(source) => format!("{NEVER}, by {source}"),
        None => "none, because the execution has no start time and has not yet been seen running in the present version of its row"
            .to_owned(),
    };
    let deadline = e.deadline.map_or(none, |at| format!("{}, {}", time(at), distance(e.now, at)));
    let _ = writeln!(out, "  {:16} {deadline}", "deadline");
    if let Some((from, why)) = e.counts_otherwise() {
        let _ = writeln!(out, "  {:16} {}, {why}", "counts from", time(from));
    }
    for evidence in &e.evidence {
        let stale = evidence.stale_at.map_or(String::new(), |at| {
            format!("; makes it stale from {}, {}", time(at), distance(e.now, at))
        });
        let _ = writeln!(out, "  {:16} {}{stale}", evidence.reason.as_str(), evidence.seen);
    }
}

const fn ran(e: &Explanation) -> &'static str {
    if e.completed_at.is_some() { "after it had run" } else { "running" }
}

/// Describes what happens next.
fn outlook(e: &Explanation, output: Output) -> String {
    let will = match e.action.as_str() {
        "AlertOnly" => "is only reported (onStale AlertOnly)",
        "Cancel" => "is cancelled",
        "Retry" => "is ended and runs again (onStale Retry)",
        _ => "is failed",
    };
    if e.phase.finished() {
        return ended(e, output);
    }
    match (&e.stale, e.stale_at()) {
        (Some((reason, _)), _) => {
            format!("It is stale ({reason}), and {will} by the next sweep of a store that enforces.")
        }
        (None, _) if e.phase == Phase::Paused => {
            "It is paused and has no deadline. Time that the operator sees it paused does not count."
                .to_owned()
        }
        (None, _) if e.phase != Phase::Running => "It is not running, so it cannot be stale.".to_owned(),
        (None, Some((at, reason))) => format!(
            "It is not stale. If nothing changes, it {will} at {} ({}), {}.",
            output.time(at),
            reason.as_str(),
            distance(e.now, at)
        ),
        (None, None) if e.without_deadline().is_some() => {
            format!("It is not stale and has no deadline (timeout {NEVER}). If nothing changes, nothing ends it.")
        }
        (None, None) => {
            "It has no start time and has not yet been seen running in the present version of its row, so nothing ends it. Once an \
             operator sees it, its timeout counts from then; that takes the operator's own tables and the privilege to read xmin \
             (jobexec schema --role)."
                .to_owned()
        }
    }
}

/// Describes what happens next to an execution that has ended.
fn ended(e: &Explanation, output: Output) -> String {
    let Some(Latest { attempt, due_at, state, fault, next_id }) = &e.retry else {
        return "It has ended and stays as it is.".to_owned();
    };
    let (due, fault) = (output.time(*due_at), fault.as_deref().unwrap_or("unknown"));
    match state {
        State::WaitsForWorker => format!(
            "It has ended. Attempt {attempt} waits until the worker of this one is known to be gone: `jobexec retry {} --now` starts it at once.",
            e.id
        ),
        State::Pending => format!(
            "It has ended. Attempt {attempt} may start from {due}, unless the retry budget or another execution of its job delays it."
        ),
        State::Refused => format!(
            "It has ended. The table refused attempt {attempt}, which is tried again from {due}: {fault}"
        ),
        State::Retried => {
            let next = next_id.as_deref().filter(|next| *next != e.id);
            next.map_or_else(
                || "It has ended and stays as it is.".to_owned(),
                |next| format!("It has ended and was retried: execution {next} is attempt {attempt}."),
            )
        }
        State::Dropped if e.phase != Phase::Failed => {
            format!("It has ended. Its retry was dropped: {fault}.")
        }
        State::Dropped => format!(
            "It has ended. Its retry was dropped: {fault}. `jobexec retry {}` asks for it again.",
            e.id
        ),
    }
}

fn distance(now: DateTime<Utc>, at: DateTime<Utc>) -> String {
    let away = length((at - now).as_seconds_f64().abs());
    if at > now { format!("in {away}") } else { format!("{away} ago") }
}
