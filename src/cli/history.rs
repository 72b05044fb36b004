//! `jobexec history`: prints the audit log.

use super::backend::{Backend, BackendArgs};
use super::output::{Column, Output, Printer, optional};
use super::queries::HistoryQuery;
use super::{CliError, positive_duration};
use crate::api::Duration;
use crate::db::audit::Entry;

/// The options of `jobexec history`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec history --since 24h           actions of the last day, newest first
  jobexec history --job 21              actions on executions of job 21
  jobexec history --id 39 -o wide       actions on execution 39, with notes")]
pub(super) struct Args {
    /// Only actions on executions of this job.
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// Only actions on this execution.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Only actions within this duration, for example 24h or 7d.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    since: Option<Duration>,
    /// Print at most this many.
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    backend: BackendArgs,
}

/// Prints audit records, newest first.
pub(super) async fn run(args: Args) -> Result<(), CliError> {
    let mut store = Backend::open(args.backend).await?;
    let since = args.since.as_ref().map(Duration::to_chrono);
    let query = HistoryQuery { job: args.job, id: args.id, since };
    let mut printer = Printer::new(args.output, columns(), |entry: &Entry| Some(entry.execution_id.as_str()));
    store.history(&query, args.limit, |entries| printer.rows(entries)).await?;
    printer.end("No matching actions are recorded.")?;
    store.close().await;
    Ok(())
}

/// A column of this table.
type C = Column<Entry>;

fn columns() -> Vec<C> {
    vec![
        C::new("AT", |e, output| output.time(e.at)),
        C::new("ACTION", |e, _| e.action.clone()),
        C::new("ID", |e, _| e.execution_id.clone()),
        C::new("JOB", |e, _| optional(e.job_id.as_ref())),
        C::new("#", |e, _| optional(e.execution_number)),
        C::new("REASON", |e, _| e.reason.clone()),
        C::new("SOURCE", |e, _| e.source.clone()),
        C::new("ACTOR", |e, _| optional(e.actor.as_ref())),
        C::new("STARTED", |e, output| output.optional_time(e.started_at)).wide(),
        C::new("DEADLINE", |e, output| output.optional_time(e.deadline)).wide(),
        C::new("NOTE", |e, _| optional(e.note.as_ref())).wide(),
    ]
}
