//! A store without Kubernetes: the database of a URL, the table that a file describes or that is recorded, and the rules
//! that the operator applies.

mod answers;
mod choice;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{CliError, connections, secret};
use crate::api::{ExecutionStore, ExecutionStoreSpec, Table};
use crate::db::ledger::Found;
use crate::db::mapping::IdType;
use crate::db::schema::Refusal;
use crate::db::staleness::{RetryLimits, Rules};
use crate::db::validate::{Problem, validate};
use crate::db::{
    Database, Layout, Ledger, Mapping, StalenessPredicate, identity, ledger, rules, schema, stores, url,
};
use crate::rules::{RuleSet, StoreDefaults, store_source};
use crate::secrets::{ExposeSecret as _, SecretString};
use choice::{Choice, choose};
pub(super) use choice::{TableName, unconfigured};

/// Time limit of a statement: a person waits for it.
const STATEMENT_TIMEOUT: Duration = Duration::from_mins(1);

/// The source of actions in the audit log.
pub(super) const SOURCE: &str = "CommandLine";

/// The options that select a database and a table.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Target {
    /// The database: postgres://user:password@host:port/database.
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true, value_parser = secret)]
    database_url: Option<SecretString>,
    /// The table. Necessary if the database has several stores, or if no operator has recorded the mapping of its rows: then
    /// the default columns and statuses apply.
    #[arg(long, value_name = "SCHEMA.NAME")]
    table: Option<TableName>,
    /// A YAML file with an `ExecutionStore`, for a table whose mapping no operator has recorded.
    #[arg(short = 'f', long, value_name = "FILE")]
    filename: Option<PathBuf>,
}

impl Target {
    /// Whether the options name a table.
    pub(super) fn names_table(&self) -> bool {
        self.table.is_some() || self.filename.is_some()
    }

    /// Checks that --table is not combined with --store.
    pub(super) fn reject_with_store(&self) -> Result<(), CliError> {
        match self.table {
            Some(_) => Err(CliError::Usage(
                "--table names a table of the database: omit either --table or --store".to_owned(),
            )),
            None => Ok(()),
        }
    }
}

/// Reads the `ExecutionStore` from a file.
pub(super) fn store_of(path: &PathBuf) -> Result<ExecutionStore, CliError> {
    let text = std::fs::read_to_string(path).map_err(|e| CliError::File(path.clone(), e.to_string()))?;
    let store: ExecutionStore =
        serde_saphyr::from_str(&text).map_err(|e| CliError::File(path.clone(), e.to_string()))?;
    // The API server refuses these; a file does not pass it.
    let spec = &store.spec;
    let plain = Table {
        time_zone: spec.table.time_zone.clone(),
        filter: spec.table.filter.clone(),
        ..Table::default()
    };
    if spec.adapter.is_some() && (spec.jobs.is_some() || spec.heartbeat.is_some() || spec.table != plain) {
        let why = "adapter stands for table, jobs and heartbeat: leave them out, except table.timeZone and table.filter";
        return Err(CliError::File(path.clone(), why.to_owned()));
    }
    if spec.adapter.is_none() && spec.adapter_schema.is_some() {
        let why = "adapterSchema is the schema of an adapter's tables: set adapter, or table.schema instead";
        return Err(CliError::File(path.clone(), why.to_owned()));
    }
    Ok(store)
}

/// An open store.
pub(super) struct Direct {
    pub(super) database: Database,
    pub(super) mapping: Mapping,
    /// Where changes are recorded.
    pub(super) ledger: Ledger,
    /// Why rows cannot be changed, if so.
    unwritable: Option<Problem>,
    /// A warning about the mapping.
    warning: Option<String>,
    /// Why rows must not be changed, if the mapping is only a guess.
    guess: Option<String>,
    /// Whether an operator manages the table: otherwise only the settings in the file apply.
    managed: bool,
    compiled: RuleSet,
    rules: Rules,
    /// The records of other tables or stores of which a person has to say whether what was granted in them counts.
    undecided: Vec<i64>,
    /// Why nothing may be written to a record before a person has chosen one.
    unchosen: Option<Refusal>,
    watched: DateTime<Utc>,
    spec: ExecutionStoreSpec,
}

impl Direct {
    /// Connects, and reads the rules that apply.
    pub(super) async fn open(args: Target) -> Result<Self, CliError> {
        let file = args.filename.as_ref().map(store_of).transpose()?;
        let url = args.database_url.ok_or(CliError::NoDatabase)?;
        let login = url::login(url.expose_secret(), None)?;
        let database = connections::connect(login, 2, STATEMENT_TIMEOUT).await?;
        let Choice { spec, name, warning, guess, recorded } =
            chosen(&database, args.table.as_ref(), file).await?;
        let validated = validate(&database, &Layout { recorded, ..Layout::of(&spec) }).await??;
        let (known, refused) = match ledger::look_up(&database, &validated.mapping).await? {
            Found::Known(known) => (Some(known), None),
            Found::Nothing => (None, None),
            Found::Refused(refusal) => (None, Some(refusal)),
        };
        if let Some(refusal) = &refused {
            super::output::eprint(&format!(
                "jobexec: the records in this database are ignored: {}",
                refusal.why
            ));
        }
        let undecided = known.as_ref().map(|known| known.undecided.clone()).unwrap_or_default();
        if !undecided.is_empty() {
            super::output::eprint(&format!("jobexec: {}", identity::left_alone(&validated.mapping)));
        }
        let name = known.as_ref().and_then(|known| known.name.clone()).unwrap_or(name);
        let (base, found) = match &known {
            Some(known) => rules::stored(&database, known.store_id, &store_source(&name)).await?,
            None => (None, Vec::new()),
        };
        // Like an operator that was away.
        let watched = match known.as_ref().and_then(|known| known.watched_since) {
            Some(since) => since,
            None => ledger::now(&database).await?,
        };
        let ledger =
            known.as_ref().map(|known| Ledger::Tables { store_id: known.store_id, outbox: known.outbox });
        Ok(Self {
            database,
            mapping: validated.mapping,
            unchosen: refused.clone().filter(identity::is_for_a_person),
            unwritable: validated.unwritable.or(refused.map(Problem::Records)),
            warning,
            guess,
            ledger: ledger.unwrap_or_else(|| Ledger::Missing(NO_RECORDS.to_owned())),
            managed: base.is_some(),
            compiled: RuleSet {
                base: base.unwrap_or_else(|| StoreDefaults::of(&name, &spec)),
                rules: found,
                conflicts: BTreeMap::new(),
            },
            rules: known.as_ref().map_or(Rules::Memory, |known| Rules::Table(known.store_id)),
            undecided,
            watched,
            spec,
        })
    }

    /// Makes sure that changes can be recorded. Returns where, or why not.
    pub(super) async fn register(&mut self) -> Result<&Ledger, CliError> {
        if let Some(refusal) = &self.unchosen {
            return Err(Problem::Records(refusal.clone()).into());
        }
        self.ledger = ledger::register(&self.database, &self.mapping).await?;
        Ok(&self.ledger)
    }

    /// Checks that rows can be changed and that the mapping is no guess.
    pub(super) fn check_writable(&self) -> Result<(), CliError> {
        match (&self.guess, &self.unwritable) {
            (Some(why), _) => Err(CliError::NotDone(why.clone())),
            (None, Some(problem)) => Err(problem.clone().into()),
            (None, None) => Ok(()),
        }
    }

    /// Checks that rows can be changed, and warns if changes will not be recorded.
    pub(super) async fn prepare_to_write(&mut self) -> Result<(), CliError> {
        self.check_writable()?;
        self.print_warning();
        if let Ledger::Missing(why) = self.register().await? {
            super::output::eprint(&format!(
                "jobexec: this is not recorded, because {}",
                super::output::escape_control(why)
            ));
        }
        Ok(())
    }

    /// Checks that the mapping is no guess.
    pub(super) fn check_certain(&self) -> Result<(), CliError> {
        self.guess.as_ref().map_or(Ok(()), |why| Err(CliError::NotDone(why.clone())))
    }

    /// Prints the warning about the mapping, if there is one.
    pub(super) fn print_warning(&self) {
        if let Some(warning) = &self.warning {
            super::output::eprint(&format!("jobexec: {}", super::output::escape_control(warning)));
        }
    }

    /// Returns an id in the form that Postgres prints.
    pub(super) fn id(&self, id: &str) -> Result<String, CliError> {
        let type_ = self.mapping.id_type();
        let invalid = || CliError::InvalidId { id: id.to_owned(), what: "", type_: type_.sql() };
        type_.canonical(id).ok_or_else(invalid)
    }

    /// Returns ids in the form that Postgres prints, without duplicates.
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

    /// Returns a job's id in the form that Postgres prints.
    pub(super) fn job_id(&self, id: &str) -> Result<String, CliError> {
        let type_ = self.mapping.job_id_type().unwrap_or(IdType::Text);
        let invalid = || CliError::InvalidId { id: id.to_owned(), what: "job ", type_: type_.sql() };
        type_.canonical(id).ok_or_else(invalid)
    }

    /// How many long-running executions are not yet a warning.
    fn threshold(&self) -> i64 {
        self.spec.long_running.threshold.into()
    }

    /// How often an operator polls the table.
    fn poll_interval(&self) -> chrono::TimeDelta {
        self.spec.poll_interval.to_chrono()
    }

    /// Returns the staleness predicate.
    pub(super) fn predicate(&self) -> StalenessPredicate<'_> {
        StalenessPredicate {
            single_active_execution: self
                .spec
                .single_active_execution
                .as_ref()
                .map(|s| s.grace_period.to_chrono()),
            workloads: self.spec.workloads.as_ref().map(|w| w.grace_period.to_chrono()),
            undecided: &self.undecided,
            // The operator knows how many may be retried: it starts the retries of what is ended here.
            retries: RetryLimits { possible: false, ..RetryLimits::NONE },
            ..StalenessPredicate::new(&self.mapping, &self.compiled, self.rules, self.watched)
        }
    }

    /// Returns the rules that an operator applies, if one does.
    pub(super) fn effective_rules(&self) -> Option<&RuleSet> {
        self.managed.then_some(&self.compiled)
    }

    /// Closes the connections cleanly.
    pub(super) async fn close(self) {
        self.database.close().await;
    }
}

const NO_RECORDS: &str = "the schema jobexec has no records of this table: no operator has managed it, and no clean-up was run from the command line";

/// Returns the tables of the only store whose mapping is recorded in the database, or `None`.
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
        let several = "several stores are recorded in this database: describe one of them with -f";
        return Err(CliError::Usage(several.to_owned()));
    }
    Ok(Some(Layout::of(&choose(&known, None, None)?.spec)))
}

/// Selects the table and its mapping. Records in tables of an untrusted owner are ignored.
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
