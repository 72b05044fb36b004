//! `jobexec stats`: prints success rates and durations.

use super::direct::{self, Direct};
use super::output::{Column, Output, Printer, length, optional};
use super::{CliError, retained_duration};
use crate::api::{Duration, duration};
use crate::db::stats::{self, JobStats, Question};

/// The options of `jobexec stats`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Durations are those of completed executions. Each line is a job type if job types are mapped
(spec.table.columns.jobType or spec.jobs), otherwise a job. LATE counts executions that finished after they had been
ended: their timeout is too short.

Examples:
  jobexec stats                      executions that ended in the last day, the most frequent first
  jobexec stats --since 7d -o wide
  jobexec stats -f store.yaml --type import --type export"
)]
pub(super) struct Args {
    /// Only executions that ended within this duration: at most 30d.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = retained_duration)]
    since: Duration,
    /// Only this job type; repeat it for more.
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Print at most this many lines.
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    #[command(flatten)]
    direct: direct::Target,
    #[command(flatten)]
    output: Output,
}

/// Prints the stats.
pub(super) async fn run(args: Args) -> Result<(), CliError> {
    let store = Direct::open(args.direct).await?;
    let by_type = store.mapping.knows_types();
    if !by_type && !args.types.is_empty() {
        return Err(CliError::Usage(
            "--type: the job types of this table are unknown: give an ExecutionStore that maps them with -f, or omit --type"
                .to_owned(),
        ));
    }
    store.print_warning();
    let question = Question { since: args.since.to_chrono(), types: args.types, limit: args.limit };
    let found =
        store.database.within(stats::ask(&store.database, &store.mapping, &store.ledger, &question)).await?;
    let mut printer = Printer::new(args.output, columns(by_type), |job: &JobStats| {
        job.job_type.as_deref().or(job.job_id.as_deref())
    });
    printer.rows(&found)?;
    printer.end("No execution has ended within that time.")?;
    store.close().await;
    Ok(())
}

/// A column of this table.
type C = Column<JobStats>;

fn columns(by_type: bool) -> Vec<C> {
    vec![
        if by_type {
            C::new("TYPE", |p, _| optional(p.job_type.as_ref()))
        } else {
            C::new("JOB", |p, _| optional(p.job_id.as_ref()))
        },
        C::new("ENDED", |p, _| p.executions.to_string()),
        C::new("SUCCESS", |p, _| stats::success(p.completed, p.executions)),
        C::new("COMPLETED", |p, _| p.completed.to_string()).wide(),
        C::new("FAILED", |p, _| p.failed.to_string()),
        C::new("CANCELLED", |p, _| p.cancelled.to_string()),
        C::new("LATE", |p, _| p.finished_late.to_string()),
        C::new("P50", |p, _| optional(p.p50_seconds.map(took))),
        C::new("P95", |p, _| optional(p.p95_seconds.map(took))),
        C::new("P99", |p, _| optional(p.p99_seconds.map(took))),
    ]
}

/// Formats a duration: to the millisecond if it is short.
fn took(seconds: f64) -> String {
    if seconds < 10.0 { duration::format(duration::of_seconds(seconds)) } else { length(seconds) }
}
