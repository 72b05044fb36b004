//! What a sweep comes to.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};

use crate::db::own;
use crate::db::reason::Reason;

/// An execution that a sweep ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The row.
    pub id: String,
    /// Its job.
    pub job_id: Option<String>,
    /// Its number within the job.
    pub number: Option<i64>,
    /// When it started; `None`: only its creation is known.
    pub started_at: Option<DateTime<Utc>>,
    /// When it should have ended.
    pub deadline: Option<DateTime<Utc>>,
    /// When it was ended.
    pub at: DateTime<Utc>,
    /// The object that says so.
    pub source: String,
    /// Why.
    pub reason: String,
    /// Whether it was cancelled, else failed.
    pub cancelled: bool,
    /// Whether that is recorded in `jobexec.events`.
    pub recorded: bool,
}

impl Ended {
    /// How long it ran.
    pub fn runtime(&self) -> Option<TimeDelta> {
        self.started_at.map(|started_at| self.at - started_at)
    }
}

/// A stale execution that the server does not let the operator end, by a constraint or a trigger of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The row.
    pub id: String,
    /// Why, in the server's words.
    pub why: String,
}

/// What is known of such executions before a sweep.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Those that were refused lately.
    pub rows: Vec<Refused>,
    /// Whether to try them again, after all others.
    pub again: bool,
}

/// What one pass came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How many executions were ended.
    pub ended: u64,
    /// Those that could not be.
    pub refused: Vec<Refused>,
    /// How many statements were tried once more.
    pub retries: u64,
    /// Why not all of it was recorded, where the operator's tables are there.
    pub fault: Option<own::Fault>,
}

/// As Events name it, in the same words as `ledger::announcements::unannounced`.
impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.number.map_or_else(|| "?".to_owned(), |n| n.to_string());
        write!(f, "{} (job {}, #{number}", self.id, self.job_id.as_deref().unwrap_or("?"))?;
        if let Some(runtime) = self.runtime() {
            write!(f, ", {:.1} h", runtime.num_seconds() as f64 / 3600.0)?;
        }
        if self.reason != Reason::DeadlineExceeded.as_str() {
            write!(f, ", {}", self.reason)?;
        }
        f.write_str(if self.cancelled { ", cancelled)" } else { ")" })
    }
}
