//! `jobexec list`: prints executions.

use std::borrow::Cow;

use super::backend::{Backend, BackendArgs};
use super::output::{Column, Output, Printer, Style, hours, length, optional};
use super::queries::ListQuery;
use super::{CliError, positive_duration};
use crate::api::Duration;
use crate::api::duration::NEVER;
use crate::db::running::{Execution, Which};

/// The default limit of `--all`.
const ALL: u64 = 100;

/// The options of `jobexec list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec list                          running executions, longest first
  jobexec list --stale                  stale executions, by any evidence
  jobexec list --older-than 6h -o wide  executions that have run for 6 h or longer, with more columns
  jobexec list --job 21 --all           the latest 100 executions of job 21, whatever their status
  jobexec list --overdue -o name | xargs -r -n1 jobexec explain
  jobexec list --store prod/jobs        executions of a store managed by the operator of the current kube context

The column REASON shows why an execution is stale, what it is suspected of (only `jobexec cleanup --reason` ends it for
that), or LongRunning; with --all also why it was ended, if that is recorded. Without an index on the start column, --all
makes Postgres read the whole table.")]
pub(super) struct Args {
    /// Only executions past their deadline.
    #[arg(long)]
    overdue: bool,
    /// Only stale executions: past their deadline, or dead by other evidence.
    #[arg(long, conflicts_with = "overdue")]
    stale: bool,
    /// Executions of every status: latest start first, then those without a start.
    #[arg(long, conflicts_with_all = ["overdue", "stale"])]
    all: bool,
    /// Only executions that started this long ago or longer, for example 1h30m.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    older_than: Option<Duration>,
    /// Only executions of this job.
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// Print at most this many; without it everything, and with --all 100.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    backend: BackendArgs,
}

/// Prints executions, page by page.
pub(super) async fn run(args: Args) -> Result<(), CliError> {
    let mut store = Backend::open(args.backend).await?;
    store.print_warning();
    let which = match (args.overdue, args.stale, args.all) {
        (true, ..) => Which::Overdue,
        (_, true, _) => Which::Stale,
        (.., true) => Which::All,
        _ => Which::Running,
    };
    let older_than = args.older_than.as_ref().map(Duration::to_chrono);
    let query = ListQuery { which, older_than, job: args.job };
    let limit = args.limit.unwrap_or(if args.all { ALL } else { u64::MAX });
    let mut printer =
        Printer::new(args.output, columns(args.all), |execution: &Execution| Some(execution.id.as_str()));
    store.list(&query, limit, |executions| printer.rows(executions)).await?;
    printer.end(match which {
        Which::Running => "No execution is running.",
        Which::Overdue => "No running execution is past its deadline.",
        Which::Stale => "No execution is stale.",
        Which::All => "No executions match.",
    })?;
    store.close().await;
    Ok(())
}

/// A column of this table.
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
        C::new(
            "DEADLINE",
            |e, output| {
                if e.never_ends() { NEVER.to_owned() } else { output.optional_time(e.deadline) }
            },
        ),
        // An extension adds nothing where there is no deadline.
        C::new("POLICY", |e, _| {
            let extended = e.extend_source.clone().filter(|_| !e.never_ends());
            extended.unwrap_or_else(|| e.timeout_source.clone())
        }),
        C::new("REASON", |e, _| optional(reason(e))).styled(style),
        C::new("TYPE", |e, _| optional(e.job_type.as_ref())).wide(),
        C::new("STARTED", |e, output| output.optional_time(e.started_at)).wide(),
        C::new("ENDED", |e, output| output.optional_time(e.completed_at)).wide(),
        C::new("TIMEOUT", |e, _| timeout(e)).wide(),
        C::new("ON STALE", |e, _| e.on_stale.clone()).wide(),
        C::new("SOURCE", |e, _| optional(e.source.as_ref())).wide(),
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
    let Some(timeout) = e.timeout_seconds.map(length) else { return NEVER.to_owned() };
    if e.extended_by_seconds > 0.0 { format!("{timeout}+{}", length(e.extended_by_seconds)) } else { timeout }
}
