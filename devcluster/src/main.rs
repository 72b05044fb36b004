//! `devcluster`: a throwaway Kubernetes control plane and Postgres for the length of a command, or of an afternoon.

mod cli;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

const ENVIRONMENT: &str = "\
Environment:
  JOBEXEC_DEVCLUSTER_CACHE     where binaries are kept [default: $XDG_CACHE_HOME or ~/.cache, /jobexec-devcluster]
  JOBEXEC_DEVCLUSTER_POSTGRES  \"embedded\" (downloaded even if one is installed), or a folder with initdb and postgres
  KUBEBUILDER_ASSETS           a folder with etcd, kube-apiserver, kube-controller-manager and kubectl";

/// A throwaway Kubernetes control plane (etcd, kube-apiserver with RBAC, kube-controller-manager) and Postgres on
/// 127.0.0.1. Objects can be made, but no Pod runs, unless `exec --node` is asked for. Your own kubeconfig is left alone.
#[derive(Parser)]
#[command(version, after_help = ENVIRONMENT)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run COMMAND with a fresh cluster (`KUBECONFIG`, `DATABASE_URL`, `PATH`), or with Postgres alone, and remove it when COMMAND ends
    ///
    /// Exits with COMMAND's status, or 128 plus the number of the signal that ended it.
    Exec(cli::exec::ExecArgs),
    /// Start a cluster in the background: eval "$(devcluster up)"
    ///
    /// Prints the lines that set `KUBECONFIG`, `DATABASE_URL` and `PATH`. A cluster that is up already stays, and its lines
    /// are printed again.
    Up,
    /// Stop and remove what `up` started
    Down,
    /// Run SQL on the cluster's database and show the rows as psql does
    Sql {
        /// One or more statements
        #[arg(value_name = "SQL", allow_hyphen_values = true)]
        query: String,
    },
    /// Write a container image of one program, without a container engine
    Image(cli::image::ImageArgs),
    /// Print where a further program is, which is downloaded or built if need be
    Tool {
        /// Which one
        name: cli::tool::Name,
    },
    /// The background process of `up`
    #[command(hide = true)]
    Supervise,
    /// The first process of a node's namespaces, and of each Pod
    #[command(hide = true)]
    Init {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// The process that cleans up after a killed `exec`
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
        devcluster::Stderr::new().say(&error.to_string());
        match error {
            // sysexits.h calls it EX_UNAVAILABLE.
            devcluster::Error::NoNode(_) => ExitCode::from(69),
            _ => ExitCode::FAILURE,
        }
    })
}
