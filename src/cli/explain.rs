//! `jobexec explain`

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::CliError;
use super::output::{self, Format, Output, hours, length};
use super::source::{Explained, Place, Source};
use crate::api::Phase;
use crate::db::explain::{Considered, Explanation, Record};

/// What to explain.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec explain 39                    of the default table in DATABASE_URL
  jobexec explain 39 -f store.yaml      of the table that an ExecutionStore describes
  jobexec explain 39 -o json
  jobexec explain 39 --store prod/jobs  of a store that the operator of this kube context looks after

What counts is what the operator has put in force (in the database: jobexec.rules).")]
pub(super) struct Args {
    /// The id of the execution.
    #[arg(allow_negative_numbers = true)]
    id: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// Says why an execution is stale, or is not, and what happens next.
pub(super) async fn run(args: Args) -> Result<(), CliError> {
    let mut store = Source::open(args.place).await?;
    store.caution();
    let Explained { explanation, records, looked_after } = store.explain(&args.id).await?;
    store.close().await;
    match args.output.format {
        Format::Json | Format::Yaml => {
            let told = Told { explanation: &explanation, recorded: &records, operator: looked_after };
            output::object(args.output.format, &told)
        }
        Format::Name => output::print(&format!("{}\n", explanation.id)),
        Format::Table | Format::Wide => {
            let mut text = render(&explanation, &records, args.output);
            if !looked_after {
                text.push_str(ALONE);
            }
            output::print(&text)
        }
    }
}

const ALONE: &str =
    "\nNo operator has put rules in force in this database: only the store's own settings count here.\n";

/// For programs.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    explanation: &'a Explanation,
    recorded: &'a [Record],
    /// Whether an operator has put in force what people wish.
    operator: bool,
}

/// The explanation for a person. Writing to a string cannot fail.
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
            let _ = writeln!(out, "  {name:9} {}", time(at));
        }
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
    // What comes from the table is no command to the terminal.
    out.lines().map(|line| output::plain(line) + "\n").collect()
}

fn evidence(out: &mut String, e: &Explanation, output: Output) {
    let time = |at| output.time(at);
    out.push_str("\nEvidence\n");
    let none = if e.phase == Phase::Paused {
        "none, since the execution is paused"
    } else {
        "none, since the execution has no start and was not seen running in the present version of its row"
    };
    let deadline =
        e.deadline.map_or_else(|| none.to_owned(), |at| format!("{}, {}", time(at), distance(e.now, at)));
    let _ = writeln!(out, "  {:16} {deadline}", "deadline");
    if let Some((from, why)) = e.counts_otherwise() {
        let _ = writeln!(out, "  {:16} {}, {why}", "counts from", time(from));
    }
    for evidence in &e.evidence {
        let stale = evidence.stale_at.map_or(String::new(), |at| {
            format!("; stale by that from {} on, {}", time(at), distance(e.now, at))
        });
        let _ = writeln!(out, "  {:16} {}{stale}", evidence.reason.as_str(), evidence.seen);
    }
}

const fn ran(e: &Explanation) -> &'static str {
    if e.completed_at.is_some() { "after it had run" } else { "running" }
}

/// What happens next.
fn outlook(e: &Explanation, output: Output) -> String {
    let will = match e.action.as_str() {
        "AlertOnly" => "is only reported (onStale AlertOnly)",
        "Cancel" => "is cancelled",
        _ => "is failed",
    };
    if e.phase.finished() {
        return "It has ended, and stays as it is.".to_owned();
    }
    match (&e.stale, e.stale_at()) {
        (Some((reason, _)), _) => {
            format!("It is stale ({reason}), and {will} by the next sweep of a store that enforces.")
        }
        (None, _) if e.phase == Phase::Paused => {
            "It is paused, and has no deadline meanwhile. The time for which the operator sees it paused does not count."
                .to_owned()
        }
        (None, _) if e.phase != Phase::Running => {
            "It does not run, so it cannot be stale.".to_owned()
        }
        (None, Some((at, reason))) => format!(
            "It is not stale. If nothing changes it {will} at {} ({}), {}.",
            output.time(at),
            reason.as_str(),
            distance(e.now, at)
        ),
        (None, None) => {
            "It has no start, and was not seen running in the present version of its row, so nothing ends it. Once an operator sees it, \
             its time counts from then; that takes the operator's own tables and the right to read xmin (jobexec schema --role)."
                .to_owned()
        }
    }
}

fn distance(now: DateTime<Utc>, at: DateTime<Utc>) -> String {
    let away = length((at - now).as_seconds_f64().abs());
    if at > now { format!("in {away}") } else { format!("{away} ago") }
}
