//! A store without Kubernetes: the database that a URL names, the table that a file describes, and what the operator has
//! put in force there.

mod answers;
mod choice;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{CliError, secret};
use crate::api::{ExecutionStore, ExecutionStoreSpec};
use crate::db::judge::Rules;
use crate::db::ledger::Found;
use crate::db::mapping::IdType;
use crate::db::validate::{Problem, validate};
use crate::db::{Database, Judge, Layout, Ledger, Mapping, ledger, rules, schema, stores, url};
use crate::rules::{Base, Compiled, store_source};
use crate::secrets::{ExposeSecret as _, SecretString};
pub(super) use choice::TableName;
use choice::{Choice, choose};

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
    /// The table, where the database has several stores, or where no operator has recorded how rows are read: then with the
    /// default columns and statuses.
    #[arg(long, value_name = "SCHEMA.NAME")]
    table: Option<TableName>,
    /// A YAML file with an `ExecutionStore`, for a table that no operator has recorded how to read.
    #[arg(short = 'f', long, value_name = "FILE")]
    filename: Option<PathBuf>,
}

impl Target {
    /// Whether it is said which table is meant.
    pub(super) fn names_the_table(&self) -> bool {
        self.table.is_some() || self.filename.is_some()
    }

    /// Sees that no table is named beside a store of the operator's API.
    pub(super) fn beside_a_store(&self) -> Result<(), CliError> {
        match self.table {
            Some(_) => Err(CliError::Usage(
                "--table names a table of the database: leave out either it or --store".to_owned(),
            )),
            None => Ok(()),
        }
    }
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
    /// What whoever reads should know of how the rows are read.
    caution: Option<String>,
    /// Why no row may be changed, where it is only guessed how they are to be read.
    guess: Option<String>,
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
        let file = args.filename.as_ref().map(store_of).transpose()?;
        let url = args.database_url.ok_or(CliError::NoDatabase)?;
        let login = url::login(url.expose_secret(), None)?;
        let database = Database::connect(login, 2, STATEMENT_TIMEOUT).await?;
        let Choice { spec, name, caution, guess, recorded } =
            chosen(&database, args.table.as_ref(), file).await?;
        let validated = validate(&database, &Layout { recorded, ..Layout::of(&spec) }).await??;
        let (known, refused) = match ledger::look_up(&database, &validated.mapping).await? {
            Found::Known(known) => (Some(known), None),
            Found::Nothing => (None, None),
            Found::Refused(refusal) => (None, Some(refusal)),
        };
        if let Some(refusal) = &refused {
            super::output::say(&format!("jobexec: nothing that is recorded counts here: {}", refusal.why));
        }
        let name = known.as_ref().and_then(|known| known.name.clone()).unwrap_or(name);
        let (base, found) = match &known {
            Some(known) => rules::stored(&database, known.store_id, &store_source(&name)).await?,
            None => (None, Vec::new()),
        };
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
            caution,
            guess,
            ledger: ledger.unwrap_or_else(|| Ledger::Missing(NOTHING_RECORDED.to_owned())),
            looked_after: base.is_some(),
            compiled: Compiled {
                base: base.unwrap_or_else(|| Base::of(&name, &spec)),
                rules: found,
                conflicts: BTreeMap::new(),
            },
            rules: known.as_ref().map_or(Rules::Memory, |known| Rules::Table(known.store_id)),
            watched,
            spec,
        })
    }

    /// Makes sure that what is done can be recorded, and returns where, or why not.
    pub(super) async fn enlist(&mut self) -> Result<&Ledger, CliError> {
        self.ledger = ledger::enlist(&self.database, &self.mapping).await?;
        Ok(&self.ledger)
    }

    /// Sees that rows can be changed, and rightly.
    pub(super) fn writable(&self) -> Result<(), CliError> {
        match (&self.guess, &self.unwritable) {
            (Some(why), _) => Err(CliError::NotDone(why.clone())),
            (None, Some(problem)) => Err(problem.clone().into()),
            (None, None) => Ok(()),
        }
    }

    /// Sees that rows can be changed, and says so where that will not be recorded.
    pub(super) async fn prepare_to_write(&mut self) -> Result<(), CliError> {
        self.writable()?;
        self.say_how_it_reads();
        if let Ledger::Missing(why) = self.enlist().await? {
            super::output::say(&format!(
                "jobexec: this is not recorded, since {}",
                super::output::plain(why)
            ));
        }
        Ok(())
    }

    /// Sees that it is no guess how the rows are read.
    pub(super) fn certain(&self) -> Result<(), CliError> {
        self.guess.as_ref().map_or(Ok(()), |why| Err(CliError::NotDone(why.clone())))
    }

    /// Says what should be known of how the rows are read.
    pub(super) fn say_how_it_reads(&self) {
        if let Some(caution) = &self.caution {
            super::output::say(&format!("jobexec: {}", super::output::plain(caution)));
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
    fn threshold(&self) -> i64 {
        self.spec.long_running.threshold.into()
    }

    /// How often an operator looks at the table.
    fn poll_interval(&self) -> chrono::TimeDelta {
        self.spec.poll_interval.to_chrono()
    }

    /// The predicate.
    pub(super) fn judge(&self) -> Judge<'_> {
        Judge {
            single_active_execution: self
                .spec
                .single_active_execution
                .as_ref()
                .map(|s| s.grace_period.to_chrono()),
            workloads: self.spec.workloads.as_ref().map(|w| w.grace_period.to_chrono()),
            ..Judge::new(&self.mapping, &self.compiled, self.rules, self.watched)
        }
    }

    /// What an operator has put in force, if one has.
    pub(super) fn in_force(&self) -> Option<&Compiled> {
        self.looked_after.then_some(&self.compiled)
    }

    /// Closes the connections in order.
    pub(super) async fn close(self) {
        self.database.close().await;
    }
}

const NOTHING_RECORDED: &str = "the schema jobexec knows nothing of this table: no operator has looked after it, and nobody has cleaned up from here";

/// The tables of the one store whose mapping is recorded in the database; `None`: none is.
pub(super) async fn recorded(database: &Database) -> Result<Option<Layout>, CliError> {
    let known = match schema::refused(database, None).await? {
        Some(_) => Vec::new(),
        None => stores::all(database).await?,
    };
    let known: Vec<_> = known.into_iter().filter(|stored| stored.mapping.is_some()).collect();
    if known.is_empty() {
        return Ok(None);
    }
    if known.len() > 1 {
        let several = "several stores are recorded in this database: describe the one that is meant with -f";
        return Err(CliError::Usage(several.to_owned()));
    }
    Ok(Some(Layout::of(&choose(&known, None, None)?.spec)))
}

/// Which table is meant and how its rows are read. What is recorded in tables of somebody else's says nothing.
async fn chosen(
    database: &Database,
    table: Option<&TableName>,
    file: Option<ExecutionStore>,
) -> Result<Choice, CliError> {
    let owner = file.as_ref().and_then(|file| file.spec.connection.schema_owner.as_deref());
    let known = match schema::refused(database, owner).await? {
        Some(_) => Vec::new(),
        None => stores::all(database).await?,
    };
    choose(&known, table, file)
}

/// A store of the default table, about which no more is known.
fn unconfigured() -> ExecutionStore {
    let spec = serde_json::from_value(serde_json::json!({"connection": {"secretRef": {"name": "-"}}}));
    ExecutionStore::new("default", spec.unwrap_or_else(|_| unreachable!("every default is valid")))
}
