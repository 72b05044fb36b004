//! The kinds of observations in `jobexec.observations`.

/// The kinds of observations of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its job was not finished while it ran. The detail is a digest of the condition for a finished job at that time.
    JobUnfinished,
    /// It runs, and its row has no start. The detail is the version of the row: another version may be another run.
    RunningWithoutStart,
    /// Its workload existed. The detail is the name and the UID of the workload.
    WorkloadSeen,
    /// Its workload had succeeded. The detail is the name and the UID of the workload.
    WorkloadSucceeded,
    /// It has ended after somebody was alerted to it.
    Ended,
    /// It had ended, and runs again with the same start.
    StartedAgain,
    /// It is paused; or it was paused since it started and has resumed, and then `detail` is [`RESUMED`], `since` is when it was
    /// seen to have resumed, and `total` is how long it had been paused by then.
    Paused,
}

/// The detail of an execution that was paused and has resumed.
pub const RESUMED: &str = "Resumed";

impl Kind {
    /// Returns the text in `jobexec.observations`.
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

/// SQL for how long the execution of `observation` has been seen paused so far: from zero to 1,000,000 hours, in hours and
/// smaller units, which are equally long in any time zone.
pub const SEEN_PAUSED: &str = "LEAST(GREATEST(COALESCE(observation.total, interval '0') + CASE WHEN observation.detail IS NULL AND isfinite(observation.since) \
     THEN make_interval(secs => EXTRACT(epoch FROM statement_timestamp() - observation.since)::float8) ELSE interval '0' END, \
     interval '0'), interval '1000000 hours')";
