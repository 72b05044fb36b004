//! `devcluster`: runs a throwaway Kubernetes control plane and Postgres for a command, or in the background.

mod cli;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

const ENVIRONMENT: &str = "\
Environment:
  JOBEXEC_DEVCLUSTER_CACHE     the folder for binaries [default: jobexec-devcluster in $XDG_CACHE_HOME or ~/.cache]
  JOBEXEC_DEVCLUSTER_POSTGRES  \"embedded\" (downloads Postgres even if it is installed), or a folder with initdb and postgres
  KUBEBUILDER_ASSETS           a folder with etcd, kube-apiserver, kube-controller-manager and kubectl";

/// Run a throwaway Kubernetes control plane (etcd, kube-apiserver with RBAC, kube-controller-manager) and Postgres on
/// 127.0.0.1. You can create objects, but Pods run only with `exec --node`. devcluster does not change your kubeconfig.
#[derive(Parser)]
#[command(version, after_help = ENVIRONMENT)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run COMMAND with a fresh cluster (`KUBECONFIG`, `DATABASE_URL`, `PATH`), or with Postgres only, and remove it
    /// afterwards
    ///
    /// Exits with the status of COMMAND, or with 128 plus the number of the signal that ended it.
    Exec(cli::exec::ExecArgs),
    /// Start a cluster in the background: eval "$(devcluster up)"
    ///
    /// Prints shell commands that set `KUBECONFIG`, `DATABASE_URL` and `PATH`. If a cluster is already running, it
    /// keeps running, and the command prints its settings again.
    Up,
    /// Stop and remove the cluster that `up` started
    Down,
    /// Run SQL on the cluster's database and print the rows in the format of psql
    Sql {
        /// One or more statements
        #[arg(value_name = "SQL", allow_hyphen_values = true)]
        query: String,
    },
    /// Write a container image of one program, without a container engine
    Image(cli::image::ImageArgs),
    /// Print the path of an additional program; download or build it first if necessary
    Tool {
        /// The name of the program
        name: cli::tool::Name,
    },
    /// Run the background process of `up`
    #[command(hide = true)]
    Supervise,
    /// Run the first process of a node's namespaces, or of a Pod
    #[command(hide = true)]
    Init {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Run the process that cleans up after a killed `exec`
    #[command(hide = true)]
    Watch { folder: PathBuf },
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Exec(args) => cli::exec::run(&args),
        Command::Up => cli::up::up(),
        Command::Down => cli::up::down(),
        Command::Sql { query } => cli::sql::run(&query),
        Command::Image(args) => cli::image::run(args),
        Command::Init { command } => cli::init::run(&command),
        Command::Tool { name } => cli::tool::run(name),
        Command::Watch { folder } => Ok(cli::watch::run(&folder)),
        Command::Supervise => Ok(cli::supervise::run()),
    };
    result.unwrap_or_else(|error| {
        devcluster::Stderr::new().print_line(&error.to_string());
        match error {
            // EX_UNAVAILABLE of sysexits.h.
            devcluster::Error::NoNode(_) => ExitCode::from(69),
            _ => ExitCode::FAILURE,
        }
    })
}
