//! Errors of a database in the form that conditions show: a bounded reason, and a message with the remedy. No error text here
//! contains a password or a URL.

use std::io;

use sqlx::postgres::PgDatabaseError;

use super::record_fault;
use super::relay::Fault;
use super::server_text::line;
use super::timeouts::{ACQUIRE_TIMEOUT, TURN_TIMEOUT};
use crate::boundary::{self, Panicked};

/// A failed conversation with a database.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DbError {
    /// The server refused the login (SQLSTATE 28P01 or 28000).
    #[error("the server refused the login: {0}. Check the user and the password in the Secret")]
    Authentication(String),
    /// The server has no such database (SQLSTATE 3D000).
    #[error("{0}. Check the database name in the Secret's URL")]
    NoDatabase(String),
    /// The server has no connection slot or no memory left (class 53).
    #[error("the server is out of resources: {0}. Raise its limit or lower spec.connection.poolSize")]
    Exhausted(String),
    /// The server's disk is full (SQLSTATE 53100).
    #[error("the server's disk is full: {0}. Make room on it")]
    DiskFull(String),
    /// Nothing answers at the host and port of the URL, or the connection broke.
    #[error(
        "cannot reach the server: {0}. Check the host and port in the Secret's URL, and that the server is up"
    )]
    Unreachable(String),
    /// TLS could not be agreed on or the certificate was not trusted.
    #[error(
        "TLS failed: {0}. Check sslmode in the Secret's URL, and spec.connection.caSecretRef for verify-ca and verify-full"
    )]
    Tls(String),
    /// No connection came within the time allowed.
    #[error(
        "no connection to the server within {0:?}. Check the host and port in the Secret's URL, and that the server is up"
    )]
    ConnectTimeout(std::time::Duration),
    /// The operator is not allowed to connect to this address.
    #[error(
        "the operator does not connect there: {0}. Name another host in the Secret's URL, or have whoever runs the operator allow this one with egress.allow in the chart (--allow-addresses)"
    )]
    AddressRefused(String),
    /// The server asked for the password in a form that an impostor could use.
    #[error(
        "the server asks for the password {0}, and it is not known for sure who the server is, so nothing was sent. Give the role a SCRAM password (password_encryption = 'scram-sha-256', then set it again), or write sslmode=verify-full in the Secret's URL, with spec.connection.caSecretRef for an authority of your own"
    )]
    InsecureLogin(String),
    /// The server sent something that no Postgres sends.
    #[error(
        "what the server sent is not the Postgres protocol: {0}. Check that the host and port in the Secret's URL are those of a Postgres server or pooler"
    )]
    InvalidMessage(String),
    /// The server sent more than the operator accepts.
    #[error(
        "the server sent more than the operator takes: {0}. Check that the host and port in the Secret's URL are those of a Postgres server, and what triggers of the table do"
    )]
    TooMuch(String),
    /// Other stores used all connections of the pool for this long.
    #[error(
        "all connections to this database were in use for {0:?}, by this store or by others with the same connection URL. Raise spec.connection.poolSize of one of them"
    )]
    Busy(std::time::Duration),
    /// The server stopped answering in the middle of a conversation, for example behind a firewall that drops packets.
    #[error("the server did not answer within {0:?}. Check the network between the operator and the server")]
    NoAnswer(std::time::Duration),
    /// The database accepts no writes: it is a standby, or set to read only (SQLSTATE 25006).
    #[error("the database is read-only: {0}. Point the Secret's URL at the primary")]
    ReadOnly(String),
    /// A privilege is missing (SQLSTATE 42501).
    #[error("{0}. Grant what `jobexec schema --role` prints")]
    Privilege(String),
    /// A statement ran into `statementTimeout` (SQLSTATE 57014).
    #[error(
        "a statement was cancelled: {0}. Create the indexes that `jobexec schema` prints, or raise spec.connection.statementTimeout"
    )]
    StatementTimeout(String),
    /// The table changed under the operator, or a statement was refused (classes 22, 23, 42, P0).
    #[error("the server refused a statement: {0} (SQLSTATE {1})")]
    Statement(String, String),
    /// One of the operator's own tables rejects a record.
    #[error("{0}")]
    Own(record_fault::Fault),
    /// Reading the answer hit a defect; the connection is closed.
    #[error("{}", boundary::MESSAGE)]
    Internal,
    /// Row-level security may hide rows of a table since the table was last validated.
    #[error(
        "row-level security was turned on or its policies were changed, so that the login may not see every row. The table is validated again, and the condition SchemaValid then says what to do"
    )]
    RowSecurity,
    /// Another table has the name now, for example after two tables exchanged their names, or the adapter of the table has changed.
    #[error(
        "the table has another name now, or is gone, so that the record that was read is not that of the table with this name, or a trigger of its adapter is missing or disabled: nothing was ended. The operator looks again at once; run a command again"
    )]
    TableReplaced,
    /// Everything else that sqlx reports.
    #[error("{0}")]
    Other(String),
}

impl DbError {
    /// Returns the reason for a condition, one word.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Authentication(_) => "AuthenticationFailed",
            Self::NoDatabase(_) => "DatabaseNotFound",
            Self::Exhausted(_) => "ServerExhausted",
            Self::DiskFull(_) => "DiskFull",
            Self::Unreachable(_) => "ConnectionFailed",
            Self::Tls(_) => "TLSFailed",
            Self::ConnectTimeout(_) => "ConnectTimeout",
            Self::AddressRefused(_) => "AddressRefused",
            Self::InsecureLogin(_) => "InsecureLogin",
            Self::InvalidMessage(_) => "InvalidMessage",
            Self::TooMuch(_) => "ServerLimitExceeded",
            Self::Busy(_) => "PoolBusy",
            Self::NoAnswer(_) => "NoAnswer",
            Self::ReadOnly(_) => "DatabaseReadOnly",
            Self::Privilege(_) => "InsufficientPrivilege",
            Self::StatementTimeout(_) => "StatementTimeout",
            Self::Statement(..) => "StatementRefused",
            Self::Own(fault) => fault.reason(),
            Self::Internal => boundary::REASON,
            Self::RowSecurity => super::visibility::REASON,
            Self::TableReplaced => "TableReplaced",
            Self::Other(_) => "DatabaseError",
        }
    }

    /// Reports whether the server answered, or was not even contacted, so that the database itself may be reachable.
    pub const fn answered(&self) -> bool {
        matches!(
            self,
            Self::Privilege(_)
                | Self::StatementTimeout(_)
                | Self::Statement(..)
                | Self::Own(_)
                | Self::ReadOnly(_)
                | Self::DiskFull(_)
                | Self::Busy(_)
                | Self::RowSecurity
                | Self::TableReplaced
        )
    }

    /// Reports whether the error means that the connection is unusable: it broke, or it leads to a server that is no longer the
    /// right one. If the server has no room for another connection, it is better to keep the existing ones.
    pub const fn of_connection(&self) -> bool {
        match self {
            Self::Exhausted(_) => false,
            Self::ReadOnly(_) => true,
            _ => !self.answered(),
        }
    }

    /// Reports whether the server may object to one row, because of a constraint or a trigger of its table, so that the same
    /// statement may succeed without that row.
    pub fn of_a_row(&self) -> bool {
        match self {
            // A missing privilege may concern a trigger, for some rows only. A trigger of the application's table may also write to
            // the schema jobexec: code that writes records first checks whether its own statement failed ([`own`]).
            Self::Privilege(_) | Self::Own(_) => true,
            Self::Statement(_, code) => ["09", "22", "23", "27", "38", "39", "44", "54", "P0"]
                .iter()
                .any(|class| code.starts_with(class)),
            _ => false,
        }
    }

    /// Returns the same error, with the text of the server or a library changed by `edit`.
    #[must_use]
    pub fn edited(self, edit: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Authentication(text) => Self::Authentication(edit(text)),
            Self::NoDatabase(text) => Self::NoDatabase(edit(text)),
            Self::Exhausted(text) => Self::Exhausted(edit(text)),
            Self::DiskFull(text) => Self::DiskFull(edit(text)),
            Self::Unreachable(text) => Self::Unreachable(edit(text)),
            Self::Tls(text) => Self::Tls(edit(text)),
            Self::ReadOnly(text) => Self::ReadOnly(edit(text)),
            Self::Privilege(text) => Self::Privilege(edit(text)),
            Self::StatementTimeout(text) => Self::StatementTimeout(edit(text)),
            Self::Statement(text, code) => Self::Statement(edit(text), code),
            Self::Own(fault) => Self::Own(fault.edited(edit)),
            Self::AddressRefused(text) => Self::AddressRefused(edit(text)),
            Self::InsecureLogin(text) => Self::InsecureLogin(edit(text)),
            Self::InvalidMessage(text) => Self::InvalidMessage(edit(text)),
            Self::TooMuch(text) => Self::TooMuch(edit(text)),
            Self::Other(text) => Self::Other(edit(text)),
            Self::ConnectTimeout(_)
            | Self::Busy(_)
            | Self::NoAnswer(_)
            | Self::Internal
            | Self::RowSecurity
            | Self::TableReplaced => self,
        }
    }

    /// Reports whether the same statement may simply be sent again, after a serialization failure, a deadlock, a lock timeout or a
    /// server shutdown (40001, 40P01, 55P03, 57P01).
    pub fn transient(error: &sqlx::Error) -> bool {
        let code = error.as_database_error().and_then(|e| e.code().map(std::borrow::Cow::into_owned));
        matches!(code.as_deref(), Some("40001" | "40P01" | "55P03" | "57P01"))
    }
}

impl From<Panicked> for DbError {
    fn from(_: Panicked) -> Self {
        Self::Internal
    }
}

fn refuses_hidden_rows(error: &PgDatabaseError) -> bool {
    // The error of a trigger of the table has a context, and concerns only that row.
    error.routine() == Some(super::visibility::REFUSES) && error.r#where().is_none()
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(e) => {
                if let Some(fault) = Fault::of(&*e) {
                    return fault.into();
                }
                if let Some(fault) = e.try_downcast_ref::<PgDatabaseError>().and_then(record_fault::Fault::of)
                {
                    return Self::Own(fault);
                }
                let code = e.code().unwrap_or_default().into_owned();
                let text = line(e.message());
                match code.as_str() {
                    "42501" if e.try_downcast_ref::<PgDatabaseError>().is_some_and(refuses_hidden_rows) => {
                        Self::RowSecurity
                    }
                    "28P01" | "28000" => Self::Authentication(text),
                    "3D000" => Self::NoDatabase(text),
                    "25006" => Self::ReadOnly(text),
                    "42501" => Self::Privilege(text),
                    "57014" => Self::StatementTimeout(text),
                    "53100" => Self::DiskFull(text),
                    c if c.starts_with("53") => Self::Exhausted(text),
                    c if c.starts_with("57P") || c.starts_with("08") => Self::Unreachable(text),
                    _ => Self::Statement(text, code),
                }
            }
            sqlx::Error::Io(e) if e.kind() == io::ErrorKind::InvalidData => Self::Tls(line(&e.to_string())),
            sqlx::Error::Io(e) if e.kind() == io::ErrorKind::ResourceBusy => Self::Busy(TURN_TIMEOUT),
            sqlx::Error::Io(e) => Self::Unreachable(line(&e.to_string())),
            sqlx::Error::Tls(e) => Self::Tls(line(&e.to_string())),
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Self::ConnectTimeout(ACQUIRE_TIMEOUT),
            // The text of this error may contain parts of the configuration.
            sqlx::Error::Configuration(_) => {
                Self::Other("the connection cannot be set up as configured".to_owned())
            }
            sqlx::Error::Protocol(text) => Self::InvalidMessage(line(&text)),
            other => Self::Other(line(&other.to_string())),
        }
    }
}

impl From<Fault> for DbError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::AddressRefused(text) => Self::AddressRefused(text),
            Fault::Unreachable(text) => Self::Unreachable(text),
            Fault::Tls(text) => Self::Tls(text),
            Fault::TimedOut(limit) => Self::ConnectTimeout(limit),
            Fault::ExposedPassword(text) => Self::InsecureLogin(text),
            Fault::Malformed(text) => Self::InvalidMessage(text),
            Fault::TooMuch(text) => Self::TooMuch(text),
        }
    }
}
