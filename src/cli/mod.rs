//! The command line, one file a subcommand. A store is had straight from its database (`direct`) or through the operator
//! (`remote`), to those who print it by one door (`source`); `cluster` is its objects in Kubernetes.

mod cleanup;
mod cluster;
mod completions;
mod crds;
mod direct;
mod explain;
mod health;
mod history;
mod intent;
mod list;
mod operator;
mod output;
mod ping;
mod reference;
mod remote;
mod schema;
mod source;
mod stats;
mod trends;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::api::Duration;
use crate::boundary::{self, Panicked, Place};
use crate::db::stats::LONGEST;
pub use remote::RemoteError;

/// What makes a command end with a status other than 0.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Standard output is gone or full.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
    /// A file that was named cannot be read.
    #[error("cannot read {0}: {1}")]
    File(std::path::PathBuf, String),
    /// No database was named.
    #[error(
        "no database: give --database-url or set DATABASE_URL to postgres://user:password@host:port/database, or name a store that an operator looks after with --store NAMESPACE/NAME"
    )]
    NoDatabase,
    /// The database URL is wrong.
    #[error("the database URL is not usable: {0}")]
    Url(#[from] crate::db::url::InvalidUrl),
    /// The database.
    #[error(transparent)]
    Database(#[from] crate::db::DbError),
    /// The schema.
    #[error(transparent)]
    Schema(#[from] crate::db::schema::SchemaError),
    /// The cluster.
    #[error(
        "cannot use the Kubernetes cluster: {0}. Check KUBECONFIG and your rights, or run inside a Pod with a ServiceAccount"
    )]
    Cluster(String),
    /// The Lease of a replica of the operator.
    #[error(transparent)]
    Lease(#[from] crate::controllers::membership::LeaseError),
    /// The operator's API.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The table does not fit.
    #[error("{0}")]
    Table(#[from] crate::db::validate::Problem),
    /// No row can have this id.
    #[error("{id:?} is no {what}id of this table, whose {what}ids are of type {type_}")]
    InvalidId {
        /// What was given.
        id: String,
        /// Whose id it is, to be put before the word: nothing of an execution.
        what: &'static str,
        /// The type of the ids.
        type_: &'static str,
    },
    /// There is no such row.
    #[error("the table has no execution {0}")]
    NoExecution(String),
    /// The row is not one of the application's executions.
    #[error("execution {0} is outside of table.filter of the store: the operator leaves it alone")]
    Outside(String),
    /// What was asked for was not done.
    #[error("{0}")]
    NotDone(String),
    /// Nothing is recorded in this database.
    #[error("nothing is recorded here: {0}")]
    NotRecorded(String),
    /// A person was asked and said no.
    #[error("nothing was changed")]
    Declined,
    /// The options do not go together, or one is missing.
    #[error("{0}")]
    Usage(String),
    /// The figures of health could not be had.
    #[error("unreachable: {0}")]
    Unreachable(Box<CliError>),
    /// A defect of this program. What it had begun in the database is rolled back.
    #[error(transparent)]
    Panicked(#[from] Panicked),
    /// The result could not be printed.
    #[error("cannot print the result: {0}")]
    Print(String),
}

impl CliError {
    /// Whether the reader of a pipe has gone, as `head` does that has seen enough.
    fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// The exit status.
    const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Unreachable(_) => 2,
            _ => 1,
        }
    }
}

/// An option that nobody may see: whoever prints the options sees that it was given.
#[allow(clippy::unnecessary_wraps, reason = "clap takes functions that may fail")]
fn secret(text: &str) -> Result<crate::secrets::SecretString, std::convert::Infallible> {
    Ok(text.to_owned().into())
}

/// How a command that was carried out ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// All is as it was asked for.
    Well,
    /// Something is not, and it was said what.
    Incomplete,
}

/// Keeps tables of job executions in Postgres true, and shows their state in Kubernetes.
#[derive(Debug, Parser)]
#[command(
    name = "jobexec",
    version,
    after_help = "Exit status: 0 done, 1 not done, 2 the command line is wrong; `health` and `cleanup` say more in their --help.
As kubectl-jobexec on PATH it is the kubectl plugin `kubectl jobexec`."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List executions that run: how long, until when, by which policy, and whether they are stale.
    List(list::Args),
    /// Fail what is stale, by the policies or by a threshold of yours; try it dry before.
    Cleanup(cleanup::Args),
    /// Print the figures of health; the exit status says whether all is well.
    Health(health::Args),
    /// Say why an execution is stale or is not: its row, each rule, the deadline, the evidence, what happens next.
    Explain(explain::Args),
    /// Give an execution more time.
    Extend(intent::Extend),
    /// Cancel executions that run or wait.
    Cancel(intent::Cancel),
    /// Let the operator go on that has paused because too many executions were stale at once.
    Resume(intent::Resume),
    /// Take over, or drop, what another store has left for a table, as after a copy of the database.
    Adopt(intent::Adopt),
    /// Tell what was done to executions, when, why and by whom.
    History(history::Args),
    /// Tell how many executions of each job type ended lately, how many of them well, and how long those took.
    Stats(stats::Args),
    /// Tell health over time: what ran, waited, ran for long, was stale, and how many executions were ended.
    Trends(trends::Args),
    /// See whether an operator's API answers: for `helm test`, or a check from where its callers are.
    Ping(ping::Args),
    /// Run the operator: watch `ExecutionStore` and `JobExecution` objects, fail stale executions.
    Operator(operator::Args),
    /// Print the custom resource definitions, to be piped to `kubectl apply --server-side -f -`.
    Crds,
    /// Print or apply the operator's own schema, the index for the sweep, and the grants of the operator's role.
    Schema(schema::Args),
    /// Print a script that completes commands and options in a shell.
    Completions(completions::Args),
    /// Print this reference as Markdown.
    #[command(hide = true)]
    Reference,
}

/// Reads the command line and runs the command. The name under which the program was started changes the usage line
/// only.
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
            // Help for a reader that has gone away is not missed.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

impl Cli {
    /// Runs the command. The exit status is 0 when it did what it was asked, 1 when it could not; a command line that
    /// cannot be read ends with 2.
    pub fn run(self) -> ExitCode {
        let well = |()| Done::Well;
        let outcome = match self.command {
            Command::List(args) => block_on(list::run(args)).map(well),
            Command::Cleanup(args) => block_on(cleanup::run(args)),
            Command::Health(args) => block_on(health::run(args)),
            Command::Explain(args) => block_on(explain::run(args)).map(well),
            Command::Extend(args) => block_on(intent::extend(args)).map(well),
            Command::Cancel(args) => block_on(intent::cancel(args)),
            Command::Resume(args) => block_on(intent::resume(args)).map(well),
            Command::Adopt(args) => block_on(intent::adopt(args)).map(well),
            Command::History(args) => block_on(history::run(args)).map(well),
            Command::Stats(args) => block_on(stats::run(args)).map(well),
            Command::Trends(args) => block_on(trends::run(args)).map(well),
            Command::Ping(args) => block_on(ping::run(args)).map(well),
            Command::Operator(args) => block_on(operator::run(args)).map(well),
            Command::Crds => crds::run().map(well),
            Command::Schema(args) => block_on(schema::run(args)).map(well),
            Command::Completions(args) => completions::run(args).map(well),
            Command::Reference => reference::run().map(well),
        };
        match outcome {
            Ok(Done::Well) => ExitCode::SUCCESS,
            Ok(Done::Incomplete) => ExitCode::FAILURE,
            Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
            Err(error) => {
                output::say(&format!("jobexec: {}", output::plain(&error.to_string())));
                ExitCode::from(error.code())
            }
        }
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime
        .block_on(boundary::caught(Place::Command, work))
        .unwrap_or_else(|panicked| Err(panicked.into()));
    // A name that is still being resolved is not waited for.
    runtime.shutdown_background();
    outcome
}

/// A length of time that is longer than 0.
fn age(text: &str) -> Result<Duration, String> {
    let age: Duration =
        text.parse().map_err(|error: crate::api::duration::InvalidDuration| error.to_string())?;
    if age.get().is_zero() { Err("must be longer than 0".to_owned()) } else { Ok(age) }
}

/// A length of time that samples are kept for, and stats can be asked of.
fn period(text: &str) -> Result<Duration, String> {
    let period = age(text)?;
    if period.to_chrono() > LONGEST {
        return Err(format!("must be at most {}h", LONGEST.num_hours()));
    }
    Ok(period)
}

/// The user's name on this machine.
fn user() -> String {
    whoami::username().unwrap_or_else(|_| "unknown".to_owned())
}

/// Who runs this, for the record: `user@machine`.
fn person() -> String {
    format!("{}@{}", user(), whoami::hostname().unwrap_or_else(|_| "unknown".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_the_options_has_no_password() {
        for command in [&["list"][..], &["cleanup", "--dry-run"], &["schema", "--apply"]] {
            let args = [&["jobexec"], command, &["--database-url", "postgres://u:hunter2@h/d"]].concat();
            let shown = format!("{:?}", Cli::try_parse_from(args).unwrap());
            assert!(shown.contains("REDACTED") && !shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn a_namespace_is_one() {
        for bad in ["../kube-system", "a/b", "a?b", "A"] {
            let shown = Cli::try_parse_from(["jobexec", "operator", "--lease-namespace", bad]).unwrap_err();
            assert!(shown.to_string().contains("kubectl get namespaces"), "{shown}");
        }
    }
}
