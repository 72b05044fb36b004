//! Selects the table and the mapping of its rows, as the operator that manages it does. A guess may be used to read, but not
//! to write: it would end executions that a policy protects, or rows that are not executions of the store.

use std::str::FromStr;

use super::super::CliError;
use crate::api::{ExecutionStore, ExecutionStoreSpec};
use crate::db::Layout;
use crate::db::stores::{Stored, differences};

/// How many stores, or differences, an error lists at most.
const NAMED: usize = 10;

/// The schema and name of a table, as in Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct TableName {
    pub(super) schema: String,
    pub(super) name: String,
}

impl FromStr for TableName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('.') {
            Some((schema, name)) if !schema.is_empty() && !name.is_empty() && !name.contains('.') => {
                Ok(Self { schema: schema.to_owned(), name: name.to_owned() })
            }
            _ => Err("write SCHEMA.NAME, for example public.job_executions".to_owned()),
        }
    }
}

impl TableName {
    fn of(spec: &ExecutionStoreSpec) -> Self {
        let table = Layout::of(spec).table;
        Self { schema: table.schema.0, name: table.name.0 }
    }

    fn is(&self, stored: &Stored) -> bool {
        self.schema == stored.schema && self.name == stored.table
    }
}

/// The selected table and its mapping.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) spec: ExecutionStoreSpec,
    /// The name of the store, if no claim names it.
    pub(super) name: String,
    /// A warning about the mapping.
    pub(super) warning: Option<String>,
    /// Why rows must not be changed, if the mapping is only a guess.
    pub(super) guess: Option<String>,
    /// Whether the mapping comes from the database only.
    pub(super) recorded: bool,
}

impl Choice {
    fn sure(spec: ExecutionStoreSpec, name: String) -> Self {
        Self { spec, name, warning: None, guess: None, recorded: false }
    }
}

/// Selects a table from the recorded stores and the options of the command line.
pub(super) fn choose(
    known: &[Stored],
    table: Option<&TableName>,
    file: Option<ExecutionStore>,
) -> Result<Choice, CliError> {
    let described = file.as_ref().map(|file| TableName::of(&file.spec));
    if let (Some(table), Some(described)) = (table, &described)
        && table != described
    {
        return Err(CliError::Usage(format!(
            "--table names {}, but the file describes {}: give only one of them",
            shown(table),
            shown(described)
        )));
    }
    let Some(named) = described.as_ref().or(table) else {
        return match known {
            [] => Ok(guessed()),
            [one] => from_recorded(one, None),
            several => Err(CliError::Usage(format!(
                "there are several stores in this database, name one of them: {}",
                choices(several)
            ))),
        };
    };
    match (known.iter().find(|stored| named.is(stored)), file) {
        (Some(stored), file) => from_recorded(stored, file),
        (None, Some(file)) => Ok(from_file(file)),
        (None, None) => Ok(by_default(named)),
    }
}

/// Selects a recorded table, with or without a claim.
fn from_recorded(stored: &Stored, file: Option<ExecutionStore>) -> Result<Choice, CliError> {
    let released = stored.claimed_by.is_none();
    let store = stored.store().unwrap_or_else(|| "an operator".to_owned());
    match (&stored.mapping, file) {
        (Some(Ok(effective)), None) => {
            Ok(Choice { recorded: true, ..Choice::sure(effective.spec.clone(), effective.name.clone()) })
        }
        (Some(Ok(effective)), Some(file)) => {
            let differing = differences(&file.spec, &effective.spec);
            if differing.is_empty() {
                return Ok(Choice::sure(effective.spec.clone(), effective.name.clone()));
            }
            let name = |(place, file, recorded): &(String, _, _)| {
                format!("spec.{place} is {file} in the file and {recorded} there")
            };
            let differing = join_first(differing.iter().map(name), "; ");
            if released {
                let warning = format!(
                    "no store manages this table any more; {store}, which did, used another mapping: {differing}"
                );
                return Ok(Choice { warning: Some(warning), ..from_file(file) });
            }
            Err(CliError::NotDone(format!(
                "the file contradicts the ExecutionStore {store}, which manages this table: {differing}. Omit -f to use its \
                 mapping; {}",
                forget(stored)
            )))
        }
        (Some(Err(unreadable)), file) => match file.filter(|_| released) {
            Some(file) => Ok(from_file(file)),
            None => Err(CliError::NotDone(format!(
                "the recorded mapping of the table {} cannot be used: {unreadable}. Use the jobexec of that version, \
                 or --store NAMESPACE/NAME to let the operator do it; {}",
                shown(&TableName { schema: stored.schema.clone(), name: stored.table.clone() }),
                forget(stored)
            ))),
        },
        (None, Some(file)) => Ok(from_file(file)),
        (None, None) => Ok(unrecorded(stored, &store)),
    }
}

/// Explains what to do if the store is gone for good.
fn forget(stored: &Stored) -> String {
    format!(
        "if that store is gone for good, run as a superuser: UPDATE jobexec.stores SET mapping = NULL, uid = NULL WHERE store_id = {}",
        stored.store_id
    )
}

fn from_file(file: ExecutionStore) -> Choice {
    let name = file.metadata.name.unwrap_or_default();
    Choice::sure(file.spec, name)
}

/// Guesses the default table: nothing is recorded and no table was given.
fn guessed() -> Choice {
    let store = unconfigured();
    let table = TableName::of(&store.spec);
    let guess = format!(
        "no operator has recorded in this database which table to use and how to map its rows, and a guess must not change any: \
         name the table with --table, for example --table {}, or describe it with -f",
        shown(&table)
    );
    let warning = format!(
        "no operator has recorded in this database how to map rows (or this login cannot read it): {} with the default \
         columns and statuses is a guess; name another table with --table or -f",
        shown(&table)
    );
    Choice { warning: Some(warning), guess: Some(guess), ..from_file(store) }
}

/// Selects a table by name with the default mapping: nothing is recorded about it.
fn by_default(table: &TableName) -> Choice {
    let mut store = unconfigured();
    store.spec.table.schema = table.schema.as_str().into();
    store.spec.table.name = table.name.as_str().into();
    let warning = format!(
        "no operator has recorded how to map the rows of {} (or this login cannot read it): the default columns and statuses \
         apply, without policies; describe the table with -f if it differs",
        shown(table)
    );
    Choice { warning: Some(warning), ..from_file(store) }
}

/// Selects a claimed table without a recorded mapping: its operator is older, or has not recorded it yet.
fn unrecorded(stored: &Stored, store: &str) -> Choice {
    let table = TableName { schema: stored.schema.clone(), name: stored.table.clone() };
    let name = store.rsplit('/').next().unwrap_or(store);
    let unknown = format!(
        "the ExecutionStore {store} manages {}, but its operator has not recorded how to map rows, such as the time zone of \
         timestamps without one",
        shown(&table)
    );
    let remedy = format!("give it with -f, for example from `kubectl get executionstore {name} -o yaml`");
    Choice {
        warning: Some(format!("{unknown}: the default mapping applies, with times in UTC; {remedy}")),
        guess: Some(format!("{unknown}: {remedy}")),
        name: name.to_owned(),
        ..by_default(&table)
    }
}

fn shown(table: &TableName) -> String {
    format!("{}.{}", table.schema, table.name)
}

fn choices(known: &[Stored]) -> String {
    let choice = |stored: &Stored| {
        let store = stored.store().map_or(String::new(), |store| format!(" (ExecutionStore {store})"));
        format!("--table {}.{}{store}", stored.schema, stored.table)
    };
    join_first(known.iter().map(choice), ", ")
}

/// Joins the first texts, and adds how many more there are.
fn join_first(all: impl ExactSizeIterator<Item = String>, between: &str) -> String {
    let more = all.len().saturating_sub(NAMED);
    let first = all.take(NAMED).collect::<Vec<_>>().join(between);
    if more > 0 { format!("{first}{between}and {more} more") } else { first }
}

/// Returns a store with the default table and settings.
pub(in crate::cli) fn unconfigured() -> ExecutionStore {
    let spec = serde_json::from_value(serde_json::json!({"connection": {"secretRef": {"name": "-"}}}));
    ExecutionStore::new("default", spec.unwrap_or_else(|_| unreachable!("every default is valid")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::db::stores::{Unreadable, read, record};

    #[allow(clippy::needless_pass_by_value, reason = "it keeps the calls readable")]
    fn file(spec: Value) -> ExecutionStore {
        let mut whole = json!({"connection": {"secretRef": {"name": "db"}}});
        for (name, value) in spec.as_object().unwrap() {
            whole[name] = value.clone();
        }
        let mut store = ExecutionStore::new("jobs", serde_json::from_value(whole).unwrap());
        store.metadata.namespace = Some("prod".to_owned());
        store
    }

    /// Returns a table that `prod/jobs` manages with this mapping.
    fn stored(table: &str, spec: Option<Value>) -> Stored {
        let mapping = spec.map(|spec| read(&record(&file(spec)).to_string(), "app", table));
        Stored {
            store_id: 7,
            schema: "app".into(),
            table: table.into(),
            claimed_by: Some("prod/jobs".into()),
            mapping,
        }
    }

    fn name(table: &str) -> TableName {
        TableName { schema: "app".into(), name: table.into() }
    }

    fn mapped() -> Value {
        json!({"table": {"schema": "app", "name": "runs", "columns": {"jobType": "kind"}}})
    }

    #[test]
    fn only_recorded_store_is_used_whatever_its_table() {
        let choice = choose(&[stored("runs", Some(mapped()))], None, None).unwrap();
        assert_eq!(choice.spec.table.name.0, "runs");
        assert!(
            choice.spec.table.columns.job_type.is_some()
                && choice.guess.is_none()
                && choice.warning.is_none()
        );
    }

    #[test]
    fn several_stores_require_a_choice() {
        let known = [stored("runs", Some(mapped())), stored("jobs", None)];
        let refused = choose(&known, None, None).unwrap_err().to_string();
        assert!(
            refused.contains("--table app.runs (ExecutionStore prod/jobs), --table app.jobs"),
            "{refused}"
        );
        assert!(choose(&known, Some(&name("runs")), None).unwrap().spec.table.columns.job_type.is_some());
    }

    #[test]
    fn guessed_mapping_is_read_but_not_written() {
        let guess = choose(&[], None, None).unwrap();
        assert!(guess.guess.unwrap().contains("--table public.job_executions") && guess.warning.is_some());
        let named = choose(&[], Some(&name("runs")), None).unwrap();
        assert_eq!((named.spec.table.schema.0.as_str(), named.guess), ("app", None));
        assert!(named.warning.is_some());
        let described = choose(&[], None, Some(file(mapped()))).unwrap();
        assert_eq!((described.guess, described.warning), (None, None));
        // A claim without a mapping shows that there is one.
        for table in [None, Some(name("runs"))] {
            let claimed = choose(&[stored("runs", None)], table.as_ref(), None).unwrap();
            assert!(claimed.guess.unwrap().contains("give it with -f"));
        }
        assert_eq!(choose(&[stored("runs", None)], None, Some(file(mapped()))).unwrap().guess, None);
    }

    #[test]
    fn file_that_contradicts_the_operator_is_rejected() {
        let known = [stored("runs", Some(mapped()))];
        let other = file(json!({"table": {"schema": "app", "name": "runs"}}));
        let refused = choose(&known, None, Some(other.clone())).unwrap_err().to_string();
        assert!(
            refused.contains("spec.table.columns.jobType is null in the file and \"kind\" there"),
            "{refused}"
        );
        // For a released store, the difference is only a warning.
        let released = [Stored { claimed_by: None, ..stored("runs", Some(mapped())) }];
        let choice = choose(&released, None, Some(other)).unwrap();
        assert!(choice.guess.is_none() && choice.warning.unwrap().contains("prod/jobs"));
        let both = choose(&known, Some(&name("jobs")), Some(file(mapped()))).unwrap_err();
        assert!(matches!(both, CliError::Usage(_)));
    }

    #[test]
    fn unreadable_mapping_is_an_error_and_not_guessed() {
        let unreadable = Unreadable { operator: "9.0.0".into(), why: "it does not know table.rowsOf".into() };
        let known = [Stored { mapping: Some(Err(unreadable)), ..stored("runs", None) }];
        for (table, file) in [(None, None), (Some(name("runs")), None), (None, Some(file(mapped())))] {
            let refused = choose(&known, table.as_ref(), file).unwrap_err().to_string();
            assert!(refused.contains("operator 9.0.0") && refused.contains("table.rowsOf"), "{refused}");
        }
    }

    #[test]
    fn table_name_requires_a_schema() {
        assert_eq!("app.runs".parse(), Ok(name("runs")));
        for wrong in ["runs", ".runs", "app.", "a.b.c", ""] {
            assert!(wrong.parse::<TableName>().is_err(), "{wrong}");
        }
    }
}
