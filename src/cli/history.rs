//! `jobexec history`

use super::direct::{self, Direct};
use super::output::{Column, Output, Printer, optional};
use super::{CliError, age};
use crate::api::Duration;
use crate::db::Ledger;
use crate::db::audit::{self, Entry, Filter};

/// How many entries are read at once.
const PAGE: u32 = 500;

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
    direct: direct::Target,
    #[command(flatten)]
    output: Output,
}

/// Prints what was done, the latest first.
pub(super) async fn run(args: Args) -> Result<(), CliError> {
    let store = Direct::open(args.direct).await?;
    let store_id = match &store.ledger {
        Ledger::Tables { store_id } => *store_id,
        Ledger::Missing(why) => return Err(CliError::NotRecorded(why.clone())),
    };
    let mut filter = Filter {
        execution_id: args.id.as_deref().map(|id| store.id(id)).transpose()?,
        job_id: args.job.as_deref().map(|id| store.job_id(id)).transpose()?,
        since: args.since.as_ref().map(Duration::to_chrono),
        before: None,
    };
    let mut rest = args.limit;
    let mut printer = Printer::new(args.output, columns(), |entry: &Entry| Some(entry.execution_id.as_str()));
    while rest > 0 {
        let limit = PAGE.min(u32::try_from(rest).unwrap_or(u32::MAX));
        let page = audit::history(&store.database, store_id, &filter, limit);
        let entries = store.database.within(page).await?;
        printer.rows(&entries)?;
        rest -= entries.len() as u64;
        filter.before = entries.last().map(|entry| entry.event_id);
        if entries.len() < limit as usize {
            break;
        }
    }
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
