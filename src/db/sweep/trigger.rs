//! Why a sweep runs.

use std::fmt;

/// Why a sweep runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// It is the first since the operator started.
    Startup,
    /// An execution is stale.
    Deadline,
    /// The sweep interval of the store has passed.
    Interval,
    /// Somebody asked for it with the annotation `jobexec.dev/sweep-requested`.
    Requested,
    /// Somebody closed the circuit breaker.
    Resumed,
    /// Somebody asked for a clean-up, by this way: the command line or the API.
    Cleanup(&'static str),
}

impl Trigger {
    /// The word for it in records, logs and `status.lastSweep`.
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
