//! `jobexec health`: prints health counts; its exit status is a check.

use super::backend::{Backend, BackendArgs};
use super::output::{self, Column, Format, Output, Printer, Style};
use super::{CliError, CommandResult};
use crate::db::health::{Health, Status};

/// The options of `jobexec health`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec health
  jobexec health -o json
  jobexec health -o name || page-somebody

The status is a warning if more executions are long-running than longRunning.threshold of the store (default 5), or if any
is stale. With --store it is also a warning if anything else keeps the store from being Ready or Healthy, and the counts are
those of the operator's last reconciliation.

Exit status: 0 healthy, 1 warning, 2 the counts are not available.")]
pub(super) struct Args {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    backend: BackendArgs,
}

/// Prints the counts. Any failure to get them is one exit status, so that a check can rely on it.
pub(super) async fn run(args: Args) -> Result<CommandResult, CliError> {
    let output = args.output;
    let health = Box::pin(check(args)).await.map_err(|error| match error {
        CliError::Output(error) => CliError::Output(error),
        error => CliError::Unreachable(Box::new(error)),
    })?;
    match output.format {
        Format::Json | Format::Yaml => output::object(output.format, &health)?,
        _ => {
            let mut printer = Printer::new(output, columns(), |health: &Health| Some(health.status.as_str()));
            printer.rows(&[health])?;
            printer.end("")?;
        }
    }
    Ok(match health.status {
        Status::Healthy => CommandResult::Ok,
        Status::Warning => CommandResult::Partial,
    })
}

async fn check(args: Args) -> Result<Health, CliError> {
    let mut store = Backend::open(args.backend).await?;
    store.print_warning();
    let health = store.health().await?;
    store.close().await;
    Ok(health)
}

/// A column of this table.
type C = Column<Health>;

fn columns() -> Vec<C> {
    vec![
        C::new("STATUS", |h, _| h.status.as_str().to_owned())
            .styled(|h| if h.status == Status::Healthy { Style::Good } else { Style::Warn }),
        C::new("RUNNING", |h, _| h.metrics.running_executions.to_string()),
        C::new("SCHEDULED", |h, _| h.metrics.scheduled_executions.to_string()),
        C::new("LONG-RUNNING", |h, _| h.metrics.long_running_executions.to_string()),
        C::new("STALE", |h, _| h.metrics.stale_executions.to_string()),
        C::new("STARTED IN 24 H", |h, _| h.metrics.recent_executions_24h.to_string()),
        C::new("OLDEST STARTED", |h, output| output.optional_time(h.metrics.oldest_running_started_at)),
        C::new("AT", |h, output| output.time(h.metrics.timestamp)).wide(),
    ]
}
