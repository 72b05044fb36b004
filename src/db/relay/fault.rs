//! The reasons why the relay ends a connection. sqlx understands only an error of the server, so the relay sends one; a mark that
//! no server knows distinguishes it from a real error.

use std::sync::OnceLock;
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;
use uuid::Uuid;

/// The reason why a connection was not made, or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::db) enum Fault {
    /// The operator is not allowed to connect to the address.
    AddressRefused(String),
    /// Nothing answers at the address, or the server closed the connection before the login was complete.
    Unreachable(String),
    /// The server has no TLS, or its certificate is not trusted.
    Tls(String),
    /// The login was not complete in time.
    TimedOut(Duration),
    /// The password would be exposed to anybody who intercepts the connection.
    ExposedPassword(String),
    /// The server sent something that violates the protocol.
    Malformed(String),
    /// The server sent more than is allowed.
    TooMuch(String),
}

/// Returns the mark of this process.
fn mark() -> &'static str {
    static MARK: OnceLock<String> = OnceLock::new();
    MARK.get_or_init(|| Uuid::new_v4().simple().to_string())
}

impl Fault {
    /// Returns the fault that an error stands for; `None` for an error of the server itself.
    pub(in crate::db) fn of(error: &dyn DatabaseError) -> Option<Self> {
        let error = error.try_downcast_ref::<PgDatabaseError>()?;
        if error.routine() != Some(mark()) {
            return None;
        }
        let text = error.message().to_owned();
        Some(match error.code() {
            "JX001" => Self::AddressRefused(text),
            "JX002" => Self::Unreachable(text),
            "JX003" => Self::Tls(text),
            "JX004" => Self::TimedOut(Duration::from_millis(text.parse().unwrap_or_default())),
            "JX005" => Self::ExposedPassword(text),
            "JX006" => Self::Malformed(text),
            _ => Self::TooMuch(text),
        })
    }

    /// Returns the error in the form in which a server would send it.
    pub(super) fn response(&self) -> Vec<u8> {
        let (code, text) = match self {
            Self::AddressRefused(text) => ("JX001", text.clone()),
            Self::Unreachable(text) => ("JX002", text.clone()),
            Self::Tls(text) => ("JX003", text.clone()),
            Self::TimedOut(limit) => ("JX004", limit.as_millis().to_string()),
            Self::ExposedPassword(text) => ("JX005", text.clone()),
            Self::Malformed(text) => ("JX006", text.clone()),
            Self::TooMuch(text) => ("JX007", text.clone()),
        };
        let text = text.replace('\0', " ");
        let body = format!("SFATAL\0VFATAL\0C{code}\0M{text}\0R{}\0\0", mark());
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        [b"E", &length.to_be_bytes()[..], body.as_bytes()].concat()
    }
}
