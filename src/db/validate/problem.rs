//! The problems that a table can have.

use crate::db::schema::Refusal;
use crate::db::visibility;

/// A problem with a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The table does not exist.
    #[error("there is no table {0}: create it, or correct {1}")]
    NoTable(String, &'static str),
    /// The table is a view, a foreign table or something else whose rows cannot be locked.
    #[error("{0} is not an ordinary or partitioned table: name the table itself in {1}")]
    NotATable(String, &'static str),
    /// The record in the database names a related relation that is not a table.
    #[error(
        "what is recorded in the database names {0} as the table of {1}, which is no table: a view runs what its owner wrote, as \
         you. If you know it, describe the store with -f"
    )]
    RecordedView(String, &'static str),
    /// The column does not exist.
    #[error("{table} has no column {column}: correct {field}, or add the column")]
    NoColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its field in the spec.
        field: String,
    },
    /// The type of a column is not supported.
    #[error("column {column} is of type {type_}, and {field} must be {expected}")]
    WrongType {
        /// The column.
        column: String,
        /// Its type.
        type_: String,
        /// Its field in the spec.
        field: String,
        /// The supported types.
        expected: &'static str,
    },
    /// Two rows could have the same id.
    #[error(
        "the ids of {table} are not unique: {column} needs a primary key or a unique index of its own, or correct spec.table.columns.id"
    )]
    IdNotUnique {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The status that the operator writes does not fit into the column.
    #[error(
        "column {column} holds {limit} characters, too few for {text:?}: widen it, or correct spec.table.statuses.failed"
    )]
    StatusTooLong {
        /// The column.
        column: String,
        /// Its width, in characters.
        limit: i32,
        /// The text.
        text: String,
    },
    /// A status text is not a label of the column's enum.
    #[error("{text:?} is not a label of the enum {type_}: correct spec.table.statuses")]
    NoLabel {
        /// The text.
        text: String,
        /// The enum.
        type_: String,
    },
    /// A condition of the filter does not work for its column.
    #[error(
        "spec.table.filter: the condition on column {column} cannot be used: {why}. Correct it, or its value"
    )]
    Filter {
        /// The column.
        column: String,
        /// The error of Postgres.
        why: String,
    },
    /// Both kinds of heartbeat are set. The API server refuses this, a file for the command line does not pass it.
    #[error(
        "executions have heartbeats of their own (spec.table.columns.heartbeatAt) or those of their workers (spec.heartbeat): set one of them"
    )]
    TwoHeartbeats,
    /// Postgres does not know the time zone.
    #[error(
        "Postgres knows no time zone {0:?}: use a name such as UTC or Europe/Berlin in spec.table.timeZone"
    )]
    NoTimeZone(String),
    /// A privilege is missing.
    #[error("the login {role} may not {what} on {table}: as its owner run {fix}")]
    Privilege {
        /// The login.
        role: String,
        /// The action that the login is not allowed.
        what: &'static str,
        /// The table.
        table: String,
        /// The statement that fixes it.
        fix: String,
    },
    /// Row-level security may hide rows.
    #[error(
        "row-level security is on for {table}, and its policies do not prove that the login {role} {what}: {fix}"
    )]
    RowSecurity {
        /// The login.
        role: String,
        /// The action that may be restricted.
        what: &'static str,
        /// The table.
        table: String,
        /// The remedy.
        fix: String,
    },
    /// The records of the table cannot be used. Ending executions without them could end one whose time was extended.
    #[error("what is recorded of this table cannot be used, so no execution is ended whose time may have been extended there: {}", .0.why)]
    Records(Refusal),
}

impl Problem {
    /// Returns the reason for a condition, one word.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoTable(..) => "TableNotFound",
            Self::NotATable(..) | Self::RecordedView(..) => "NotATable",
            Self::NoColumn { .. } => "ColumnNotFound",
            Self::WrongType { .. } => "ColumnTypeUnsupported",
            Self::IdNotUnique { .. } => "IdNotUnique",
            Self::StatusTooLong { .. } => "StatusTooLong",
            Self::NoLabel { .. } => "StatusNotInEnum",
            Self::Filter { .. } => "FilterInvalid",
            Self::TwoHeartbeats => "TwoHeartbeats",
            Self::NoTimeZone(_) => "TimeZoneUnknown",
            Self::Privilege { .. } => "InsufficientPrivilege",
            Self::RowSecurity { .. } => visibility::REASON,
            Self::Records(refusal) => refusal.reason,
        }
    }
}
