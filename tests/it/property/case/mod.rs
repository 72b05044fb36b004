//! Random cases: rows, jobs, policies and overrides. Times are multiples of ten minutes and starts lie in the middle
//! between them, so that no result depends on the duration of a case.

mod random;
mod times;

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use jobexec_operator::api::retry::RetryReason;
use jobexec_operator::api::{Limit, OnStale};

pub(super) use self::random::cases;
pub(super) use self::times::{Length, When};
use super::layout::SHAPES;

/// Job types that are texts.
pub(super) const KINDS: [&str; 3] = ["etl", "it's a \\ report", "Mail"];

/// The number of jobs; policies name one more.
pub(super) const JOBS: u8 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Scheduled,
    Running,
    AlsoRunning,
    Completed,
    Failed,
    Cancelled,
    /// Paused, if the mapping has that.
    Paused,
    Ignored,
    Unmapped,
}

pub(super) const STATUSES: [Status; 9] = [
    Status::Running,
    Status::AlsoRunning,
    Status::Scheduled,
    Status::Completed,
    Status::Failed,
    Status::Cancelled,
    Status::Paused,
    Status::Ignored,
    Status::Unmapped,
];

impl Status {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::AlsoRunning => "it's on",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Paused => "on hold",
            Self::Ignored => "skipped",
            Self::Unmapped => "lost",
        }
    }

    pub(super) const fn runs(self) -> bool {
        matches!(self, Self::Running | Self::AlsoRunning)
    }
}

#[derive(Clone, Debug)]
#[allow(clippy::option_option, reason = "a type may not be said, or said to be NULL")]
pub(super) struct Row {
    /// The number of copies.
    pub(super) times: u8,
    pub(super) status: Option<Status>,
    pub(super) job: Option<u8>,
    /// Its type, if that is a column of its own: that of its job, unless it is set here.
    pub(super) kind: Option<Option<u8>>,
    pub(super) number: Option<i8>,
    pub(super) start: Option<When>,
    pub(super) heartbeat: Option<When>,
    pub(super) created: Option<When>,
    /// The duration of pauses in its own column.
    pub(super) paused: Option<Length>,
    /// The timeout in its own column; zero is none.
    pub(super) timeout: Option<Length>,
    /// The deadline in its own column.
    pub(super) until: Option<When>,
    /// The duration of observed pauses, and since when it is paused again, or when it was resumed.
    pub(super) pauses: Option<(Length, When, bool)>,
    /// Since when it is known to run again with the same start.
    pub(super) again: Option<When>,
    /// The milliseconds from its start to its end, if it has one.
    pub(super) took: Option<u32>,
    /// Since when its job is observed finished, if it is.
    pub(super) suspect: When,
    /// True if the observations are of an earlier execution with the same id.
    pub(super) reused: bool,
    /// The index in `OWNERS` of the values for the filter's columns: the first makes it one of the application's.
    pub(super) outside: usize,
}

impl Row {
    /// Its end, if it has one. A start at the ends of time has none.
    pub(super) fn end(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Some(self.start?.instant(now)? + TimeDelta::milliseconds(self.took?.into()))
    }
}

#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Job {
    pub(super) listed: bool,
    pub(super) kind: Option<u8>,
    /// True if it was finished at the first observation, at the update of the suspects, and now.
    pub(super) began_finished: bool,
    pub(super) was_finished: bool,
    pub(super) finished: bool,
    /// Its end, if that is a column.
    pub(super) ended: Option<When>,
}

#[derive(Clone, Debug)]
pub(super) struct ExecutionOverride {
    pub(super) name: String,
    pub(super) created: i64,
    /// The index of the row.
    pub(super) row: usize,
    pub(super) timeout: Option<Limit<Length>>,
    pub(super) extend_by: Option<Length>,
}

#[derive(Clone, Debug)]
pub(super) enum HistoryTimeout {
    Pending,
    Known {
        /// If a job occurs twice, it has executions of another type too.
        jobs: Vec<(u8, Length)>,
        kinds: Vec<(u8, Length)>,
    },
}

/// When executions run again: at once, whether their worker lives or not.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    pub(super) reasons: Vec<RetryReason>,
    /// True if executions that are stale for another reason are cancelled.
    pub(super) cancels: bool,
    /// True if the first attempt is the last.
    pub(super) exhausted: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) created: i64,
    /// `None`: all jobs.
    pub(super) named: Option<(Vec<u8>, Vec<u8>)>,
    pub(super) timeout: Option<Limit<Length>>,
    pub(super) dynamic: Option<HistoryTimeout>,
    pub(super) grace: Option<Length>,
    pub(super) heartbeat: Option<Limit<Length>>,
    pub(super) on_stale: Option<OnStale>,
    pub(super) retry: Option<Retry>,
    pub(super) warn: Option<i32>,
}

#[derive(Clone)]
pub(super) struct Case {
    /// The index of its tables in `SHAPES`.
    pub(super) shape: usize,
    pub(super) timeout: Limit<Length>,
    pub(super) grace: Length,
    pub(super) heartbeat: Option<Limit<Length>>,
    pub(super) single_active_execution: Option<Length>,
    pub(super) watched: When,
    /// The time when holding of lost heartbeats began.
    pub(super) held: Vec<When>,
    /// True if evidence other than deadlines counts.
    pub(super) evidence: bool,
    /// True if the sweep has the operator's tables.
    pub(super) recorded: bool,
    /// True if indexes are used even if there is little to find.
    pub(super) by_index: bool,
    /// The time ahead for which deadlines are read.
    pub(super) horizon: Length,
    pub(super) jobs: Vec<Job>,
    pub(super) rows: Vec<Row>,
    pub(super) policies: Vec<Policy>,
    pub(super) overrides: Vec<ExecutionOverride>,
    /// The same case with the earlier rules.
    pub(super) before: Option<Box<Case>>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "tables {}: {:?}", self.shape, SHAPES[self.shape])?;
        writeln!(
            f,
            "store: timeout {:?}, grace {:?}, heartbeat {:?}, single_active_execution {:?}; watched since {:?}, held at {:?}; \
             evidence {}, recorded {}, by index {}, horizon {:?}",
            self.timeout,
            self.grace,
            self.heartbeat,
            self.single_active_execution,
            self.watched,
            self.held,
            self.evidence,
            self.recorded,
            self.by_index,
            self.horizon
        )?;
        for (n, job) in self.jobs.iter().enumerate() {
            writeln!(f, "job {n}: {job:?}")?;
        }
        for (n, row) in self.rows.iter().enumerate() {
            writeln!(f, "row {n}: {row:?}")?;
        }
        for policy in &self.policies {
            writeln!(f, "{policy:?}")?;
        }
        for custom in &self.overrides {
            writeln!(f, "{custom:?}")?;
        }
        if let Some(before) = &self.before {
            writeln!(
                f,
                "before: timeout {:?}, grace {:?}, {:?}, {:?}",
                before.timeout, before.grace, before.policies, before.overrides
            )?;
        }
        Ok(())
    }
}

impl Case {
    /// Reports whether a row is one of the application's executions.
    pub(super) fn exists(&self, row: &Row) -> bool {
        !SHAPES[self.shape].filtered || row.outside == 0
    }

    /// The type of a row, if it is known.
    pub(super) fn kind(&self, row: &Row) -> Option<u8> {
        let shape = &SHAPES[self.shape];
        let job = row.job.map(|job| &self.jobs[usize::from(job)]);
        if shape.job_type.is_some() {
            return row.kind.unwrap_or_else(|| job.and_then(|job| job.kind));
        }
        shape.jobs?.type_?;
        job.filter(|job| job.listed)?.kind
    }

    /// The type of a job, as history knows it.
    pub(super) fn kind_of_job(&self, n: u8) -> Option<u8> {
        let shape = &SHAPES[self.shape];
        let job = self.jobs.get(usize::from(n))?;
        if shape.job_type.is_some() {
            return job.kind;
        }
        shape.jobs?.type_?;
        job.kind.filter(|_| job.listed)
    }
}
