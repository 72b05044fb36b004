//! Suspicions about an execution: evidence that may belong to an earlier run.

use serde::{Deserialize, Serialize};

use super::reason::Reason;

/// A suspicion about an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Suspicion {
    /// Its job had already finished when the two were first seen together.
    JobFinished,
    /// Another workload has the name of the one that ran it.
    WorkloadRecreated,
}

/// A text that does not name a [`Suspicion`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("executions are not suspected of {0:?}: write {all}", all = Suspicion::names())]
pub struct UnknownSuspicion(String);

/// The store does not use this evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no execution of this store is suspected of {}: {}", .0.as_str(), .0.remedy())]
pub struct NotAsked(pub Suspicion);

impl Suspicion {
    const ALL: [Self; 2] = [Self::JobFinished, Self::WorkloadRecreated];

    /// Returns the reason with which an execution is ended if a person confirms the suspicion.
    pub const fn reason(self) -> Reason {
        match self {
            Self::JobFinished => Reason::JobFinished,
            Self::WorkloadRecreated => Reason::WorkloadGone,
        }
    }

    /// Returns the suspicion as one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JobFinished => "JobFinished",
            Self::WorkloadRecreated => "WorkloadRecreated",
        }
    }

    /// Returns all names, for a message.
    pub fn names() -> String {
        Self::ALL.map(Self::as_str).join(" or ")
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::JobFinished => "it has no spec.jobs (without an operator: give the store's file with -f)",
            Self::WorkloadRecreated => {
                "it has no spec.workloads, or no operator has looked at it (without one: give the store's file with -f)"
            }
        }
    }
}

impl std::str::FromStr for Suspicion {
    type Err = UnknownSuspicion;

    fn from_str(text: &str) -> Result<Self, UnknownSuspicion> {
        let named = Self::ALL.into_iter().find(|suspicion| suspicion.as_str().eq_ignore_ascii_case(text));
        named.ok_or_else(|| UnknownSuspicion(text.chars().take(60).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspicion_is_named_by_its_reason() {
        assert_eq!("jobfinished".parse(), Ok(Suspicion::JobFinished));
        let unknown = "DeadlineExceeded".parse::<Suspicion>().unwrap_err().to_string();
        assert!(unknown.contains("JobFinished"), "{unknown}");
    }
}
