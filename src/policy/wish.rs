//! What people say about executions, in the terms of the table that it is about.

use chrono::TimeDelta;

use super::Warn;
use crate::api::OnStale;

/// What one `JobExecution` object wishes of its execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The object's name.
    pub name: String,
    /// When the object was made, in seconds since 1970.
    pub created: i64,
    /// The execution's id, in the form that Postgres prints.
    pub key: String,
    /// `spec.timeout`.
    pub timeout: Option<TimeDelta>,
    /// `spec.extendBy`.
    pub extend_by: Option<TimeDelta>,
    /// Who said so last, as far as the API tells.
    pub by: Option<String>,
}

/// What one `ExecutionPolicy` says, as far as its store can do it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The object's name.
    pub name: String,
    /// When the object was made, in seconds since 1970.
    pub created: i64,
    /// The jobs that it names, in the form that Postgres prints their ids. `None`: it names none, of any kind that the
    /// store knows; it then governs what `types` says, or all.
    pub jobs: Vec<String>,
    /// The job types that it names.
    pub types: Vec<String>,
    /// Whether it names neither, and so governs all.
    pub all: bool,
    /// `spec.timeout`.
    pub timeout: Option<TimeDelta>,
    /// `spec.gracePeriod`.
    pub grace: Option<TimeDelta>,
    /// `spec.heartbeatTimeout`.
    pub heartbeat: Option<TimeDelta>,
    /// `spec.onStale`.
    pub on_stale: Option<OnStale>,
    /// `spec.warnAfter`.
    pub warn: Option<Warn>,
    /// `spec.dynamicTimeout`, with what history says.
    pub dynamic: Option<Dynamic>,
    /// Whether it has `spec.notifications`.
    pub notifies: bool,
}

impl Policy {
    /// Whether it says anything by which executions are judged.
    pub fn judges(&self) -> bool {
        self.timeout.is_some()
            || self.grace.is_some()
            || self.heartbeat.is_some()
            || self.on_stale.is_some()
            || self.warn.is_some()
            || self.dynamic.is_some()
    }
}

/// What history says to a policy that asks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dynamic {
    /// It was not asked yet. The policy's timeout is not in force either: it is for too little history.
    Pending,
    /// These timeouts follow.
    Known(Vec<Figure>),
}

/// A timeout that follows from history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// The job that it is for; `None`: it is for a type.
    pub job: Option<String>,
    /// The job type: that it is for, or of the job, where the store knows types.
    pub type_: Option<String>,
    /// How long.
    pub timeout: TimeDelta,
}
