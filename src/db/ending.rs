//! The outcome of an execution that the operator ends.

use crate::api::OnStale;

/// The setting that tells the triggers of a table, for the transaction, that the operator ends executions, and with which action:
/// `Fail`, `Cancel` or `Retry`. Anybody can set it, so it must grant nothing.
pub(in crate::db) const ACTION: &str = "jobexec.ending";

/// What became of an execution. The table decides: a trigger may write something other than the operator did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// It failed.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It waits to run again.
    Retried,
    /// Its worker completed it in the same moment.
    Completed,
}

impl Ending {
    /// All endings that are the operator's doing.
    pub const ENDS: [Self; 3] = [Self::Failed, Self::Cancelled, Self::Retried];

    /// Returns what an action writes. A retry is written as a failure, which the table turns into a retry.
    pub const fn of(action: OnStale) -> Self {
        match action {
            OnStale::Cancel => Self::Cancelled,
            OnStale::Fail | OnStale::Retry | OnStale::AlertOnly => Self::Failed,
        }
    }

    /// Returns the action in `jobexec.events`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
            Self::Retried => "Retried",
            Self::Completed => "Completed",
        }
    }

    /// Returns the ending in the middle of a sentence, and as a label of metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Retried => "retried",
            Self::Completed => "completed",
        }
    }

    /// Returns the ending with this text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ENDS.into_iter().find(|ending| ending.as_str() == text)
    }
}
