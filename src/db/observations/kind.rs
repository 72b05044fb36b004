//! What can be observed of an execution, as `jobexec.observations` has it.

/// What can be seen of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its job was not finished while it ran. The detail is a digest of what made jobs finished then.
    JobUnfinished,
    /// It runs, and its row has no start. The detail is the version of the row: in another one it may be another run.
    RunningWithoutStart,
    /// Its workload was there. The detail is the name and the UID of that.
    WorkloadSeen,
    /// Its workload had succeeded. The detail is the same.
    WorkloadSucceeded,
    /// Somebody was alerted of it, and it has ended since.
    Ended,
    /// It had ended, and runs again with the same start.
    StartedAgain,
    /// It is paused, or was since it started: then `detail` says [`RESUMED`], `since` when that was seen, and `total` for
    /// how long it had been paused by then.
    Paused,
}

/// What is noted of an execution that was paused and is not any more.
pub const RESUMED: &str = "Resumed";

impl Kind {
    /// As `jobexec.observations` has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JobUnfinished => "JobUnfinished",
            Self::RunningWithoutStart => "RunningWithoutStart",
            Self::WorkloadSeen => "WorkloadSeen",
            Self::WorkloadSucceeded => "WorkloadSucceeded",
            Self::Ended => "Ended",
            Self::StartedAgain => "StartedAgain",
            Self::Paused => "Paused",
        }
    }
}

/// For how long the execution of observation `o` was seen paused so far: from none to 1,000,000 hours, in hours and less,
/// which are as long in any time zone.
pub const SEEN_PAUSED: &str = "LEAST(GREATEST(COALESCE(o.total, interval '0') + CASE WHEN o.detail IS NULL AND isfinite(o.since) \
     THEN make_interval(secs => EXTRACT(epoch FROM statement_timestamp() - o.since)::float8) ELSE interval '0' END, \
     interval '0'), interval '1000000 hours')";
