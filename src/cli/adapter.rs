//! `jobexec adapter`: the adapters for the tables of other job systems.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Subcommand;

use super::connections::open;
use super::{CliError, CommandResult, direct, secret};
use crate::adapters::{self, Adapter, Limit};
use crate::api::ExecutionStoreSpec;
use crate::db::adapter::{Finding, apply, rehearse, remove};
use crate::db::validate::validate;
use crate::db::{Database, Layout};
use crate::secrets::SecretString;

/// The options of `jobexec adapter`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec adapter list                              the job systems that there is an adapter for
  jobexec adapter show river                        what the adapter does, and what it does not
  jobexec adapter apply river --role jobexec        install it in DATABASE_URL, as the owner of the tables
  jobexec schema --adapter river                    print what that does, as a script
  jobexec adapter check river                       try it as the operator's role: nothing is changed
  jobexec adapter check -f store.yaml               try any table that an ExecutionStore describes")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the adapters.
    List,
    /// Show what an adapter does, and what it does not.
    Show {
        /// The adapter.
        name: String,
    },
    /// Install an adapter: its view, functions, triggers and indexes. What is there is left as it is.
    Apply {
        #[command(flatten)]
        target: Target,
        /// The role that the operator logs in with: it gets exactly the privileges that the adapter needs.
        #[arg(long, value_name = "NAME")]
        role: Option<String>,
    },
    /// Remove an adapter. The job system then works as before.
    Remove {
        #[command(flatten)]
        target: Target,
    },
    /// Check that the operator can find and end executions: columns, rights, indexes, triggers. It ends a running execution in a
    /// transaction that is rolled back. Exits with 1 if something has to be mended.
    Check {
        /// The adapter.
        #[arg(required_unless_present = "filename", conflicts_with = "filename")]
        name: Option<String>,
        /// The schema of the job system's tables.
        #[arg(long, value_name = "NAME", requires = "name", value_parser = identifier)]
        schema: Option<String>,
        /// A YAML file with an `ExecutionStore`.
        #[arg(short = 'f', long, value_name = "FILE")]
        filename: Option<PathBuf>,
        /// The database: the URL that the operator logs in with.
        #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_parser = secret)]
        database_url: Option<SecretString>,
    },
}

#[derive(Debug, clap::Args)]
struct Target {
    /// The adapter.
    name: String,
    /// The schema of the job system's tables; by default the one that the system uses by default.
    #[arg(long, value_name = "NAME", value_parser = identifier)]
    schema: Option<String>,
    /// The database: the URL of the owner of the tables.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_parser = secret)]
    database_url: Option<SecretString>,
}

/// Runs the command.
pub(super) async fn run(args: Args) -> Result<CommandResult, CliError> {
    match args.command {
        Command::List => list()?,
        Command::Show { name } => show(find(&name)?)?,
        Command::Apply { target, role } => {
            let (database, adapter, schema) = target.open().await?;
            apply(&database, adapter, &schema, role.as_deref()).await?;
            database.close().await;
            eprintln!("applied: the adapter {} for the tables in the schema {schema}", adapter.manifest.name);
        }
        Command::Remove { target } => {
            let (database, adapter, schema) = target.open().await?;
            let there = remove(&database, adapter, &schema).await?;
            database.close().await;
            let name = &adapter.manifest.name;
            if there {
                eprintln!("removed: the adapter {name} from the schema {schema}");
            } else {
                eprintln!("nothing to remove: there is nothing of the adapter {name} in the schema {schema}");
            }
        }
        Command::Check { name, schema, filename, database_url } => {
            let layout = match (filename, name) {
                (Some(path), _) => Layout::of(&direct::store_of(&path)?.spec),
                (None, name) => {
                    let name = name.unwrap_or_default();
                    find(&name)?;
                    layout(name, schema)
                }
            };
            return check(&open(database_url).await?, &layout).await;
        }
    }
    Ok(CommandResult::Ok)
}

impl Target {
    async fn open(self) -> Result<(Database, &'static Adapter, String), CliError> {
        let adapter = find(&self.name)?;
        let schema = self.schema.unwrap_or_else(|| adapter.manifest.schema.0.clone());
        Ok((open(self.database_url).await?, adapter, schema))
    }
}

/// Parses a name of a schema by the rules of a spec.
pub(super) fn identifier(text: &str) -> Result<String, String> {
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    if first && rest && text.len() <= 63 {
        Ok(text.to_owned())
    } else {
        Err("must be at most 63 letters, digits, _ and $, and start with a letter or _".to_owned())
    }
}

/// Returns the adapter with this name.
pub(super) fn find(name: &str) -> Result<&'static Adapter, CliError> {
    adapters::find(name).ok_or_else(|| {
        CliError::Usage(format!("there is no adapter {name:?}: name one of {}", adapters::names()))
    })
}

/// Returns the tables for which an adapter stands.
pub(super) fn layout(name: String, schema: Option<String>) -> Layout {
    let mut spec = ExecutionStoreSpec { adapter: Some(name), ..direct::unconfigured().spec };
    spec.adapter_schema = schema.map(|schema| schema.as_str().into());
    Layout::of(&spec)
}

fn list() -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:<16} {:<16} {:<28} ACTIONS", "NAME", "JOB SYSTEM", "PROVEN WITH")?;
    for adapter in adapters::all() {
        let manifest = &adapter.manifest;
        let offered = |name: &str| name != "Retry" || adapter.retries();
        let actions: Vec<&str> = manifest
            .actions
            .iter()
            .filter(|(name, does)| does.is_some() && offered(name))
            .map(|(name, _)| name.as_str())
            .collect();
        let proven = format!("{} ({})", manifest.system.proven.join(", "), manifest.system.registry);
        writeln!(out, "{:<16} {:<16} {proven:<28} {}", manifest.name, manifest.title, actions.join(", "))?;
    }
    Ok(())
}

fn show(adapter: &Adapter) -> Result<(), CliError> {
    let m = &adapter.manifest;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} (adapter {}, version {})", m.title, m.name, m.version)?;
    writeln!(out, "Proven with {} {}", m.system.package, m.system.proven.join(", "))?;
    writeln!(
        out,
        "Tables in the schema {}: {}",
        m.schema.0,
        m.requires.keys().cloned().collect::<Vec<_>>().join(", ")
    )?;
    for (action, does) in &m.actions {
        writeln!(
            out,
            "\n{action}: {}",
            does.as_deref().unwrap_or("not known to the job system; executions are failed")
        )?;
    }
    let whose = match m.retry_limit {
        Limit::System => "the job system's own",
        Limit::Policy => {
            "the job system knows none, so the operator does not retry, and onStale Retry fails executions"
        }
    };
    writeln!(out, "\nAttempts and backoff of a retry: {whose}")?;
    writeln!(out, "\nA worker that is alive after all: {}", m.fence)?;
    writeln!(out, "\nThe job system's own rescue: {}", m.own_rescuer)?;
    if let Some(timeout) = &m.store.heartbeat_timeout {
        writeln!(out, "\nA heartbeatTimeout to begin with: {timeout}")?;
    }
    writeln!(out, "\nLimits:")?;
    for limit in &m.limits {
        writeln!(out, "- {limit}")?;
    }
    Ok(())
}

async fn check(database: &Database, layout: &Layout) -> Result<CommandResult, CliError> {
    let mut findings = Vec::new();
    match validate(database, layout).await? {
        Err(problem) => findings.push(Finding::Bad(problem.to_string())),
        Ok(validated) => {
            findings
                .push(Finding::Good("the columns are there, have usable types, and can be read".to_owned()));
            match validated.unwritable {
                Some(problem) => findings.push(Finding::Bad(problem.to_string())),
                None => findings.extend(rehearse(database, &validated.mapping).await?),
            }
        }
    }
    database.close().await;
    let mut out = std::io::stdout().lock();
    for finding in &findings {
        writeln!(out, "{}", super::output::escape_control(&finding.to_string()))?;
    }
    let bad = findings.iter().any(|finding| matches!(finding, Finding::Bad(_)));
    Ok(if bad { CommandResult::Partial } else { CommandResult::Ok })
}
