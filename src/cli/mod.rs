//! The command line, one file a subcommand.

mod crds;
mod direct;
mod explain;
mod operator;
mod schema;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
        "no database: give --database-url or set DATABASE_URL to postgres://user:password@host:port/database"
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
        "cannot use the Kubernetes cluster: {0}. Check KUBECONFIG, or run inside a Pod with a ServiceAccount"
    )]
    Cluster(String),
    /// The table does not fit.
    #[error("{0}")]
    Table(#[from] crate::db::validate::Problem),
    /// No row can have this id.
    #[error("{id:?} is no id of this table, whose ids are of type {type_}")]
    InvalidId {
        /// What was given.
        id: String,
        /// The type of the ids.
        type_: &'static str,
    },
    /// There is no such row.
    #[error("the table has no execution {0}")]
    NoExecution(String),
    /// The objects could not be printed.
    #[error("cannot print the objects as YAML: {0}")]
    Yaml(String),
}

/// Keeps tables of job executions in Postgres true, and shows their state in Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "jobexec", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator: watch `ExecutionStore` and `JobExecution` objects, fail stale executions.
    Operator(operator::Args),
    /// Print the custom resource definitions, to be piped to `kubectl apply --server-side -f -`.
    Crds,
    /// Say why an execution is stale or is not: its row, each rule, the deadline, the evidence, what happens next.
    Explain(explain::Args),
    /// Print or apply the operator's own schema, the index for the sweep, and the grants of the operator's role.
    Schema(schema::Args),
}

impl Cli {
    /// Runs the command. The exit status is 0 when it did what it was asked, 1 when it could not; a command line that
    /// cannot be read ends with 2.
    pub fn run(self) -> ExitCode {
        let outcome = match self.command {
            Command::Operator(args) => block_on(operator::run(args)),
            Command::Crds => crds::run(),
            Command::Explain(args) => block_on(explain::run(args)),
            Command::Schema(args) => block_on(schema::run(args)),
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            // The reader of a pipe has seen enough, as `head` does.
            Err(CliError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("jobexec: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

fn block_on(work: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    // A name that is still being resolved is not waited for.
    runtime.shutdown_background();
    outcome
}
