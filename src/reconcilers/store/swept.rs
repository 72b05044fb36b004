//! The result of a sweep.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::db::sweep::{Ended, Refused, Sweep};

/// The most executions that an Event or a log line names.
pub(super) const SAMPLE: u8 = 5;

/// A sweep that ran to its end.
pub(super) struct Swept {
    pub(super) sweep: Sweep,
    pub(super) started_at: DateTime<Utc>,
    pub(super) took: Duration,
    pub(super) ended: u64,
    /// The number of them that are recorded nowhere, and the first few of those, for an Event.
    pub(super) unrecorded: u64,
    pub(super) first: Vec<Ended>,
    /// The stale executions that could not be ended.
    pub(super) refused: Vec<Refused>,
}
