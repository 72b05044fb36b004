//! The command line, one file per subcommand. `backend` opens a store either directly in its database (`direct`) or
//! through the operator's API (`remote`); `cluster` patches its objects in Kubernetes.

mod actions;
mod adapter;
mod backend;
mod cleanup;
mod cluster;
mod completions;
mod connections;
mod crds;
mod direct;
mod explain;
mod health;
mod history;
mod list;
mod operator;
mod output;
mod ping;
mod queries;
mod reference;
mod remote;
mod retry;
mod schema;
mod stats;
mod trends;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::api::{Duration, InvalidDuration, duration};
use crate::boundary::{self, Panicked, Place};
use crate::db::stats::LONGEST;
pub use remote::RemoteError;

/// An error that ends a command with a status other than 0.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Standard output is closed or full.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
    /// A file named on the command line cannot be read.
    #[error("cannot read {0}: {1}")]
    File(std::path::PathBuf, String),
    /// No database was named.
    #[error(
        "no database: give --database-url or set DATABASE_URL to postgres://user:password@host:port/database, or name a store that an operator manages with --store NAMESPACE/NAME"
    )]
    NoDatabase,
    /// The database URL is invalid.
    #[error("invalid database URL: {0}")]
    Url(#[from] crate::db::url::InvalidUrl),
    /// A statement or the connection failed.
    #[error(transparent)]
    Database(#[from] crate::db::DbError),
    /// An adapter cannot be installed.
    #[error(transparent)]
    Adapter(#[from] crate::db::adapter::AdapterError),
    /// The operator's schema cannot be applied.
    #[error(transparent)]
    Schema(#[from] crate::db::schema::SchemaError),
    /// The Kubernetes cluster cannot be used.
    #[error(
        "cannot use the Kubernetes cluster: {0}. Check KUBECONFIG and your permissions, or run inside a Pod with a ServiceAccount"
    )]
    Cluster(String),
    /// A replica of the operator cannot hold its Lease.
    #[error(transparent)]
    Lease(#[from] crate::sharding::LeaseError),
    /// A call of the operator's API failed.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The table does not match its mapping.
    #[error("{0}")]
    Table(#[from] crate::db::validate::Problem),
    /// The id is not valid for this table.
    #[error("invalid {what}id {id:?}: the {what}ids of this table are of type {type_}")]
    InvalidId {
        /// The id, as given.
        id: String,
        /// The kind of id, to be put before the word: `job `, or empty for an execution.
        what: &'static str,
        /// The type of the ids.
        type_: &'static str,
    },
    /// The row does not exist.
    #[error("execution {0} does not exist in the table")]
    NoExecution(String),
    /// The row is excluded by the filter of the store.
    #[error("execution {0} does not match table.filter of the store: the operator ignores it")]
    Outside(String),
    /// The action was not carried out.
    #[error("{0}")]
    NotDone(String),
    /// The database holds no records of this table.
    #[error("the operator's records are not available: {0}")]
    NotRecorded(String),
    /// The user declined.
    #[error("nothing was changed")]
    Declined,
    /// The options conflict, or one is missing.
    #[error("{0}")]
    Usage(String),
    /// The health counts are not available.
    #[error("unreachable: {0}")]
    Unreachable(Box<CliError>),
    /// A defect of this program. Its open transaction is rolled back.
    #[error(transparent)]
    Panicked(#[from] Panicked),
    /// The result cannot be serialized.
    #[error("cannot print the result: {0}")]
    Print(String),
}

impl CliError {
    /// Whether the reader of a pipe has gone away, as `head` does after its last line.
    fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// Returns the exit status.
    const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Unreachable(_) => 2,
            _ => 1,
        }
    }
}

/// Parses an option whose value must stay hidden: `Debug` of the options only shows that it is set.
#[allow(clippy::unnecessary_wraps, reason = "clap takes functions that may fail")]
fn secret(text: &str) -> Result<crate::secrets::SecretString, std::convert::Infallible> {
    Ok(text.to_owned().into())
}

/// The result of a command that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CommandResult {
    /// Everything was done.
    Ok,
    /// Something was not done; the output says what.
    Partial,
}

/// Finds stale job executions in Postgres tables, ends them, and shows the state of executions in Kubernetes.
#[derive(Debug, Parser)]
#[command(
    name = "jobexec",
    version,
    after_help = "Exit status: 0 done, 1 not done, 2 the command line is wrong; see --help of `health` and `cleanup` for more.
Installed as kubectl-jobexec on PATH, it is the kubectl plugin `kubectl jobexec`."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List running executions with runtime, deadline, policy, and whether they are stale.
    List(list::Args),
    /// Fail stale executions, by policy or threshold; see --dry-run.
    Cleanup(cleanup::Args),
    /// Print health counts; the exit status says whether the store is healthy.
    Health(health::Args),
    /// Explain why an execution is stale or not: row, rules, deadline, evidence, and what happens next.
    Explain(explain::Args),
    /// Give an execution more time.
    Extend(actions::Extend),
    /// Cancel running or waiting executions.
    Cancel(actions::Cancel),
    /// Have failed executions run again; see --dry-run.
    Retry(retry::Args),
    /// Close the circuit breaker, which opens when too many executions are stale at once, and resume enforcement.
    Resume(actions::Resume),
    /// Take over, or discard, what another store or table has left for a table, as after a copy of the database.
    Adopt(actions::Adopt),
    /// Show what was done to executions, when, why and by whom.
    History(history::Args),
    /// Show per job type how many executions ended recently, how many succeeded, and how long they took.
    Stats(stats::Args),
    /// Show health counts over time: running, scheduled, long-running, stale and ended executions.
    Trends(trends::Args),
    /// Check that an operator's API answers, for `helm test` or from where its callers run.
    Ping(ping::Args),
    /// Run the operator: watch the custom resources and end stale executions.
    Operator(operator::Args),
    /// Print the custom resource definitions, for `kubectl apply --server-side -f -`.
    Crds,
    /// Print or apply the operator's schema, the index for the sweep, and the grants of the operator's role.
    Schema(schema::Args),
    /// List, install and check the adapters for the tables of other job systems.
    Adapter(adapter::Args),
    /// Print a shell completion script.
    Completions(completions::Args),
    /// Print this reference as Markdown.
    #[command(hide = true)]
    Reference,
}

/// Parses the command line and runs the command. The name of the program changes only the usage line.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    boundary::install();
    let args: Vec<OsString> = args.into_iter().collect();
    let name = args.first().and_then(|path| std::path::Path::new(path).file_stem());
    let plugin = name.is_some_and(|name| name == "kubectl-jobexec");
    let command = Cli::command().bin_name(if plugin { "kubectl jobexec" } else { "jobexec" });
    let cli = command.try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    match cli {
        Ok(cli) => cli.run(),
        Err(error) => {
            // A reader that has gone away does not need the help.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

impl Cli {
    /// Runs the command. Returns 0 if everything was done, 1 if not, 2 if the command line is wrong.
    pub fn run(self) -> ExitCode {
        let ok = |()| CommandResult::Ok;
        let outcome = match self.command {
            Command::List(args) => block_on(list::run(args)).map(ok),
            Command::Cleanup(args) => block_on(cleanup::run(args)),
            Command::Health(args) => block_on(health::run(args)),
            Command::Explain(args) => block_on(explain::run(args)).map(ok),
            Command::Extend(args) => block_on(actions::extend(args)).map(ok),
            Command::Cancel(args) => block_on(actions::cancel(args)),
            Command::Retry(args) => block_on(retry::run(args)),
            Command::Resume(args) => block_on(actions::resume(args)).map(ok),
            Command::Adopt(args) => block_on(actions::adopt(args)).map(ok),
            Command::History(args) => block_on(history::run(args)).map(ok),
            Command::Stats(args) => block_on(stats::run(args)).map(ok),
            Command::Trends(args) => block_on(trends::run(args)).map(ok),
            Command::Ping(args) => block_on(ping::run(args)).map(ok),
            Command::Operator(args) => block_on(operator::run(args)).map(ok),
            Command::Crds => crds::run().map(ok),
            Command::Schema(args) => block_on(schema::run(args)).map(ok),
            Command::Adapter(args) => block_on(adapter::run(args)),
            Command::Completions(args) => completions::run(args).map(ok),
            Command::Reference => reference::run().map(ok),
        };
        match outcome {
            Ok(CommandResult::Ok) => ExitCode::SUCCESS,
            Ok(CommandResult::Partial) => ExitCode::FAILURE,
            Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
            Err(error) => {
                output::eprint(&format!("jobexec: {}", output::escape_control(&error.to_string())));
                ExitCode::from(error.code())
            }
        }
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let outcome = boundary::caught(Place::Command, work).await;
        connections::close().await;
        outcome
    });
    let outcome = outcome.unwrap_or_else(|panicked| Err(panicked.into()));
    // Do not wait for name resolution that is still running.
    runtime.shutdown_background();
    outcome
}

/// Parses a duration longer than 0.
fn positive_duration(text: &str) -> Result<Duration, String> {
    let age: Duration = text.parse().map_err(|error: InvalidDuration| error.to_string())?;
    if age.get().is_zero() { Err("must be longer than 0".to_owned()) } else { Ok(age) }
}

/// Parses a duration within which samples are kept and stats are available.
fn retained_duration(text: &str) -> Result<Duration, String> {
    let period = positive_duration(text)?;
    if period.to_chrono() > LONGEST {
        return Err(format!("must be at most {}", duration::format(LONGEST)));
    }
    Ok(period)
}

/// Returns the user's name on this machine.
fn user() -> String {
    whoami::username().unwrap_or_else(|_| "unknown".to_owned())
}

/// Returns the name of the user for the audit log: `user@machine`.
fn actor() -> String {
    format!("{}@{}", user(), whoami::hostname().unwrap_or_else(|_| "unknown".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_options_contains_no_password() {
        for command in [&["list"][..], &["cleanup", "--dry-run"], &["schema", "--apply"]] {
            let args = [&["jobexec"], command, &["--database-url", "postgres://u:hunter2@h/d"]].concat();
            let shown = format!("{:?}", Cli::try_parse_from(args).unwrap());
            assert!(shown.contains("REDACTED") && !shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn lease_namespace_is_validated() {
        for bad in ["../kube-system", "a/b", "a?b", "A"] {
            let shown = Cli::try_parse_from(["jobexec", "operator", "--lease-namespace", bad]).unwrap_err();
            assert!(shown.to_string().contains("kubectl get namespaces"), "{shown}");
        }
    }
}
