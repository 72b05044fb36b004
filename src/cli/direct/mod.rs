//! A store without Kubernetes: the database that a URL names, the table that a file describes, and what the operator has
//! put in force there.

mod answers;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use kube::ResourceExt as _;

use super::{CliError, secret};
use crate::api::{ExecutionStore, ExecutionStoreSpec};
use crate::db::judge::Rules;
use crate::db::ledger::Found;
use crate::db::mapping::IdType;
use crate::db::validate::{Problem, validate};
use crate::db::{Database, Judge, Layout, Ledger, Mapping, ledger, rules, url};
use crate::policy::{self, Base, Compiled};
use crate::secrets::{ExposeSecret as _, SecretString};

/// How long a statement may take: a person waits for it.
const STATEMENT_TIMEOUT: Duration = Duration::from_mins(1);

/// How records name what a person does from here.
pub(super) const SOURCE: &str = "CommandLine";

/// Which database and which table.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Target {
    /// The database: postgres://user:password@host:port/database.
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true, value_parser = secret)]
    database_url: Option<SecretString>,
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
    /// Where is recorded what is done.
    pub(super) ledger: Ledger,
    /// Why rows cannot be changed, if they cannot.
    unwritable: Option<Problem>,
    /// The store of an operator that looks after the table and may read its local times in a zone that is not known here.
    zone_of: Option<String>,
    /// Whether an operator has put in force what people wish: else only what the file says counts.
    looked_after: bool,
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
        let url = args.database_url.ok_or(CliError::NoDatabase)?;
        let login = url::login(url.expose_secret(), None)?;
        let database = Database::connect(login, 2, STATEMENT_TIMEOUT).await?;
        let validated = validate(&database, &Layout::of(&store.spec)).await??;
        let (known, refused) = match ledger::look_up(&database, &validated.mapping).await? {
            Found::Known(known) => (Some(known), None),
            Found::Nothing => (None, None),
            Found::Refused(refusal) => (None, Some(refusal)),
        };
        if let Some(refusal) = &refused {
            super::output::say(&format!("jobexec: nothing that is recorded counts here: {}", refusal.why));
        }
        let name = known.as_ref().and_then(|known| known.name.clone()).unwrap_or_else(|| store.name_any());
        let (base, found) = match &known {
            Some(known) => rules::stored(&database, known.store_id, &policy::store_source(&name)).await?,
            None => (None, Vec::new()),
        };
        let mapped_here = args.filename.is_some() || !validated.mapping.has_local_times();
        let zone_of = known.as_ref().and_then(|known| known.name.clone()).filter(|_| !mapped_here);
        // As an operator takes it that was away.
        let watched = match known.as_ref().and_then(|known| known.watched_since) {
            Some(since) => since,
            None => ledger::now(&database).await?,
        };
        let ledger =
            known.as_ref().map(|known| Ledger::Tables { store_id: known.store_id, outbox: known.outbox });
        Ok(Self {
            database,
            mapping: validated.mapping,
            unwritable: validated.unwritable.or(refused.map(Problem::Records)),
            zone_of,
            ledger: ledger.unwrap_or_else(|| Ledger::Missing(NOTHING_RECORDED.to_owned())),
            looked_after: base.is_some(),
            compiled: Compiled {
                base: base.unwrap_or_else(|| Base::of(&name, &store.spec)),
                rules: found,
                conflicts: BTreeMap::new(),
            },
            rules: known.as_ref().map_or(Rules::Memory, |known| Rules::Table(known.store_id)),
            watched,
            spec: store.spec,
        })
    }

    /// Makes sure that what is done can be recorded, and returns where, or why not.
    pub(super) async fn enlist(&mut self) -> Result<&Ledger, CliError> {
        self.ledger = ledger::enlist(&self.database, &self.mapping).await?;
        Ok(&self.ledger)
    }

    /// Sees that rows can be changed, and rightly.
    pub(super) fn writable(&self) -> Result<(), CliError> {
        match (&self.unwritable, &self.zone_of) {
            (Some(problem), _) => Err(problem.clone().into()),
            (None, Some(store)) => Err(CliError::NotDone(zone_unknown(store))),
            (None, None) => Ok(()),
        }
    }

    /// Sees that rows can be changed, and says so where that will not be recorded.
    pub(super) async fn prepare_to_write(&mut self) -> Result<(), CliError> {
        self.writable()?;
        if let Ledger::Missing(why) = self.enlist().await? {
            super::output::say(&format!(
                "jobexec: this is not recorded, since {}",
                super::output::plain(why)
            ));
        }
        Ok(())
    }

    /// Says that times may be read in the wrong zone, if they may.
    pub(super) fn say_of_zone(&self) {
        if let Some(store) = &self.zone_of {
            super::output::say(&format!("jobexec: read as UTC here: {}", zone_unknown(store)));
        }
    }

    /// An id in the form that Postgres prints.
    pub(super) fn id(&self, id: &str) -> Result<String, CliError> {
        let type_ = self.mapping.id_type();
        let invalid = || CliError::InvalidId { id: id.to_owned(), what: "", type_: type_.sql() };
        type_.canonical(id).ok_or_else(invalid)
    }

    /// Ids likewise, each once.
    pub(super) fn ids(&self, ids: &[String]) -> Result<Vec<String>, CliError> {
        let mut known = Vec::new();
        for id in ids {
            let id = self.id(id)?;
            if !known.contains(&id) {
                known.push(id);
            }
        }
        Ok(known)
    }

    /// A job's id in the form that Postgres prints.
    pub(super) fn job_id(&self, id: &str) -> Result<String, CliError> {
        let type_ = self.mapping.job_id_type().unwrap_or(IdType::Text);
        let invalid = || CliError::InvalidId { id: id.to_owned(), what: "job ", type_: type_.sql() };
        type_.canonical(id).ok_or_else(invalid)
    }

    /// How many executions may run for long before that is a warning.
    fn warn_above(&self) -> i64 {
        self.spec.long_running.warn_above.into()
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

    /// Closes the connections in order.
    pub(super) async fn close(self) {
        self.database.close().await;
    }
}

const NOTHING_RECORDED: &str = "the schema jobexec knows nothing of this table: no operator has looked after it, and nobody has cleaned up from here";

fn zone_unknown(store: &str) -> String {
    format!(
        "the table has times without a zone, and only the ExecutionStore {store} knows which zone they are in: give it \
         with -f, for example as `kubectl get executionstore {store} -o yaml` prints it"
    )
}

/// A store of the default table, about which no more is known.
fn unconfigured() -> ExecutionStore {
    let spec = serde_json::from_value(serde_json::json!({"connection": {"secretRef": {"name": "-"}}}));
    ExecutionStore::new("default", spec.unwrap_or_else(|_| unreachable!("every default is valid")))
}
