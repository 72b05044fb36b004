//! The reasons why a store has no session.

use crate::api::ADOPT;
use crate::boundary;
use crate::db::DbError;
use crate::db::ledger::StoreIdentity;
use crate::db::url::InvalidUrl;
use crate::db::validate::Problem;
use crate::kubernetes::secret::SecretError;
use crate::secrets::Echoes;

/// The reason why a store has no session, from the first step that failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotReady {
    /// The Secret is missing or unusable.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The Secret holds no usable URL.
    #[error("the Secret {0} holds no usable connection URL: {1}")]
    Url(String, InvalidUrl),
    /// The database returned an error, or is unreachable.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The table cannot be used.
    #[error(transparent)]
    Table(#[from] Problem),
    /// Another store manages the table.
    #[error("{}", claimed_by(.0))]
    TableClaimed(StoreIdentity),
    /// A panic ended the work on the store.
    #[error("{}", boundary::MESSAGE)]
    Internal,
}

impl NotReady {
    /// The reason, for a condition.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Secret(e) => e.reason(),
            Self::Url(..) => "InvalidURL",
            Self::Database(e) => e.reason(),
            Self::Table(e) => e.reason(),
            Self::TableClaimed(_) => "TableClaimed",
            Self::Internal => boundary::REASON,
        }
    }

    /// Removes the credentials that a server may repeat.
    pub(crate) fn without(self, echoes: &Echoes) -> Self {
        match self {
            Self::Database(error) => Self::Database(error.edited(|text| echoes.without(text))),
            other => other,
        }
    }

    /// Reports whether the pool was exhausted, which says nothing about the store.
    pub(crate) const fn is_busy(&self) -> bool {
        matches!(self, Self::Database(DbError::Busy(_)))
    }

    /// Reports whether the connection is unusable.
    pub(crate) const fn of_connection(&self) -> bool {
        matches!(self, Self::Database(error) if error.of_connection())
    }
}

/// The remedy if another store claims the table.
fn claimed_by(holder: &StoreIdentity) -> String {
    let StoreIdentity { uid, namespace, name, .. } = holder;
    let remedy =
        format!("the ExecutionStore {namespace}/{name} looks after this table: delete it, or this one");
    if uid.is_empty() {
        // Nothing is recorded, so no claim can have come with a copy.
        return remedy;
    }
    format!(
        "{remedy}. If it is gone, its claim ends within ten minutes. If this database is a copy of the one that it looks after, its \
         claim came along: annotate this store with {ADOPT}=discard, or run `jobexec adopt --discard` on the database. That ends a claim \
         which nobody has confirmed for two and a half minutes, and drops the messages that came along; {ADOPT}=yes and `jobexec \
         adopt` have them delivered"
    )
}
