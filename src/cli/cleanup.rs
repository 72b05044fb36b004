//! `jobexec cleanup`: fails or cancels stale executions.

use std::ops::ControlFlow;

use super::backend::{Backend, BackendArgs};
use super::output::{self, Column, Output, Printer, Style, count, hours, optional};
use super::queries::CleanupRequest;
use super::{CliError, CommandResult, positive_duration};
use crate::api::Duration;
use crate::db::cleanup::{Report, Row};
use crate::db::staleness::Suspicion;

/// The options of `jobexec cleanup`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec cleanup --dry-run             show the stale executions and what would happen to them
  jobexec cleanup                       end them; on a terminal it asks for confirmation first
  jobexec cleanup --max-hours 1 --yes   fail executions that have run for an hour or longer, without confirmation
  jobexec cleanup --id 39 --id 40       fail these two executions, whatever their age
  jobexec cleanup --max-hours 12 --include-governed --dry-run
  jobexec cleanup --reason JobFinished --dry-run   executions whose job is finished, which the operator only reports
  jobexec cleanup --store prod/jobs     let the operator of the current kube context do it

Without a threshold or ids, the command ends what the operator's sweep would end, for the same reasons; the circuit breaker
does not apply. A threshold replaces only the default timeout of the store: executions governed by a policy, a JobExecution,
a column of their row, an extension or AlertOnly are listed as skipped, unless you give --include-governed. With --reason,
the command ends executions that the operator only suspects, except those governed by AlertOnly. What you decide this way is
recorded in jobexec.events as ManualCleanup with your name: with --store, the name by which Kubernetes knows you. A worker that finishes
a row at the same moment wins; a row that another transaction has locked is skipped and listed.

Exit status: 0 done, or nothing to do; 1 not done, an id does not exist, or you declined; 2 the command line is wrong, or
--yes is missing where there is no terminal to ask on.")]
pub(super) struct Args {
    /// Executions that have run for this many hours or longer, for example 1 or 0.5.
    #[arg(long, value_name = "N", value_parser = max_hours, allow_negative_numbers = true)]
    max_hours: Option<f64>,
    /// The same as a duration, for example 1h30m or 2d.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, conflicts_with = "max_hours")]
    older_than: Option<Duration>,
    /// This execution; repeat it for more. With a threshold, only those of them that are older.
    #[arg(long = "id", value_name = "ID", allow_negative_numbers = true)]
    ids: Vec<String>,
    /// Also executions that an object governs; only with a threshold or ids.
    #[arg(long)]
    include_governed: bool,
    /// Only executions suspected for this reason: `JobFinished` (the job was already finished when the operator first saw
    /// it) or `WorkloadRecreated` (the Job or Pod was created again under the same name).
    #[arg(long, value_name = "REASON", conflicts_with_all = ["max_hours", "older_than", "ids", "include_governed"])]
    reason: Option<Suspicion>,
    /// Print what would be done and why, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for confirmation.
    #[arg(short = 'y', long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    backend: BackendArgs,
}

/// Parses a number of hours: more than 0, at most 399996.
fn max_hours(text: &str) -> Result<f64, String> {
    let wrong = "write how many hours, more than 0 and at most 399996, for example 0.5".to_owned();
    let hours: f64 = text.parse().map_err(|_| wrong.clone())?;
    let possible = hours > 0.0 && hours <= 399_996.0;
    if possible { Ok(hours) } else { Err(wrong) }
}

/// Cleans up, or shows what a clean-up would do.
pub(super) async fn run(args: Args) -> Result<CommandResult, CliError> {
    let by_threshold_or_id = args.max_hours.is_some() || args.older_than.is_some() || !args.ids.is_empty();
    if args.include_governed && !by_threshold_or_id {
        return Err(CliError::Usage(
            "--include-governed needs --max-hours, --older-than or --id: without them the policies decide"
                .to_owned(),
        ));
    }
    let asks = !args.dry_run && !args.yes;
    if asks && !output::can_ask() {
        return Err(CliError::Usage(
            "there is no terminal to ask on: give --yes to clean up, or --dry-run to see what that would do"
                .to_owned(),
        ));
    }
    let mut store = Backend::open(args.backend).await?;
    if args.dry_run {
        store.print_warning();
    } else {
        store.check_writable()?;
    }
    let mut ids = Vec::new();
    for id in args.ids {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let request = CleanupRequest {
        max_hours: args.max_hours,
        older_than: args.older_than,
        ids,
        include_governed: args.include_governed,
        suspicion: args.reason,
        dry_run: args.dry_run || asks,
    };
    let report = if asks {
        let Some(report) = ask(&mut store, request, args.output).await? else {
            store.close().await;
            return Err(CliError::Declined);
        };
        report
    } else if args.dry_run {
        print(&mut store, &request, args.output, OnBrokenPipe::Stop).await?
    } else {
        change(&mut store, request, args.output).await?
    };
    store.close().await;
    match summary(report, args.output) {
        Err(error) if !args.dry_run && error.is_broken_pipe() => {}
        printed => printed?,
    }
    Ok(if report.not_found > 0 { CommandResult::Partial } else { CommandResult::Ok })
}

/// Shows what would be done, asks for confirmation, and does it; `None` if the user declined. A program that reads the
/// output sees only what was done.
async fn ask(
    store: &mut Backend,
    request: CleanupRequest,
    output: Output,
) -> Result<Option<Report>, CliError> {
    let question = output.for_prompt();
    // The question names the number of executions, so print them all even if nobody reads the list.
    let would = print(store, &request, question, OnBrokenPipe::Continue).await?;
    if would.cleaned > 0 {
        let confirmed = output::confirmed(&format!("Clean up {}?", count(would.cleaned, "execution")))?;
        return if confirmed { change(store, request, output).await.map(Some) } else { Ok(None) };
    }
    if question.format != output.format {
        print(store, &request, output, OnBrokenPipe::Continue).await?;
    }
    Ok(Some(would))
}

/// Cleans up.
async fn change(store: &mut Backend, request: CleanupRequest, output: Output) -> Result<Report, CliError> {
    store.prepare_to_write(&request.ids).await?;
    print(store, &CleanupRequest { dry_run: false, ..request }, output, OnBrokenPipe::Continue).await
}

/// What to do when the reader of a pipe has gone away, as `head` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnBrokenPipe {
    /// Stop: nothing is left to do.
    Stop,
    /// Continue: the clean-up does not depend on its reader.
    Continue,
}

/// Prints a line for each row. If printing fails, only a dry run stops early. Apart from a broken pipe, the failure is
/// returned as an error in any case.
async fn print(
    store: &mut Backend,
    request: &CleanupRequest,
    output: Output,
    on_broken_pipe: OnBrokenPipe,
) -> Result<Report, CliError> {
    let columns = if request.dry_run { columns(planned) } else { columns(done) };
    let mut printer = Printer::new(output, columns, |row: &Row| row.action.as_ref().map(|_| row.id.as_str()));
    let mut failed = None;
    let cleaned = store.clean_up(request, |rows| {
        if failed.is_none() {
            failed = printer.rows(rows).err();
        }
        let ends = failed.is_some() && on_broken_pipe == OnBrokenPipe::Stop;
        if ends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let report = cleaned.await?;
    match failed {
        Some(error) if on_broken_pipe == OnBrokenPipe::Continue && error.is_broken_pipe() => {
            return Ok(report);
        }
        Some(error) => return Err(error),
        None => {}
    }
    let nothing = if output.format.is_for_people() { "Nothing is stale." } else { "" };
    match printer.end(nothing) {
        Err(error) if on_broken_pipe == OnBrokenPipe::Continue && error.is_broken_pipe() => {}
        ended => drop(ended?),
    }
    Ok(report)
}

/// A column of this table.
type C = Column<Row>;

fn columns(result: fn(&Row, Output) -> String) -> Vec<C> {
    vec![
        C::new("ID", |row, _| row.id.clone()),
        C::new("JOB", |row, _| optional(row.job_id.as_ref())),
        C::new("#", |row, _| optional(row.execution_number)),
        C::new("RUNTIME", |row, _| optional(row.runtime_seconds.map(hours))),
        C::new("RESULT", result).styled(style),
        C::new("REASON", |row, _| reason(row)),
        C::new("SOURCE", |row, _| optional(row.source.as_ref().filter(|_| row.skipped.is_none()))),
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

/// The reason for ending the execution, or for skipping it.
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
    if !output.format.is_for_people() {
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
