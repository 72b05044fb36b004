//! The problems that a table can have.

use crate::db::schema::Refusal;
use crate::db::visibility;

/// A problem with a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The table does not exist.
    #[error("there is no table {0}: create it, or correct {1}")]
    NoTable(String, &'static str),
    /// The table is a materialized view, a foreign table or something else whose rows cannot be locked.
    #[error("{0} is neither a table, ordinary or partitioned, nor a view: name one in {1}")]
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
    /// Two fields of the spec name the same column, and the operator writes it.
    #[error(
        "{first} and {second} name the same column {column}, which the operator writes: name another one in {first}"
    )]
    ColumnTwice {
        /// The field that is written.
        first: &'static str,
        /// The other field.
        second: &'static str,
        /// The column.
        column: String,
    },
    /// The view can only be read.
    #[error(
        "executions of the view {0} cannot be ended: Postgres cannot update it by itself, and it has no enabled INSTEAD OF UPDATE trigger. As its owner create one"
    )]
    NotUpdatable(String),
    /// The statement that ends executions is refused.
    #[error(
        "executions of {table} cannot be ended: {why}. Its rows must be locked by FOR NO KEY UPDATE, which excludes outer joins, DISTINCT and aggregates in a view, and updated with RETURNING"
    )]
    NotLockable {
        /// The table.
        table: String,
        /// The error of Postgres.
        why: String,
    },
    /// Executions have no number that says which one is later.
    #[error(
        "spec.singleActiveExecution tells a later execution by its number: set spec.table.columns.executionNumber"
    )]
    NoNumber,
    /// Two rows could have the same id.
    #[error(
        "nothing ensures that the ids of {table} are unique: {column} needs a primary key or a unique index of its own. Correct spec.table.columns.id, or set spec.table.idUnique if you know that they are, as of a view"
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
    /// A status text is not a value of the column's type.
    #[error("{text:?} is not how Postgres prints a status of type {type_}: correct {field}")]
    NoStatus {
        /// The text.
        text: String,
        /// The type.
        type_: String,
        /// The field with the text.
        field: &'static str,
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
    /// A timeout and a deadline of rows are both set. The API server refuses this, a file for the command line does not pass it.
    #[error(
        "executions have a timeout of their own (spec.table.columns.timeout) or a deadline (spec.table.columns.deadlineAt): set one of them"
    )]
    TwoTimeouts,
    /// No execution can be retried.
    #[error("executions are failed, and their retries wait: {0}")]
    Unretryable(String),
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
    /// No adapter has the name.
    #[error("there is no adapter {name:?}: spec.adapter is one of {known}")]
    AdapterUnknown {
        /// The name.
        name: String,
        /// All names.
        known: String,
    },
    /// The job system's tables are not those for which the adapter was made.
    #[error(
        "the adapter {adapter} is made for other tables than these: {what}. Use the version of jobexec that supports this version of the job system, or correct spec.adapterSchema"
    )]
    AdapterUnsupported {
        /// The adapter.
        adapter: String,
        /// The first difference.
        what: String,
    },
    /// The adapter is not installed as it should be.
    #[error(
        "the adapter {adapter} is not installed as this version needs it: {what}. As the owner of the tables run {fix}"
    )]
    AdapterNotInstalled {
        /// The adapter.
        adapter: String,
        /// The first difference.
        what: String,
        /// The command that mends it.
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
            Self::ColumnTwice { .. } => "ColumnNamedTwice",
            Self::NotUpdatable(_) => "ViewNotUpdatable",
            Self::NotLockable { .. } => "RowsNotLockable",
            Self::NoNumber => "ExecutionNumberMissing",
            Self::IdNotUnique { .. } => "IdNotUnique",
            Self::StatusTooLong { .. } => "StatusTooLong",
            Self::NoLabel { .. } => "StatusNotInEnum",
            Self::NoStatus { .. } => "StatusNotInType",
            Self::Filter { .. } => "FilterInvalid",
            Self::TwoHeartbeats => "TwoHeartbeats",
            Self::TwoTimeouts => "TwoTimeouts",
            Self::Unretryable(_) => "RetryNotPossible",
            Self::NoTimeZone(_) => "TimeZoneUnknown",
            Self::Privilege { .. } => "InsufficientPrivilege",
            Self::RowSecurity { .. } => visibility::REASON,
            Self::AdapterUnknown { .. } => "AdapterUnknown",
            Self::AdapterUnsupported { .. } => "AdapterUnsupported",
            Self::AdapterNotInstalled { .. } => "AdapterNotInstalled",
            Self::Records(refusal) => refusal.reason,
        }
    }
}
