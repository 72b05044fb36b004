//! The reasons for which a sweep runs.

use std::fmt;

/// The reason for which a sweep runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// It is the first sweep since the operator started.
    Startup,
    /// An execution is stale.
    Deadline,
    /// The sweep interval of the store has passed.
    Interval,
    /// Somebody requested it with the annotation `jobexec.dev/sweep-requested`.
    Requested,
    /// Somebody closed the circuit breaker.
    Resumed,
    /// Somebody requested a clean-up, through the command line or the API.
    Cleanup(&'static str),
}

impl Trigger {
    /// Returns the word for it in records, logs and `status.lastSweep`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Deadline => "Deadline",
            Self::Interval => "Interval",
            Self::Requested => "Requested",
            Self::Resumed => "Resumed",
            Self::Cleanup(way) => way,
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
