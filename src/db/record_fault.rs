//! The reasons why one of the operator's own tables rejects a record, and the remedy.

use std::fmt;

use sqlx::postgres::PgDatabaseError;

use super::server_text::line;

/// The tables that number their rows: the constraint that a repeated number violates, the table and its column.
pub(super) const NUMBERED: [(&str, &str, &str); 3] = [
    ("events_pkey", "events", "event_id"),
    ("outbox_pkey", "outbox", "outbox_id"),
    ("stores_pkey", "stores", "store_id"),
];

/// A number that no sequence reaches by itself. A login that may insert records can choose the numbers of its own store's records,
/// and that must not use up the numbers of all others.
pub(super) const FURTHEST: i64 = 1_000_000_000_000_000_000;

/// The reason why one of the operator's own tables rejects records at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The table's name, without its schema.
    table: String,
    /// The column whose sequence is behind the existing numbers, if that is the fault.
    column: Option<&'static str>,
    /// The error text of the server.
    said: String,
}

impl Fault {
    /// Returns the fault for an error of the server if it names one of the operator's own tables.
    pub(super) fn of(error: &PgDatabaseError) -> Option<Self> {
        if error.schema() != Some("jobexec") {
            return None;
        }
        let said = format!("{} (SQLSTATE {})", line(error.message()), error.code());
        let again = NUMBERED
            .into_iter()
            .find(|(constraint, ..)| error.code() == "23505" && error.constraint() == Some(constraint));
        Some(match again {
            Some((_, table, column)) => Self { table: table.to_owned(), column: Some(column), said },
            None => Self { table: error.table().unwrap_or("?").to_owned(), column: None, said },
        })
    }

    /// Returns the fault that `table` assigns numbers that already exist.
    pub(super) fn behind(table: &str, said: &str) -> Self {
        let column = NUMBERED.into_iter().find(|(_, name, _)| *name == table).map(|(.., column)| column);
        Self { table: table.to_owned(), column, said: said.to_owned() }
    }

    /// Returns the fault that `table` rejects records, for this reason.
    pub(super) fn refused(table: &str, said: String) -> Self {
        Self { table: table.to_owned(), column: None, said }
    }

    /// Reports whether it is a fault of this table.
    pub(super) fn is_of(&self, table: &str) -> bool {
        self.table == table
    }

    /// Reports whether a sequence is behind, which setting the sequence fixes.
    pub(super) const fn is_sequence_behind(&self) -> bool {
        self.column.is_some()
    }

    /// Returns the reason for a condition, one word.
    pub const fn reason(&self) -> &'static str {
        if self.is_sequence_behind() { SEQUENCE_BEHIND } else { RECORD_REFUSED }
    }

    /// Returns the same fault, with the text of the server changed by `edit`.
    #[must_use]
    pub fn edited(self, edit: impl FnOnce(String) -> String) -> Self {
        Self { said: edit(self.said), ..self }
    }
}

/// The reasons of `AuditAvailable` for faults of existing tables.
const SEQUENCE_BEHIND: &str = "SequenceBehind";
const RECORD_REFUSED: &str = "RecordRefused";

/// Reports whether `reason` is a fault: the tables exist and can be read.
pub fn is_fault(reason: &str) -> bool {
    [SEQUENCE_BEHIND, RECORD_REFUSED].contains(&reason)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, column, said } = self;
        match column {
            Some(column) => write!(
                f,
                "jobexec.{table} gives out numbers that are there already, as after a move by logical replication, which \
                 leaves sequences behind: {said}. As the owner of the schema run `SELECT \
                 setval(pg_get_serial_sequence('jobexec.{table}', '{column}'), (SELECT max({column}) FROM jobexec.{table} WHERE {column} < {FURTHEST}))`"
            ),
            None => write!(
                f,
                "jobexec.{table} takes no record: {said}. Undo what was changed on it; `jobexec schema --apply --role` with \
                 this login's name restores what is missing"
            ),
        }
    }
}
