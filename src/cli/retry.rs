//! `jobexec retry`: has failed executions run again.

use super::backend::{Backend, BackendArgs};
use super::output::{self, Column, Output, Printer, Style, count, optional};
use super::queries::RetryRequest;
use super::{CliError, CommandResult, positive_duration};
use crate::api::Duration;
use crate::db::retry::{Row, Which};
use crate::db::staleness::Reason;

/// The options of `jobexec retry`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec retry 39                          once its worker is known to be gone, or when the policy says
  jobexec retry 39 --now                    at once
  jobexec retry 39 --now --store prod/jobs  the same through the operator
  jobexec retry --reason HeartbeatLost --since 2h --job-type mail --dry-run
                                            what an outage has ended, and when it would run again
  jobexec retry --reason HeartbeatLost --since 2h --over 30m --yes

The request is recorded in jobexec.retries, and the operator of the table starts the next attempts at its next look. Neither the
budget of the store nor the maximum number of attempts counts. An execution that was retried already is left alone. The worker of the
ended attempt may live: with --now, be sure that it does not, or that it cannot do harm.

Exit status: 0 recorded, or nothing to do; 1 at least one execution is not retried; 2 the command line is wrong.")]
pub(super) struct Args {
    /// The ids of the executions.
    #[arg(allow_negative_numbers = true, value_name = "ID", required_unless_present = "reason", conflicts_with_all = ["reason", "since", "job_type"])]
    ids: Vec<String>,
    /// Instead of ids: those that the operator failed for this reason.
    #[arg(long, value_parser = REASONS, value_name = "REASON", requires = "since")]
    reason: Option<String>,
    /// With --reason: only those that were failed within this duration, for example 2h.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, requires = "reason")]
    since: Option<Duration>,
    /// With --reason: only those of this job type.
    #[arg(long, value_name = "TYPE", requires = "reason")]
    job_type: Option<String>,
    /// Start them at once, whether their workers are known to be gone or not.
    #[arg(long)]
    now: bool,
    /// Spread their starts over this duration, so that they do not start together.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    over: Option<Duration>,
    /// Print what would be done and when, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for confirmation, with --reason.
    #[arg(short = 'y', long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    backend: BackendArgs,
}

/// The reasons for which a failed execution may be retried. The work of others is done, or goes on elsewhere.
const REASONS: [&str; 5] = [
    Reason::DeadlineExceeded.as_str(),
    Reason::HeartbeatLost.as_str(),
    Reason::WorkerLost.as_str(),
    Reason::WorkloadGone.as_str(),
    Reason::RetriesExhausted.as_str(),
];

/// Records the retries, or shows what they would be.
pub(super) async fn run(args: Args) -> Result<CommandResult, CliError> {
    let asks = args.reason.is_some() && !args.dry_run && !args.yes;
    if asks && !output::can_ask() {
        return Err(CliError::Usage(
            "there is no terminal to ask on: give --yes to retry them, or --dry-run to see what that would do".to_owned(),
        ));
    }
    let which = match (args.reason, args.since) {
        (Some(reason), Some(since)) => {
            Which::FailedFor { reason, since: since.to_chrono(), job_type: args.job_type }
        }
        _ => Which::Ids(args.ids),
    };
    let over = args.over.as_ref().map(Duration::to_chrono).unwrap_or_default();
    let request = RetryRequest { which, now: args.now, over, dry_run: args.dry_run || asks };
    let mut store = Backend::open(args.backend).await?;
    let rows = store.retry(&request).await?;
    let skipped = if asks {
        print(&rows, request.dry_run, args.output.for_prompt())?;
        if rows.is_empty() {
            false
        } else if output::confirmed(&format!("Retry {}?", count(rows.len() as u64, "execution")))? {
            let rows = store.retry(&RetryRequest { dry_run: false, ..request }).await?;
            print(&rows, false, args.output)?
        } else {
            store.close().await;
            return Err(CliError::Declined);
        }
    } else {
        print(&rows, request.dry_run, args.output)?
    };
    store.close().await;
    Ok(if skipped { CommandResult::Partial } else { CommandResult::Ok })
}

/// Prints the rows. Returns whether one is not retried.
fn print(rows: &[Row], dry_run: bool, output: Output) -> Result<bool, CliError> {
    let result = if dry_run { planned } else { recorded };
    let mut printer =
        Printer::new(output, columns(result), |row: &Row| row.skipped.is_none().then_some(row.id.as_str()));
    let nothing = if output.format.is_for_people() {
        "No execution that was failed for this reason can be retried."
    } else {
        ""
    };
    let printed = printer.rows(rows).and_then(|()| printer.end(nothing));
    match printed {
        // The retries are recorded: that does not depend on the reader.
        Err(error) if !dry_run && error.is_broken_pipe() => {}
        printed => drop(printed?),
    }
    Ok(rows.iter().any(|row| row.skipped.is_some()))
}

/// A column of this table.
type C = Column<Row>;

fn columns(result: fn(&Row, Output) -> String) -> Vec<C> {
    vec![
        C::new("ID", |row, _| row.id.clone()),
        C::new("JOB", |row, _| optional(row.job_id.as_ref())),
        C::new("#", |row, _| optional(row.execution_number)),
        C::new("ENDED", |row, output| output.optional_time(row.completed_at)),
        C::new("REASON", |row, _| optional(row.reason.as_ref())),
        C::new("ATTEMPT", |row, _| optional(row.attempt)),
        C::new("STARTS", starts),
        C::new("RESULT", result).styled(|row| if row.skipped.is_some() { Style::Warn } else { Style::Good }),
    ]
}

/// When the next attempt may start.
fn starts(row: &Row, output: Output) -> String {
    match row.waits {
        Some(true) => "once its worker is gone".to_owned(),
        _ => output.optional_time(row.due_at),
    }
}

fn planned(row: &Row, _: Output) -> String {
    skipped(row).unwrap_or_else(|| "would be retried".to_owned())
}

fn recorded(row: &Row, _: Output) -> String {
    skipped(row).unwrap_or_else(|| "recorded".to_owned())
}

fn skipped(row: &Row) -> Option<String> {
    row.skipped.as_ref().map(|skipped| format!("skipped: {}: {}", skipped.reason, skipped.message))
}
