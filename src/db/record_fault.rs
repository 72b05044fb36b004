//! Why one of the operator's own tables takes no record, and what to do about it.

use std::fmt;

use sqlx::postgres::PgDatabaseError;

use super::server_text::line;

/// The tables that number their rows: the constraint that a number given twice violates, the table and its column.
pub(super) const NUMBERED: [(&str, &str, &str); 3] = [
    ("events_pkey", "events", "event_id"),
    ("outbox_pkey", "outbox", "outbox_id"),
    ("stores_pkey", "stores", "store_id"),
];

/// No sequence comes as far by itself. Whoever may insert records may choose a number of its own store's, and that must not use up
/// the numbers of all others.
pub(super) const FURTHEST: i64 = 1_000_000_000_000_000_000;

/// Why one of the operator's own tables takes no record at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The table's name, without its schema.
    table: String,
    /// The column whose sequence is behind the numbers that are there, if that is the fault.
    column: Option<&'static str>,
    /// What the server said.
    said: String,
}

impl Fault {
    /// The fault that an error of the server is, if it names one of the operator's own tables.
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

    /// That `table` gives out numbers that are there already.
    pub(super) fn behind(table: &str, said: &str) -> Self {
        let column = NUMBERED.into_iter().find(|(_, name, _)| *name == table).map(|(.., column)| column);
        Self { table: table.to_owned(), column, said: said.to_owned() }
    }

    /// That `table` takes no record, for this reason.
    pub(super) fn refused(table: &str, said: String) -> Self {
        Self { table: table.to_owned(), column: None, said }
    }

    /// Whether it is a fault of this table.
    pub(super) fn is_of(&self, table: &str) -> bool {
        self.table == table
    }

    /// Whether it is a sequence that is behind, which setting it mends.
    pub(super) const fn is_sequence_behind(&self) -> bool {
        self.column.is_some()
    }

    /// One word for a condition's reason.
    pub const fn reason(&self) -> &'static str {
        if self.is_sequence_behind() { SEQUENCE_BEHIND } else { RECORD_REFUSED }
    }

    /// The same with the server's words changed by `edit`.
    #[must_use]
    pub fn edited(self, edit: impl FnOnce(String) -> String) -> Self {
        Self { said: edit(self.said), ..self }
    }
}

/// The reasons of `AuditAvailable` for faults of the tables that are there.
const SEQUENCE_BEHIND: &str = "SequenceBehind";
const RECORD_REFUSED: &str = "RecordRefused";

/// Whether `reason` is that of a fault: the tables are there and are read.
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
