//! A store without Kubernetes: the database that a URL names, the table that a file describes, and what the operator has
//! put in force there.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use kube::ResourceExt as _;

use super::CliError;
use crate::api::{ExecutionStore, ExecutionStoreSpec};
use crate::db::judge::Rules;
use crate::db::validate::validate;
use crate::db::{Database, Judge, Layout, Mapping, ledger, rules, url};
use crate::policy::{self, Base, Compiled};

/// How long a statement may take: a person waits for it.
const STATEMENT_TIMEOUT: Duration = Duration::from_mins(1);

/// Which database and which table.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// The database: postgres://user:password@host:port/database.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// A YAML file with an `ExecutionStore`, for a table other than the default.
    #[arg(short = 'f', long, value_name = "FILE")]
    filename: Option<PathBuf>,
}

/// The `ExecutionStore` in a file.
pub(super) fn store_of(path: &PathBuf) -> Result<ExecutionStore, CliError> {
    let text = std::fs::read_to_string(path).map_err(|e| CliError::File(path.clone(), e.to_string()))?;
    serde_saphyr::from_str(&text).map_err(|e| CliError::File(path.clone(), e.to_string()))
}

/// An open store.
pub(super) struct Direct {
    pub(super) database: Database,
    pub(super) mapping: Mapping,
    compiled: Compiled,
    rules: Rules,
    watched: DateTime<Utc>,
    spec: ExecutionStoreSpec,
}

impl Direct {
    /// Connects, and reads what is in force.
    pub(super) async fn open(args: Target) -> Result<Self, CliError> {
        let store = match &args.filename {
            Some(path) => store_of(path)?,
            None => unconfigured(),
        };
        let options = url::parse(&args.database_url.ok_or(CliError::NoDatabase)?, None)?;
        let database = Database::connect(options, 2, STATEMENT_TIMEOUT).await?;
        let mapping = validate(&database, &Layout::of(&store.spec)).await??.mapping;
        let known = ledger::look_up(&database, &mapping).await?;
        let name = known.as_ref().and_then(|known| known.name.clone()).unwrap_or_else(|| store.name_any());
        let in_force = match &known {
            Some(known) => rules::load(&database, known.store_id, &policy::store_source(&name)).await?,
            None => None,
        };
        let rules = known.as_ref().filter(|_| in_force.is_some()).map(|known| Rules::Table(known.store_id));
        let watched = known.and_then(|known| known.watched_since).unwrap_or_else(Utc::now);
        Ok(Self {
            database,
            mapping,
            compiled: in_force
                .unwrap_or_else(|| policy::compile(Base::of(&name, &store.spec), Vec::new(), Vec::new())),
            rules: rules.unwrap_or(Rules::Memory),
            watched,
            spec: store.spec,
        })
    }

    /// Whether an operator has put in force what people wish: else only what the file says counts.
    pub(super) fn looked_after(&self) -> bool {
        self.rules != Rules::Memory
    }

    /// The predicate.
    pub(super) fn judge(&self) -> Judge<'_> {
        Judge {
            mapping: &self.mapping,
            in_force: &self.compiled,
            rules: self.rules,
            sequential: self.spec.sequential.as_ref().map(|s| s.grace_period.to_chrono()),
            workloads: self.spec.workloads.as_ref().map(|w| w.grace_period.to_chrono()),
            watched: self.watched,
            evidence: true,
            asked: None,
        }
    }
}

/// A store of the default table, about which no more is known.
fn unconfigured() -> ExecutionStore {
    let spec = serde_json::from_value(serde_json::json!({"connection": {"secretRef": {"name": "-"}}}));
    ExecutionStore::new("default", spec.unwrap_or_else(|_| unreachable!("every default is valid")))
}
