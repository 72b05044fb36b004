//! The reasons why an execution is stale.

/// The reason why an execution is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
pub enum Reason {
    /// It runs past its deadline.
    DeadlineExceeded,
    /// Its worker has not sent a heartbeat for too long.
    HeartbeatLost,
    /// Its job has finished.
    JobFinished,
    /// A later execution of its job has started.
    Superseded,
    /// The Job or Pod that runs it has failed or is gone.
    WorkloadGone,
    /// Its worker has not sent a heartbeat for too long, or is gone.
    WorkerLost,
    /// There is no evidence: a person requested to end it.
    ManualCleanup,
    /// Its last attempt is stale.
    RetriesExhausted,
}

impl Reason {
    /// All reasons that are evidence. If several apply, the first counts.
    pub const ALL: [Self; 6] = [
        Self::DeadlineExceeded,
        Self::HeartbeatLost,
        Self::JobFinished,
        Self::Superseded,
        Self::WorkloadGone,
        Self::WorkerLost,
    ];

    /// Returns the reason as one `PascalCase` word, which is used in all records and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::HeartbeatLost => "HeartbeatLost",
            Self::JobFinished => "JobFinished",
            Self::Superseded => "Superseded",
            Self::WorkloadGone => "WorkloadGone",
            Self::WorkerLost => "WorkerLost",
            Self::ManualCleanup => "ManualCleanup",
            Self::RetriesExhausted => "RetriesExhausted",
        }
    }

    /// Returns the reason with this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .chain([Self::ManualCleanup, Self::RetriesExhausted])
            .find(|reason| reason.as_str() == text)
    }

    /// Returns what is wrong with such an execution. A text about the action follows it.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::DeadlineExceeded => "still running past its deadline",
            Self::HeartbeatLost => "no heartbeat for too long",
            Self::JobFinished => "still running although its job is finished",
            Self::Superseded => "still running although a later execution of its job has started",
            Self::WorkloadGone => "still running although its Job or Pod has failed or is gone",
            Self::WorkerLost => {
                "still running although its worker has sent no heartbeat for too long, or is gone"
            }
            Self::ManualCleanup => "a person asked to have it ended",
            Self::RetriesExhausted => "its last attempt is stale",
        }
    }
}
