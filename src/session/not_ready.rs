//! Why a store has no session.

use crate::api::ADOPT;
use crate::boundary;
use crate::db::DbError;
use crate::db::ledger::Claimant;
use crate::db::url::InvalidUrl;
use crate::db::validate::Problem;
use crate::kubernetes::secret::SecretError;
use crate::secrets::Echoes;

/// Why a store cannot be worked on, from the first step that failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotReady {
    /// The Secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// What the Secret holds.
    #[error("the Secret {0} holds no usable connection URL: {1}")]
    Url(String, InvalidUrl),
    /// The database.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The table.
    #[error(transparent)]
    Table(#[from] Problem),
    /// Another store looks after the table.
    #[error("{}", claimed_by(.0))]
    TableClaimed(Claimant),
    /// A panic ended the work on the store.
    #[error("{}", boundary::MESSAGE)]
    Internal,
}

impl NotReady {
    /// One word for a condition's reason.
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

    /// The same without what a server repeats of the credentials.
    pub(crate) fn without(self, echoes: &Echoes) -> Self {
        match self {
            Self::Database(error) => Self::Database(error.edited(|text| echoes.without(text))),
            other => other,
        }
    }

    /// Whether others had all connections, which says nothing of the store.
    pub(crate) const fn is_busy(&self) -> bool {
        matches!(self, Self::Database(DbError::Busy(_)))
    }

    /// Whether the connection is no good any more.
    pub(crate) const fn of_connection(&self) -> bool {
        matches!(self, Self::Database(error) if error.of_connection())
    }
}

/// What to do about the store that claims the table.
fn claimed_by(holder: &Claimant) -> String {
    let Claimant { uid, namespace, name, .. } = holder;
    let remedy =
        format!("the ExecutionStore {namespace}/{name} looks after this table: delete it, or this one");
    if uid.is_empty() {
        // Nothing is recorded, so nothing can have come with a copy.
        return remedy;
    }
    format!(
        "{remedy}. If it is gone, its claim ends within ten minutes. If this database is a copy of the one that it looks after, its \
         claim came along: annotate this store with {ADOPT}=discard, or run `jobexec adopt --discard` on the database. That ends a claim \
         which nobody has confirmed for two and a half minutes, and drops the messages that came along; {ADOPT}=yes and `jobexec \
         adopt` have them delivered"
    )
}
