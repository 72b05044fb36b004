//! The outcome of a sweep.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};

use crate::db::ending::Ending;
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
    /// The start; `None`: only its creation is known.
    pub started_at: Option<DateTime<Utc>>,
    /// The deadline that it missed.
    pub deadline: Option<DateTime<Utc>>,
    /// The time at which it was ended.
    pub at: DateTime<Utc>,
    /// The object that caused the end.
    pub source: String,
    /// The reason.
    pub reason: String,
    /// What became of it.
    pub ending: Ending,
    /// True if the end is recorded in `jobexec.events`.
    pub recorded: bool,
}

impl Ended {
    /// Returns how long it ran; `None` if its start is unknown.
    pub fn runtime(&self) -> Option<TimeDelta> {
        self.started_at.map(|started_at| self.at - started_at)
    }
}

/// A stale execution that the server does not let the operator end, because of a constraint or a trigger of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The row.
    pub id: String,
    /// The reason, in the server's words.
    pub why: String,
}

/// Why an execution keeps running whose worker a trigger of the table asks to stop. It is no refusal.
pub(in crate::db) const ASKED: &str = "a trigger of the table asks its worker to stop, and it still runs";

impl Refused {
    /// Reports whether its worker was asked to stop, so that it is expected to end.
    pub fn is_asked(&self) -> bool {
        self.why == ASKED
    }
}

/// The refused executions that are known before a sweep.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The executions that were refused recently.
    pub rows: Vec<Refused>,
    /// True to try them again, after all others.
    pub again: bool,
}

/// The outcome of one sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The number of executions that were ended.
    pub ended: u64,
    /// The executions that could not be ended.
    pub refused: Vec<Refused>,
    /// The number of statements that were retried.
    pub retries: u64,
    /// The reason why some of it was not recorded, if the operator's tables exist.
    pub fault: Option<own::Fault>,
}

/// The form for Events, in the same words as `ledger::announcements::unannounced`.
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
        match self.ending {
            Ending::Failed => f.write_str(")"),
            other => write!(f, ", {})", other.word()),
        }
    }
}
