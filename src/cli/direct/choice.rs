//! Which table is meant, and how its rows are read: as the operator does that manages it. What is only a guess may be read by
//! and not written by: a row that a policy protects, or that is none of the table's executions, would be ended.

use std::str::FromStr;

use super::super::CliError;
use super::unconfigured;
use crate::api::{ExecutionStore, ExecutionStoreSpec, Table};
use crate::db::stores::{Stored, differences};

/// How many choices, or differences, are named at most.
const NAMED: usize = 10;

/// A table by its schema and name, as Postgres has them.
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
    fn of(table: &Table) -> Self {
        Self { schema: table.schema.0.clone(), name: table.name.0.clone() }
    }

    fn is(&self, stored: &Stored) -> bool {
        self.schema == stored.schema && self.name == stored.table
    }
}

/// How a table is read.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) spec: ExecutionStoreSpec,
    /// The name of the store, where no claim says it.
    pub(super) name: String,
    /// What whoever reads should know.
    pub(super) caution: Option<String>,
    /// Why no row may be changed, where it is only guessed how they are to be read.
    pub(super) guess: Option<String>,
    /// Whether nobody but the database says how.
    pub(super) recorded: bool,
}

impl Choice {
    fn sure(spec: ExecutionStoreSpec, name: String) -> Self {
        Self { spec, name, caution: None, guess: None, recorded: false }
    }
}

/// Chooses among the tables that are known here by what was given on the command line.
pub(super) fn choose(
    known: &[Stored],
    table: Option<&TableName>,
    file: Option<ExecutionStore>,
) -> Result<Choice, CliError> {
    let described = file.as_ref().map(|file| TableName::of(&file.spec.table));
    if let (Some(table), Some(described)) = (table, &described)
        && table != described
    {
        return Err(CliError::Usage(format!(
            "--table says {}, and the file describes {}: leave one of them out",
            shown(table),
            shown(described)
        )));
    }
    let Some(wanted) = described.as_ref().or(table) else {
        return match known {
            [] => Ok(guessed()),
            [one] => of_known(one, None),
            several => Err(CliError::Usage(format!(
                "there are several stores in this database, so name one: {}",
                choices(several)
            ))),
        };
    };
    match (known.iter().find(|stored| wanted.is(stored)), file) {
        (Some(stored), file) => of_known(stored, file),
        (None, Some(file)) => Ok(of_file(file)),
        (None, None) => Ok(by_default(wanted)),
    }
}

/// A table that a store claims, or has been read by one.
fn of_known(stored: &Stored, file: Option<ExecutionStore>) -> Result<Choice, CliError> {
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
            let differing = named(differing.iter().map(name), "; ");
            if released {
                let caution = format!(
                    "nobody manages this table any more; {store}, which did, went by another mapping: {differing}"
                );
                return Ok(Choice { caution: Some(caution), ..of_file(file) });
            }
            Err(CliError::NotDone(format!(
                "the file contradicts the ExecutionStore {store}, which manages this table: {differing}. Leave -f out to judge \
                 as it does; {}",
                forget(stored)
            )))
        }
        (Some(Err(unreadable)), file) => match file.filter(|_| released) {
            Some(file) => Ok(of_file(file)),
            None => Err(CliError::NotDone(format!(
                "it is recorded how the ExecutionStore of {} reads its rows, but {unreadable}. Use the jobexec of that version, \
                 or --store NAMESPACE/NAME, which has the operator do it; {}",
                shown(&TableName { schema: stored.schema.clone(), name: stored.table.clone() }),
                forget(stored)
            ))),
        },
        (None, Some(file)) => Ok(of_file(file)),
        (None, None) => Ok(unrecorded(stored, &store)),
    }
}

/// What to do where the store is gone for good.
fn forget(stored: &Stored) -> String {
    format!(
        "if that store is gone for good, have a superuser run UPDATE jobexec.stores SET mapping = NULL, uid = NULL WHERE store_id = {}",
        stored.store_id
    )
}

fn of_file(file: ExecutionStore) -> Choice {
    let name = file.metadata.name.unwrap_or_default();
    Choice::sure(file.spec, name)
}

/// Nothing is known and nothing was named.
fn guessed() -> Choice {
    let store = unconfigured();
    let table = TableName::of(&store.spec.table);
    let guess = format!(
        "no operator has recorded in this database which table there is and how its rows are read, and nothing is changed by a \
         guess: name it with --table, for example --table {}, or describe it with -f",
        shown(&table)
    );
    let caution = format!(
        "no operator has recorded in this database how the rows are read (or this login may not see it): {} with the default \
         columns and statuses is a guess; name another one with --table or -f",
        shown(&table)
    );
    Choice { caution: Some(caution), guess: Some(guess), ..of_file(store) }
}

/// The table was named, and nothing is known of it.
fn by_default(table: &TableName) -> Choice {
    let mut store = unconfigured();
    store.spec.table.schema = table.schema.as_str().into();
    store.spec.table.name = table.name.as_str().into();
    let caution = format!(
        "no operator has recorded how the rows of {} are read (or this login may not see it): the default columns and statuses \
         count, and nobody's policies; describe it with -f if it has others",
        shown(table)
    );
    Choice { caution: Some(caution), ..of_file(store) }
}

/// A store claims it, and has not said how it reads it: an older operator's, or one that has not got so far yet.
fn unrecorded(stored: &Stored, store: &str) -> Choice {
    let table = TableName { schema: stored.schema.clone(), name: stored.table.clone() };
    let name = store.rsplit('/').next().unwrap_or(store);
    let unknown = format!(
        "the ExecutionStore {store} manages {}, and its operator has not recorded how it reads the rows, such as the zone of \
         times without one",
        shown(&table)
    );
    let remedy =
        format!("give it with -f, for example as `kubectl get executionstore {name} -o yaml` prints it");
    Choice {
        caution: Some(format!(
            "{unknown}: they are read by the default mapping, with times as UTC; {remedy}"
        )),
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
    named(known.iter().map(choice), ", ")
}

/// The first of them, and how many more there are.
fn named(all: impl ExactSizeIterator<Item = String>, between: &str) -> String {
    let more = all.len().saturating_sub(NAMED);
    let first = all.take(NAMED).collect::<Vec<_>>().join(between);
    if more > 0 { format!("{first}{between}and {more} more") } else { first }
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

    /// A table that `prod/jobs` manages with this mapping.
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
    fn the_one_store_that_is_known_is_used_whatever_its_table() {
        let choice = choose(&[stored("runs", Some(mapped()))], None, None).unwrap();
        assert_eq!(choice.spec.table.name.0, "runs");
        assert!(
            choice.spec.table.columns.job_type.is_some()
                && choice.guess.is_none()
                && choice.caution.is_none()
        );
    }

    #[test]
    fn of_several_one_is_to_be_named() {
        let known = [stored("runs", Some(mapped())), stored("jobs", None)];
        let refused = choose(&known, None, None).unwrap_err().to_string();
        assert!(
            refused.contains("--table app.runs (ExecutionStore prod/jobs), --table app.jobs"),
            "{refused}"
        );
        assert!(choose(&known, Some(&name("runs")), None).unwrap().spec.table.columns.job_type.is_some());
    }

    #[test]
    fn what_is_guessed_is_read_and_not_written() {
        let guess = choose(&[], None, None).unwrap();
        assert!(guess.guess.unwrap().contains("--table public.job_executions") && guess.caution.is_some());
        let named = choose(&[], Some(&name("runs")), None).unwrap();
        assert_eq!((named.spec.table.schema.0.as_str(), named.guess), ("app", None));
        assert!(named.caution.is_some());
        let described = choose(&[], None, Some(file(mapped()))).unwrap();
        assert_eq!((described.guess, described.caution), (None, None));
        // A claim without a mapping says that there is one.
        for table in [None, Some(name("runs"))] {
            let claimed = choose(&[stored("runs", None)], table.as_ref(), None).unwrap();
            assert!(claimed.guess.unwrap().contains("give it with -f"));
        }
        assert_eq!(choose(&[stored("runs", None)], None, Some(file(mapped()))).unwrap().guess, None);
    }

    #[test]
    fn what_contradicts_the_operator_is_refused() {
        let known = [stored("runs", Some(mapped()))];
        let other = file(json!({"table": {"schema": "app", "name": "runs"}}));
        let refused = choose(&known, None, Some(other.clone())).unwrap_err().to_string();
        assert!(
            refused.contains("spec.table.columns.jobType is null in the file and \"kind\" there"),
            "{refused}"
        );
        // Of a store that has let go of it only a word is said.
        let released = [Stored { claimed_by: None, ..stored("runs", Some(mapped())) }];
        let choice = choose(&released, None, Some(other)).unwrap();
        assert!(choice.guess.is_none() && choice.caution.unwrap().contains("prod/jobs"));
        let both = choose(&known, Some(&name("jobs")), Some(file(mapped()))).unwrap_err();
        assert!(matches!(both, CliError::Usage(_)));
    }

    #[test]
    fn a_mapping_that_cannot_be_read_is_no_reason_to_guess() {
        let unreadable = Unreadable { operator: "9.0.0".into(), why: "it does not know table.rowsOf".into() };
        let known = [Stored { mapping: Some(Err(unreadable)), ..stored("runs", None) }];
        for (table, file) in [(None, None), (Some(name("runs")), None), (None, Some(file(mapped())))] {
            let refused = choose(&known, table.as_ref(), file).unwrap_err().to_string();
            assert!(refused.contains("operator 9.0.0") && refused.contains("table.rowsOf"), "{refused}");
        }
    }

    #[test]
    fn a_table_is_named_with_its_schema() {
        assert_eq!("app.runs".parse(), Ok(name("runs")));
        for wrong in ["runs", ".runs", "app.", "a.b.c", ""] {
            assert!(wrong.parse::<TableName>().is_err(), "{wrong}");
        }
    }
}
