//! The settings of policies and `JobExecution` objects, in the terms of the store's table.

use chrono::TimeDelta;

use super::{Retry, Warn};
use crate::api::{Limit, OnStale};

/// The settings of one `JobExecution` object for its execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionOverride {
    /// The name of the object.
    pub name: String,
    /// The creation time of the object, in seconds since the Unix epoch.
    pub created: i64,
    /// The id of the execution, in the form that Postgres prints.
    pub key: String,
    /// `spec.timeout`.
    pub timeout: Option<Limit<TimeDelta>>,
    /// `spec.extendBy`.
    pub extend_by: Option<TimeDelta>,
    /// The field manager that last changed the settings, if the API reports one.
    pub by: Option<String>,
}

/// The settings of one `ExecutionPolicy` that its store supports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The name of the object.
    pub name: String,
    /// The creation time of the object, in seconds since the Unix epoch.
    pub created: i64,
    /// The ids of the jobs that the policy selects, in the form that Postgres prints.
    pub jobs: Vec<String>,
    /// The job types that the policy selects.
    pub types: Vec<String>,
    /// Whether the policy selects all executions, because its selector is empty.
    pub all: bool,
    /// `spec.timeout`.
    pub timeout: Option<Limit<TimeDelta>>,
    /// `spec.gracePeriod`.
    pub grace: Option<TimeDelta>,
    /// `spec.heartbeatTimeout`.
    pub heartbeat: Option<Limit<TimeDelta>>,
    /// `spec.onStale`.
    pub on_stale: Option<OnStale>,
    /// `spec.retry`.
    pub retry: Option<Retry>,
    /// `spec.warnAfter`.
    pub warn: Option<Warn>,
    /// `spec.dynamicTimeout`, with the computed timeouts.
    pub dynamic: Option<HistoryTimeout>,
    /// Whether it has `spec.notifications`.
    pub notifies: bool,
}

impl Policy {
    /// Reports whether the policy sets any field that affects enforcement.
    pub fn judges(&self) -> bool {
        self.timeout.is_some()
            || self.grace.is_some()
            || self.heartbeat.is_some()
            || self.on_stale.is_some()
            || self.retry.is_some()
            || self.warn.is_some()
            || self.dynamic.is_some()
    }
}

/// The timeouts computed for a policy with `dynamicTimeout`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryTimeout {
    /// The timeouts have not been computed yet. Until then the policy's own timeout does not apply either, because it
    /// is only for jobs with too few completed executions, unless it is `Never`.
    Pending,
    /// The computed timeouts.
    Known(Vec<ComputedTimeout>),
}

/// A timeout computed from completed executions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComputedTimeout {
    /// The job that the timeout applies to; `None` if it applies to a job type.
    pub job: Option<String>,
    /// The job type that the timeout applies to, or the type of `job` if the store maps job types.
    pub type_: Option<String>,
    /// The timeout.
    pub timeout: TimeDelta,
}
