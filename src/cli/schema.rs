//! `jobexec schema`

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::{CliError, direct, secret};
use crate::db::extras::{Extra, Retries};
use crate::db::{Database, Layout, schema, url};
use crate::secrets::{ExposeSecret as _, SecretString};

/// Building an index on a large table takes its time.
const STATEMENT_TIMEOUT: Duration = Duration::from_hours(1);

/// What to print or apply.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec schema                                             print for the default table public.job_executions
  jobexec schema --role jobexec | psql \"$DATABASE_URL\"       apply with psql
  jobexec schema --role jobexec --apply                      apply to DATABASE_URL
  jobexec schema -f store.yaml --role jobexec                for the table that an ExecutionStore describes
  jobexec schema --role jobexec --with check,transitions     also keep the application's table from lying")]
pub(super) struct Args {
    /// Apply to the database instead of printing.
    #[arg(long)]
    apply: bool,
    /// The database, for --apply: a URL of a superuser or of the database's owner, who may create indexes on the table.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_parser = secret)]
    database_url: Option<SecretString>,
    /// The role that the operator logs in with: it gets exactly the rights that the operator needs.
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// Additions to the application's table, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ADDITION")]
    with: Vec<Extra>,
    /// A YAML file with an `ExecutionStore`, for a table other than the default. Without it --apply takes the table of the one
    /// store that an operator has recorded in the database, if there is one; with --role only the default table.
    #[arg(short = 'f', long, value_name = "FILE")]
    filename: Option<PathBuf>,
}

/// The tables where no file describes them. What is recorded can be written by everybody who may update the table, so that no right
/// is granted by it.
fn without_file(recorded: Option<Layout>, role: Option<&str>) -> Result<Layout, CliError> {
    let Some(recorded) = recorded else { return Ok(Layout::default()) };
    if role.is_some() && recorded != Layout::default() {
        let table = &recorded.table;
        return Err(CliError::Usage(format!(
            "--role grants rights on the table that is meant, and the database has a store with the table {}.{} or columns of its \
             own: describe the one that is meant with -f, for example as `kubectl get executionstore NAME -o yaml` prints it",
            table.schema.0, table.name.0
        )));
    }
    Ok(recorded)
}

/// Prints or applies the schema.
pub(super) async fn run(args: Args) -> Result<(), CliError> {
    let described = match &args.filename {
        None => None,
        Some(path) => Some(Layout::of(&direct::store_of(path)?.spec)),
    };
    let role = args.role.as_deref();
    if !args.apply {
        let layout = described.unwrap_or_default();
        std::io::stdout().lock().write_all(schema::script(&layout, role, &args.with).as_bytes())?;
        return Ok(());
    }
    let url = args.database_url.ok_or(CliError::NoDatabase)?;
    let login = url::login(url.expose_secret(), None)?;
    let database = Database::connect(login, 1, STATEMENT_TIMEOUT).await?;
    let layout = match described {
        Some(layout) => layout,
        None => without_file(direct::recorded(&database).await?, role)?,
    };
    let retries = schema::apply(&database, &layout, role, &args.with).await?;
    database.close().await;
    let table = &layout.table;
    let extras: String = args.with.iter().map(|extra| format!("; {extra:?}")).collect();
    let extras = match retries {
        Retries::Seen => extras + " (running executions may go back to wait: this table's do)",
        Retries::Unknown => extras,
    };
    eprintln!("in place: the schema jobexec; the indexes on {}.{}{extras}", table.schema.0, table.name.0);
    Ok(())
}
