//! `jobexec history`

use chrono::TimeDelta;

use super::output::{Column, Output, Printer, optional};
use super::source::{Place, Source};
use super::{CliError, age};
use crate::api::Duration;
use crate::db::audit::Entry;

/// What to tell of.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec history --since 24h           what was done in the last day, the latest first
  jobexec history --job 21              to executions of job 21
  jobexec history --id 39 -o wide       to execution 39, with notes")]
pub(super) struct Args {
    /// Only what was done to executions of this job.
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// Only what was done to this execution.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Only what was done within so long, for example 24h.
    #[arg(long, value_name = "DURATION", value_parser = age)]
    since: Option<Duration>,
    /// At most so many.
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// What is asked of a store.
pub(super) struct Wanted {
    /// Only what was done to executions of this job, as it was written.
    pub(super) job: Option<String>,
    /// Only what was done to this execution, likewise.
    pub(super) id: Option<String>,
    /// Only what was done within so long.
    pub(super) since: Option<TimeDelta>,
}

/// Prints what was done, the latest first.
pub(super) async fn run(args: Args) -> Result<(), CliError> {
    let mut store = Source::open(args.place).await?;
    let since = args.since.as_ref().map(Duration::to_chrono);
    let wanted = Wanted { job: args.job, id: args.id, since };
    let mut printer = Printer::new(args.output, columns(), |entry: &Entry| Some(entry.execution_id.as_str()));
    store.history(&wanted, args.limit, |entries| printer.rows(entries)).await?;
    printer.end("Nothing is recorded of that.")?;
    store.close().await;
    Ok(())
}

/// A column of what is printed here.
type C = Column<Entry>;

fn columns() -> Vec<C> {
    vec![
        C::new("AT", |e, output| output.time(e.at)),
        C::new("ACTION", |e, _| e.action.clone()),
        C::new("ID", |e, _| e.execution_id.clone()),
        C::new("JOB", |e, _| optional(e.job_id.as_ref())),
        C::new("#", |e, _| optional(e.execution_number)),
        C::new("REASON", |e, _| e.reason.clone()),
        C::new("SAID BY", |e, _| e.source.clone()),
        C::new("ASKED BY", |e, _| optional(e.actor.as_ref())),
        C::new("STARTED", |e, output| output.optional_time(e.started_at)).wide(),
        C::new("DEADLINE", |e, output| output.optional_time(e.deadline)).wide(),
        C::new("NOTE", |e, _| optional(e.note.as_ref())).wide(),
    ]
}
