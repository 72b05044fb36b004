//! `jobexec health`

use super::output::{self, Column, Format, Output, Printer, Style};
use super::source::{Place, Source};
use super::{CliError, Done};
use crate::db::health::{Health, Status};

/// Where to look.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec health
  jobexec health -o json
  jobexec health -o name || page-somebody

It is a warning when more executions run for long than longRunning.threshold of the store (5), or when any is stale. With
--store it is also one when anything else keeps the store from being Ready or Healthy, and the figures are those that the
operator took last.

Exit status: 0 healthy, 1 warning, 2 the figures could not be had.")]
pub(super) struct Args {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// Prints the figures. Whatever keeps them from being had is one status to whoever checks.
pub(super) async fn run(args: Args) -> Result<Done, CliError> {
    let output = args.output;
    let health = check(args).await.map_err(|error| match error {
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
        Status::Healthy => Done::Well,
        Status::Warning => Done::Incomplete,
    })
}

async fn check(args: Args) -> Result<Health, CliError> {
    let mut store = Source::open(args.place).await?;
    store.caution();
    let health = store.health().await?;
    store.close().await;
    Ok(health)
}

/// A column of what is printed here.
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
