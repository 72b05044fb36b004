//! The requests that a backend answers, however it does.

use chrono::{DateTime, TimeDelta, Utc};

use crate::api::Duration;
use crate::db::retry;
use crate::db::running::Which;
use crate::db::samples::Point;
use crate::db::staleness::Suspicion;

/// Which executions to return.
pub(super) struct ListQuery {
    pub(super) which: Which,
    /// Only executions that started this long ago or longer.
    pub(super) older_than: Option<TimeDelta>,
    /// Only executions of this job; the id as the user wrote it.
    pub(super) job: Option<String>,
}

/// Which audit records to return.
pub(super) struct HistoryQuery {
    /// Only actions on executions of this job; the id as the user wrote it.
    pub(super) job: Option<String>,
    /// Only actions on this execution; the id as the user wrote it.
    pub(super) id: Option<String>,
    /// Only actions within this duration.
    pub(super) since: Option<TimeDelta>,
}

/// Which samples to return.
#[derive(Clone, Copy)]
pub(super) struct TrendsQuery {
    /// How far to look back.
    pub(super) since: TimeDelta,
    /// The interval of a point.
    pub(super) step: TimeDelta,
}

/// The samples of a store.
pub(super) struct Samples {
    /// Oldest first; intervals without samples are left out.
    pub(super) points: Vec<Point>,
    /// The time from which to look back.
    pub(super) now: DateTime<Utc>,
}

/// Retries that a person asks for, as a backend records them.
#[derive(Clone, Debug)]
pub(super) struct RetryRequest {
    /// The executions; ids as the user wrote them.
    pub(super) which: retry::Which,
    /// Start them at once.
    pub(super) now: bool,
    /// The time over which to spread their starts.
    pub(super) over: TimeDelta,
    /// Change nothing.
    pub(super) dry_run: bool,
}

/// One clean-up, as a backend carries it out.
#[derive(Clone, Debug)]
pub(super) struct CleanupRequest {
    /// Executions that have run for this many hours or longer.
    pub(super) max_hours: Option<f64>,
    /// The same threshold as a duration.
    pub(super) older_than: Option<Duration>,
    /// The ids of executions, as the user wrote them.
    pub(super) ids: Vec<String>,
    /// Include executions that an object governs; only with a threshold or ids.
    pub(super) include_governed: bool,
    /// Only executions suspected for this reason.
    pub(super) suspicion: Option<Suspicion>,
    /// Change nothing.
    pub(super) dry_run: bool,
}
