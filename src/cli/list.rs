//! `jobexec list`

use std::borrow::Cow;

use chrono::TimeDelta;

use super::output::{Column, Output, Printer, Style, hours, length, optional};
use super::source::{Place, Source};
use super::{CliError, age};
use crate::api::Duration;
use crate::db::running::{Execution, Which};

/// How many executions `--all` lists where no limit is given.
const ALL: u64 = 100;

/// What to list.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec list                          what runs, the longest first
  jobexec list --stale                  what is stale, by whatever evidence
  jobexec list --older-than 6h -o wide  what has run for 6 h or longer, with more columns
  jobexec list --job 21 --all           the latest 100 executions of job 21, whatever their status
  jobexec list --overdue -o name | xargs -r -n1 jobexec explain
  jobexec list --store prod/jobs        the same of a store that the operator of this kube context looks after

The column REASON says why an execution is stale, what it is suspected of (only a person has it ended for that, with
`jobexec cleanup --reason`), or LongRunning; with --all also why one was ended, where that is
recorded. With --all and without an index on the start, Postgres reads the whole table.")]
pub(super) struct Args {
    /// Only what runs past its deadline.
    #[arg(long)]
    overdue: bool,
    /// Only what is stale: past its deadline, or dead by other evidence.
    #[arg(long, conflicts_with = "overdue")]
    stale: bool,
    /// Executions of every status, the latest start first, and then those without a start.
    #[arg(long, conflicts_with_all = ["overdue", "stale"])]
    all: bool,
    /// Only what began so long ago or longer, for example 1h30m.
    #[arg(long, value_name = "DURATION", value_parser = age)]
    older_than: Option<Duration>,
    /// Only executions of this job.
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// At most so many; everything without it, with --all 100.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// What is asked of a store.
pub(super) struct Wanted {
    pub(super) which: Which,
    /// Only those that began so long ago or longer.
    pub(super) older_than: Option<TimeDelta>,
    /// Only executions of this job, as it was written.
    pub(super) job: Option<String>,
}

/// Prints executions, page by page.
pub(super) async fn run(args: Args) -> Result<(), CliError> {
    let mut store = Source::open(args.place).await?;
    store.caution();
    let which = match (args.overdue, args.stale, args.all) {
        (true, ..) => Which::Overdue,
        (_, true, _) => Which::Stale,
        (.., true) => Which::All,
        _ => Which::Running,
    };
    let older_than = args.older_than.as_ref().map(Duration::to_chrono);
    let wanted = Wanted { which, older_than, job: args.job };
    let limit = args.limit.unwrap_or(if args.all { ALL } else { u64::MAX });
    let mut printer =
        Printer::new(args.output, columns(args.all), |execution: &Execution| Some(execution.id.as_str()));
    store.list(&wanted, limit, |executions| printer.rows(executions)).await?;
    printer.end(match which {
        Which::Running => "No execution runs.",
        Which::Overdue => "No execution runs past its deadline.",
        Which::Stale => "No execution is stale.",
        Which::All => "There are no such executions.",
    })?;
    store.close().await;
    Ok(())
}

/// A column of what is printed here.
type C = Column<Execution>;

fn columns(all: bool) -> Vec<C> {
    let mut columns = vec![
        C::new("ID", |e, _| e.id.clone()),
        C::new("JOB", |e, _| optional(e.job_id.as_ref())),
        C::new("#", |e, _| optional(e.execution_number)),
    ];
    let status = C::new("STATUS", |e, _| e.status.clone());
    columns.push(if all { status } else { status.wide() });
    columns.extend([
        C::new("RUNTIME", |e, _| optional(e.runtime_seconds.map(hours))),
        C::new("DEADLINE", |e, output| output.optional_time(e.deadline)),
        C::new("POLICY", |e, _| e.extend_source.clone().unwrap_or_else(|| e.timeout_source.clone())),
        C::new("REASON", |e, _| optional(reason(e))).styled(style),
        C::new("TYPE", |e, _| optional(e.job_type.as_ref())).wide(),
        C::new("STARTED", |e, output| output.optional_time(e.started_at)).wide(),
        C::new("ENDED", |e, output| output.optional_time(e.completed_at)).wide(),
        C::new("TIMEOUT", |e, _| timeout(e)).wide(),
        C::new("ON STALE", |e, _| e.on_stale.clone()).wide(),
        C::new("SAID BY", |e, _| optional(e.source.as_ref())).wide(),
    ]);
    columns
}

fn reason(e: &Execution) -> Option<Cow<'_, str>> {
    let suspected = e.suspected.as_ref().map(|what| Cow::from(format!("Suspected:{what}")));
    let stale = e.reason.as_deref().map(Cow::from);
    stale.or(suspected).or(e.long_running.then_some("LongRunning".into()))
}

fn style(e: &Execution) -> Style {
    match (&e.reason, e.long_running) {
        (Some(_), _) => Style::Bad,
        (None, true) => Style::Warn,
        _ => Style::Plain,
    }
}

fn timeout(e: &Execution) -> String {
    let timeout = length(e.timeout_seconds);
    if e.extended_by_seconds > 0.0 { format!("{timeout}+{}", length(e.extended_by_seconds)) } else { timeout }
}
