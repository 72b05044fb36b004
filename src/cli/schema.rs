//! `jobexec schema`: prints or applies the operator's schema.

use std::io::Write as _;
use std::path::PathBuf;

use super::{CliError, adapter, connections, direct, secret};
use crate::db::extras::{Extra, Retries};
use crate::db::{self, Layout, schema};
use crate::secrets::SecretString;

/// The options of `jobexec schema`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec schema                                             print for the default table public.job_executions
  jobexec schema --role jobexec | psql \"$DATABASE_URL\"       apply with psql
  jobexec schema --role jobexec --apply                      apply to DATABASE_URL
  jobexec schema -f store.yaml --role jobexec                print for the table that an ExecutionStore describes
  jobexec schema --role jobexec --with check,transitions     also add a constraint and a trigger to the application's table")]
pub(super) struct Args {
    /// Apply to the database instead of printing.
    #[arg(long)]
    apply: bool,
    /// The database, for --apply: the URL of a superuser or of the database owner, who can create indexes on the table.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_parser = secret)]
    database_url: Option<SecretString>,
    /// The role that the operator logs in with: it gets exactly the privileges that the operator needs.
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// Additions to the application's table, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ADDITION", conflicts_with = "adapter")]
    with: Vec<Extra>,
    /// The adapter for the job system whose tables these are; see `jobexec adapter list`.
    #[arg(long, value_name = "NAME", conflicts_with = "filename")]
    adapter: Option<String>,
    /// The schema of the adapter's tables; by default the one that the job system uses by default.
    #[arg(long, value_name = "NAME", requires = "adapter", value_parser = adapter::identifier)]
    adapter_schema: Option<String>,
    /// A YAML file with an `ExecutionStore`, for a table other than the default. Without it, --apply uses the table of the only
    /// store recorded in the database, if there is one; with --role only if that is the default table.
    #[arg(short = 'f', long, value_name = "FILE")]
    filename: Option<PathBuf>,
}

/// Returns the tables if no file describes them. Everyone who may update the table can write what is recorded, so no privilege is
/// granted because of it.
fn without_file(recorded: Option<Layout>, role: Option<&str>) -> Result<Layout, CliError> {
    let Some(recorded) = recorded else { return Ok(Layout::default()) };
    if role.is_some() && recorded != Layout::default() {
        let table = &recorded.table;
        return Err(CliError::Usage(format!(
            "--role grants privileges on a table, and the store recorded in the database has the table {}.{} or its own columns: \
             describe the table with -f, for example from `kubectl get executionstore NAME -o yaml`",
            table.schema.0, table.name.0
        )));
    }
    Ok(recorded)
}

/// Prints or applies the schema.
pub(super) async fn run(args: Args) -> Result<(), CliError> {
    let described = match (&args.adapter, &args.filename) {
        (Some(name), _) => {
            adapter::find(name)?;
            Some(adapter::layout(name.clone(), args.adapter_schema.clone()))
        }
        (None, Some(path)) => Some(Layout::of(&direct::store_of(path)?.spec)),
        (None, None) => None,
    };
    let role = args.role.as_deref();
    if !args.apply {
        let layout = described.unwrap_or_default();
        let mut out = std::io::stdout().lock();
        // The adapter comes first: it creates the view that the privileges are for.
        if let Some(adapter) = args.adapter.as_deref().map(adapter::find).transpose()? {
            out.write_all(db::adapter::script(adapter, &layout.table.schema.0, role).as_bytes())?;
        }
        out.write_all(schema::script(&layout, role, &args.with).as_bytes())?;
        return Ok(());
    }
    let database = connections::open(args.database_url).await?;
    let layout = match described {
        Some(layout) => layout,
        None => without_file(direct::recorded(&database).await?, role)?,
    };
    if let Some(adapter) = args.adapter.as_deref().map(adapter::find).transpose()? {
        db::adapter::apply(&database, adapter, &layout.table.schema.0, role).await?;
    }
    let retries = schema::apply(&database, &layout, role, &args.with).await?;
    database.close().await;
    let table = &layout.table;
    let extras: String = args.with.iter().map(|extra| format!("; {extra:?}")).collect();
    let extras = match retries {
        Retries::Seen => extras + " (running executions may return to waiting, as seen in this table)",
        Retries::Unknown => extras,
    };
    let indexes = if layout.adapter.is_some() {
        String::new()
    } else {
        format!("; the indexes on {}.{}", table.schema.0, table.name.0)
    };
    eprintln!("applied: the schema jobexec{indexes}{extras}");
    Ok(())
}
