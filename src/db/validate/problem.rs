//! What can be wrong with a table.

use crate::db::schema::Refusal;
use crate::db::visibility;

/// What is wrong with a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is not there.
    #[error("there is no table {0}: create it, or correct {1}")]
    NoTable(String, &'static str),
    /// It is a view, a foreign table or something else that cannot be locked row by row.
    #[error("{0} is not an ordinary or partitioned table: name the table itself in {1}")]
    NotATable(String, &'static str),
    /// What is recorded in the database names something else than a table for the jobs.
    #[error(
        "what is recorded in the database names {0} as the table of jobs, which is no table: a view runs what its owner wrote, as \
         you. If you know it, describe the store with -f"
    )]
    RecordedView(String),
    /// A column is not there.
    #[error("{table} has no column {column}: correct {field}, or add the column")]
    NoColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its field in the spec.
        field: String,
    },
    /// A column has a type that the operator cannot use.
    #[error("column {column} is of type {type_}, and {field} must be {expected}")]
    WrongType {
        /// The column.
        column: String,
        /// Its type.
        type_: String,
        /// Its field in the spec.
        field: String,
        /// What it may be.
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
    /// The text that the operator writes to the status does not fit.
    #[error(
        "column {column} holds {limit} characters, too few for {text:?}: widen it, or correct spec.table.statuses.failed"
    )]
    StatusTooLong {
        /// The column.
        column: String,
        /// Its width.
        limit: i32,
        /// The text.
        text: String,
    },
    /// A status text is no label of the column's enum.
    #[error("{text:?} is not a label of the enum {type_}: correct spec.table.statuses")]
    NoLabel {
        /// The text.
        text: String,
        /// The enum.
        type_: String,
    },
    /// A condition of the filter cannot be asked of its column.
    #[error(
        "spec.table.filter: the condition on column {column} cannot be used: {why}. Correct it, or its value"
    )]
    Filter {
        /// The column.
        column: String,
        /// What Postgres says.
        why: String,
    },
    /// Postgres does not know the time zone.
    #[error(
        "Postgres knows no time zone {0:?}: use a name such as UTC or Europe/Berlin in spec.table.timeZone"
    )]
    NoTimeZone(String),
    /// A right is missing.
    #[error("the login {role} may not {what} on {table}: as its owner run {fix}")]
    Privilege {
        /// The login.
        role: String,
        /// What it may not do.
        what: &'static str,
        /// The table.
        table: String,
        /// The statement that mends it.
        fix: String,
    },
    /// Row-level security may hide rows.
    #[error(
        "row-level security is on for {table}, and its policies do not prove that the login {role} {what}: {fix}"
    )]
    RowSecurity {
        /// The login.
        role: String,
        /// What it may be kept from.
        what: &'static str,
        /// The table.
        table: String,
        /// What mends it.
        fix: String,
    },
    /// What is recorded of the table is not used, and who ends executions without it may end one that has more time.
    #[error("what is recorded of this table cannot be used, so no execution is ended whose time may have been extended there: {}", .0.why)]
    Records(Refusal),
}

impl Problem {
    /// One word for a condition's reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoTable(..) => "TableNotFound",
            Self::NotATable(..) | Self::RecordedView(_) => "NotATable",
            Self::NoColumn { .. } => "ColumnNotFound",
            Self::WrongType { .. } => "ColumnTypeUnsupported",
            Self::IdNotUnique { .. } => "IdNotUnique",
            Self::StatusTooLong { .. } => "StatusTooLong",
            Self::NoLabel { .. } => "StatusNotInEnum",
            Self::Filter { .. } => "FilterInvalid",
            Self::NoTimeZone(_) => "TimeZoneUnknown",
            Self::Privilege { .. } => "InsufficientPrivilege",
            Self::RowSecurity { .. } => visibility::REASON,
            Self::Records(refusal) => refusal.reason,
        }
    }
}
