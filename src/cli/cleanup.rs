//! `jobexec cleanup`

use std::io::{BufRead as _, IsTerminal as _};
use std::ops::ControlFlow;

use super::output::{self, Column, Output, Printer, Style, count, hours, optional};
use super::source::{Place, Source};
use super::{CliError, Done, age};
use crate::api::Duration;
use crate::db::cleanup::{Report, Row};
use crate::db::judge::Suspicion;

/// What to clean up.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec cleanup --dry-run             what the policies say is stale, and what would be done about it
  jobexec cleanup                       do it; on a terminal it asks before
  jobexec cleanup --max-hours 1 --yes   fail what has run for an hour or longer, without asking
  jobexec cleanup --id 39 --id 40       fail these two, whatever their age
  jobexec cleanup --max-hours 12 --include-governed --dry-run
  jobexec cleanup --reason JobFinished --dry-run   what runs although its job is finished, which the operator only reports
  jobexec cleanup --store prod/jobs     have the operator of this kube context do it

Without a threshold or ids, what the operator's sweep would end is ended, for the same reasons; its breaker does not
apply. A threshold takes the place of the store's default only: what a policy, a JobExecution, an extension or AlertOnly
governs is listed as skipped, unless --include-governed is given. With --reason what the operator only suspects is ended for
that reason, but for what AlertOnly governs. What a person decided so is recorded in jobexec.events
as ManualCleanup, with your name: with --store the one by which Kubernetes knows you. A worker that finishes a row at the
same moment wins; a row that another transaction holds is passed over and listed.

Exit status: 0 done, or nothing to do; 1 it could not be done, an id is not there, or the answer was no; 2 the command line
is wrong, or --yes is missing where nobody can be asked.")]
pub(super) struct Args {
    /// What has run for so many hours or longer, for example 1 or 0.5.
    #[arg(long, value_name = "N", value_parser = max_hours, allow_negative_numbers = true)]
    max_hours: Option<f64>,
    /// The same as a duration, for example 1h30m.
    #[arg(long, value_name = "DURATION", value_parser = age, conflicts_with = "max_hours")]
    older_than: Option<Duration>,
    /// This execution; may be given more than once. With a threshold only those of them that are older.
    #[arg(long = "id", value_name = "ID", allow_negative_numbers = true)]
    ids: Vec<String>,
    /// Also what an object governs: with a threshold or ids only.
    #[arg(long)]
    include_governed: bool,
    /// What is suspected of this, and nothing else: `JobFinished`, whose job was finished already when it was first seen, or
    /// `WorkloadRecreated`, whose Job or Pod was made again under its name.
    #[arg(long, value_name = "REASON", conflicts_with_all = ["max_hours", "older_than", "ids", "include_governed"])]
    reason: Option<Suspicion>,
    /// Print what would be done and why, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short = 'y', long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// More than 0 hours.
fn max_hours(text: &str) -> Result<f64, String> {
    let wrong = "write how many hours, more than 0 and at most 399996, for example 0.5".to_owned();
    let hours: f64 = text.parse().map_err(|_| wrong.clone())?;
    let possible = hours > 0.0 && hours <= 399_996.0;
    if possible { Ok(hours) } else { Err(wrong) }
}

/// What is asked of a store.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// What has run for so many hours or longer.
    pub(super) max_hours: Option<f64>,
    /// The same as a length of time.
    pub(super) older_than: Option<Duration>,
    /// These, as they were written.
    pub(super) ids: Vec<String>,
    /// With a threshold or ids: what an object governs too.
    pub(super) include_governed: bool,
    /// What is suspected of this, and nothing else.
    pub(super) suspicion: Option<Suspicion>,
    /// Change nothing.
    pub(super) dry_run: bool,
}

/// Cleans up, or tells what that would do.
pub(super) async fn run(args: Args) -> Result<Done, CliError> {
    let by_person = args.max_hours.is_some() || args.older_than.is_some() || !args.ids.is_empty();
    if args.include_governed && !by_person {
        return Err(CliError::Usage(
            "--include-governed needs --max-hours, --older-than or --id: without them the policies decide"
                .to_owned(),
        ));
    }
    let asks = !args.dry_run && !args.yes;
    if asks && !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(CliError::Usage(
            "nobody can be asked here: give --yes to clean up, or --dry-run to see what that would do"
                .to_owned(),
        ));
    }
    let mut store = Source::open(args.place).await?;
    if args.dry_run {
        store.caution();
    } else {
        store.writable()?;
    }
    let mut ids = Vec::new();
    for id in args.ids {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let order = Order {
        max_hours: args.max_hours,
        older_than: args.older_than,
        ids,
        include_governed: args.include_governed,
        suspicion: args.reason,
        dry_run: args.dry_run || asks,
    };
    let report = if asks {
        let Some(report) = ask(&mut store, order, args.output).await? else {
            store.close().await;
            return Err(CliError::Declined);
        };
        report
    } else if args.dry_run {
        print(&mut store, &order, args.output, Broken::Ends).await?
    } else {
        change(&mut store, order, args.output).await?
    };
    store.close().await;
    match summary(report, args.output) {
        Err(error) if !args.dry_run && error.is_broken_pipe() => {}
        told => told?,
    }
    Ok(if report.not_found > 0 { Done::Incomplete } else { Done::Well })
}

/// Shows what would be done, asks, and does it; `None`: the answer was no. A program that reads the output is given only what
/// was done.
async fn ask(store: &mut Source, order: Order, output: Output) -> Result<Option<Report>, CliError> {
    let question = output.for_a_question();
    // Who is asked afterwards must know how many there are.
    let would = print(store, &order, question, Broken::IsNoMatter).await?;
    if would.cleaned > 0 {
        let confirmed = confirmed(would.cleaned)?;
        return if confirmed { change(store, order, output).await.map(Some) } else { Ok(None) };
    }
    if question.format != output.format {
        print(store, &order, output, Broken::IsNoMatter).await?;
    }
    Ok(Some(would))
}

/// Cleans up.
async fn change(store: &mut Source, order: Order, output: Output) -> Result<Report, CliError> {
    store.prepare_to_write(&order.ids).await?;
    print(store, &Order { dry_run: false, ..order }, output, Broken::IsNoMatter).await
}

/// What it means that the reader of a pipe has gone, as `head` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// There is no more to do.
    Ends,
    /// What is done does not depend on who reads of it.
    IsNoMatter,
}

/// Prints a line for each row. Only what changes nothing is broken off where nothing can be printed; that it could not be
/// is an error all the same, unless the reader has gone.
async fn print(
    store: &mut Source,
    order: &Order,
    output: Output,
    broken: Broken,
) -> Result<Report, CliError> {
    let columns = if order.dry_run { columns(planned) } else { columns(done) };
    let mut printer = Printer::new(output, columns, |row: &Row| row.action.as_ref().map(|_| row.id.as_str()));
    let mut failed = None;
    let cleaned = store.clean_up(order, |rows| {
        if failed.is_none() {
            failed = printer.rows(rows).err();
        }
        let ends = failed.is_some() && broken == Broken::Ends;
        if ends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let report = cleaned.await?;
    match failed {
        Some(error) if broken == Broken::IsNoMatter && error.is_broken_pipe() => return Ok(report),
        Some(error) => return Err(error),
        None => {}
    }
    let nothing = if output.format.for_people() { "Nothing is stale." } else { "" };
    match printer.end(nothing) {
        Err(error) if broken == Broken::IsNoMatter && error.is_broken_pipe() => {}
        ended => drop(ended?),
    }
    Ok(report)
}

/// A column of what is printed here.
type C = Column<Row>;

fn columns(result: fn(&Row, Output) -> String) -> Vec<C> {
    vec![
        C::new("ID", |row, _| row.id.clone()),
        C::new("JOB", |row, _| optional(row.job_id.as_ref())),
        C::new("#", |row, _| optional(row.execution_number)),
        C::new("RUNTIME", |row, _| optional(row.runtime_seconds.map(hours))),
        C::new("RESULT", result).styled(style),
        C::new("REASON", |row, _| reason(row)),
        C::new("SAID BY", |row, _| optional(row.source.as_ref().filter(|_| row.skipped.is_none()))),
        C::new("ENDED", |row, output| output.optional_time(row.completed_at)).wide(),
        C::new("DEADLINE", |row, output| output.optional_time(row.deadline)).wide(),
        C::new("STARTED", |row, output| output.optional_time(row.started_at)).wide(),
    ]
}

fn planned(row: &Row, _: Output) -> String {
    row.action
        .as_ref()
        .map_or_else(|| "skipped".to_owned(), |action| format!("would be {}", action.to_lowercase()))
}

fn done(row: &Row, _: Output) -> String {
    row.action.as_ref().map_or_else(|| "skipped".to_owned(), |action| action.to_lowercase())
}

/// Why it is ended, or why it is not.
fn reason(row: &Row) -> String {
    match &row.skipped {
        Some(skipped) => format!("{}: {}", skipped.reason, skipped.message),
        None => optional(row.reason.as_ref()),
    }
}

fn style(row: &Row) -> Style {
    if row.skipped.is_some() { Style::Warn } else { Style::Bad }
}

fn summary(report: Report, output: Output) -> Result<(), CliError> {
    if !output.format.for_people() {
        return Ok(());
    }
    let what = count(report.cleaned, "stale execution");
    let mut text = if report.dry_run {
        format!("Dry run, nothing was changed: would clean up {what}\n")
    } else {
        format!("Successfully cleaned up {what}\n")
    };
    if report.skipped > 0 {
        text.push_str(&format!("Skipped {}\n", count(report.skipped, "execution")));
    }
    output::print(&text)
}

/// Asks on the terminal.
fn confirmed(number: u64) -> Result<bool, CliError> {
    use std::io::Write as _;
    let mut terminal = std::io::stderr().lock();
    write!(terminal, "Clean up {}? [y/N] ", count(number, "execution"))?;
    terminal.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
