//! The reasons for which an execution is stale.

/// Why an execution is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
pub enum Reason {
    /// It runs past its deadline.
    DeadlineExceeded,
    /// Its worker has not said for too long that it is alive.
    HeartbeatLost,
    /// Its job is finished.
    JobFinished,
    /// A later execution of its job has started.
    Superseded,
    /// The Job or Pod that runs it has failed or is gone.
    WorkloadGone,
    /// No evidence: a person asked to have it ended.
    ManualCleanup,
}

impl Reason {
    /// All that are evidence. Of several the first counts.
    pub const ALL: [Self; 5] = [
        Self::DeadlineExceeded,
        Self::HeartbeatLost,
        Self::JobFinished,
        Self::Superseded,
        Self::WorkloadGone,
    ];

    /// In one `PascalCase` word, as everything that is recorded and reported has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::HeartbeatLost => "HeartbeatLost",
            Self::JobFinished => "JobFinished",
            Self::Superseded => "Superseded",
            Self::WorkloadGone => "WorkloadGone",
            Self::ManualCleanup => "ManualCleanup",
        }
    }

    /// The reason of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::ManualCleanup]).find(|reason| reason.as_str() == text)
    }

    /// What is wrong with such an execution, to be followed by what was done to it.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::DeadlineExceeded => "still running past its deadline",
            Self::HeartbeatLost => "no heartbeat for too long",
            Self::JobFinished => "still running although its job is finished",
            Self::Superseded => "still running although a later execution of its job has started",
            Self::WorkloadGone => "still running although its Job or Pod has failed or is gone",
            Self::ManualCleanup => "a person asked to have it ended",
        }
    }
}
