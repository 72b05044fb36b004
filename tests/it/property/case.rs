//! Random cases: rows, jobs, policies and overrides. Times are multiples of ten minutes and starts lie in the middle
//! between them, so that no result depends on the duration of a case.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use jobexec_operator::api::{Limit, OnStale};
use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;

use super::layout::{OWNERS, SHAPES};

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

/// A multiple of ten minutes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Length(pub(super) u16);

impl Length {
    pub(super) fn delta(self) -> TimeDelta {
        TimeDelta::minutes(10 * i64::from(self.0))
    }

    pub(super) fn micros(self) -> i128 {
        i128::from(self.0) * 600_000_000
    }
}

impl fmt::Debug for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}m", 10 * self.0)
    }
}

/// An instant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// This many times ten minutes before now, and five more.
    Ago(i16),
    Infinity,
    MinusInfinity,
    /// The ends of the range of Postgres.
    First,
    Last,
}

impl When {
    pub(super) fn instant(self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Ago(n) => Some(now - TimeDelta::minutes(10 * i64::from(n) + 5)),
            _ => None,
        }
    }

    pub(super) fn text(self, now: DateTime<Utc>) -> String {
        match self {
            Self::Ago(_) => self.instant(now).unwrap().to_rfc3339(),
            Self::Infinity => "infinity".to_owned(),
            Self::MinusInfinity => "-infinity".to_owned(),
            Self::First => "4713-11-24 00:00:00+00 BC".to_owned(),
            Self::Last => "294276-12-31 23:59:59+00".to_owned(),
        }
    }

    /// Local times reach as far as instants, so that the ends of one lie beyond those of the other.
    pub(super) fn of_type(self, type_: &str) -> Self {
        match self {
            Self::First if type_ == "timestamp" => Self::MinusInfinity,
            Self::Last if type_ == "timestamp" => Self::Infinity,
            other => other,
        }
    }
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ago(n) => write!(f, "{:+}m", -(10 * i32::from(*n) + 5)),
            other => f.write_str(&other.text(DateTime::default())),
        }
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

fn length(range: std::ops::Range<u16>) -> impl Strategy<Value = Length> {
    range.prop_map(Length)
}

/// `Never` once in six.
fn limit(range: std::ops::Range<u16>) -> impl Strategy<Value = Limit<Length>> {
    prop_oneof![5 => length(range).prop_map(Limit::After), 1 => Just(Limit::Never)]
}

fn when(earliest: i16) -> impl Strategy<Value = When> {
    prop_oneof![
        30 => (-3..earliest).prop_map(When::Ago),
        1 => prop_oneof![Just(When::Infinity), Just(When::MinusInfinity), Just(When::First), Just(When::Last)],
    ]
}

fn row() -> impl Strategy<Value = Row> {
    let status = prop_oneof![6 => 0..2_usize, 1 => 2..STATUSES.len()].prop_map(|n| STATUSES[n]);
    (
        prop_oneof![55 => Just(1_u8), 5 => 8_u8..14, 1 => 101_u8..110],
        weighted(0.95, status),
        weighted(0.9, 0..JOBS),
        weighted(0.15, of(0..3_u8)),
        weighted(0.95, 1..5_i8),
        weighted(0.85, when(40)),
        weighted(0.8, when(20)),
        weighted(0.8, when(40)),
        weighted(0.6, prop::sample::select(vec![0_u32, 500, 1_000, 60_000, 601_000, 3_601_000])),
        (
            (0..12_i16).prop_map(When::Ago),
            prop::bool::weighted(0.05),
            prop_oneof![3 => Just(0), 1 => 0..OWNERS.len()],
        ),
        (
            weighted(0.5, length(0..20)),
            weighted(0.4, (length(0..20), (0..12_i16).prop_map(When::Ago), any::<bool>())),
            weighted(0.2, (0..12_i16).prop_map(When::Ago)),
        ),
    )
        .prop_map(|(times, status, job, kind, number, start, heartbeat, created, took, seen, halted)| {
            let ((suspect, reused, outside), (paused, pauses, again)) = (seen, halted);
            Row {
                times,
                status,
                job,
                kind,
                number,
                start,
                heartbeat,
                created,
                paused,
                pauses,
                again,
                took,
                suspect,
                reused,
                outside,
            }
        })
}

fn job() -> impl Strategy<Value = Job> {
    (
        prop::bool::weighted(0.85),
        weighted(0.85, 0..3_u8),
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.5),
        prop::bool::weighted(0.8),
        weighted(0.7, when(40)),
    )
        .prop_map(|(listed, kind, began_finished, was_finished, stays, ended)| Job {
            listed,
            kind,
            began_finished,
            was_finished,
            finished: was_finished == stays,
            ended,
        })
}

fn policy() -> impl Strategy<Value = Policy> {
    let named = |n: u8| prop::sample::subsequence((0..n).collect::<Vec<_>>(), 0..=2);
    let known = (vec((0..JOBS, length(1..30)), 0..5), vec((0..3_u8, length(1..30)), 0..3))
        .prop_map(|(jobs, kinds)| HistoryTimeout::Known { jobs, kinds });
    (
        "[a-c]",
        0..3_i64,
        weighted(0.75, (named(JOBS + 1), named(3))),
        of(limit(1..30)),
        weighted(0.4, prop_oneof![1 => Just(HistoryTimeout::Pending), 3 => known]),
        weighted(0.3, length(0..8)),
        weighted(0.4, limit(1..12)),
        weighted(0.4, prop::sample::select(vec![OnStale::Fail, OnStale::Cancel, OnStale::AlertOnly])),
        weighted(0.2, 1..99),
    )
        .prop_map(|(name, created, named, timeout, dynamic, grace, heartbeat, on_stale, warn)| {
            Policy {
                name,
                created,
                // A selector without names selects all.
                named: named.filter(|(jobs, kinds)| !jobs.is_empty() || !kinds.is_empty()),
                timeout,
                dynamic,
                grace,
                heartbeat,
                on_stale,
                warn,
            }
        })
}

fn custom() -> impl Strategy<Value = ExecutionOverride> {
    ("[a-c]", 0..3_i64, 0..14_usize, of(limit(1..30)), of(length(0..12))).prop_map(
        |(name, created, row, timeout, extend_by)| ExecutionOverride {
            name,
            created,
            row,
            timeout,
            extend_by,
        },
    )
}

/// The earlier rules: the timeout and the grace period of the store, the policies, and the overrides that differ.
type Before = (Limit<Length>, Length, Vec<Policy>, Vec<Changed>);
type Changed = (Option<Option<Limit<Length>>>, Option<Option<Length>>);

fn before() -> impl Strategy<Value = Before> {
    let changed = (weighted(0.2, of(limit(1..30))), weighted(0.3, of(length(0..12))));
    (limit(1..30), length(0..5), vec(policy(), 0..4), vec(changed, 5))
}

pub(super) fn cases() -> impl Strategy<Value = Case> {
    (
        (0..SHAPES.len(), limit(1..30), length(0..5), weighted(0.3, limit(1..12))),
        weighted(0.4, length(0..8)),
        (prop_oneof![3 => 0..4_i16, 1 => 4..100_i16].prop_map(When::Ago), vec(when(20), 0..3)),
        (prop::bool::weighted(0.9), prop::bool::weighted(0.85), any::<bool>(), length(1..200)),
        vec(job(), usize::from(JOBS)),
        vec(row(), 0..14),
        (vec(policy(), 0..7), weighted(0.6, before())),
        vec(custom(), 0..5),
    )
        .prop_map(
            |(
                (shape, timeout, grace, heartbeat),
                single_active_execution,
                (watched, held),
                how,
                jobs,
                rows,
                (policies, before),
                overrides,
            )| {
                let (evidence, recorded, by_index, horizon) = how;
                let case = Case {
                    shape,
                    timeout,
                    grace,
                    heartbeat,
                    single_active_execution,
                    watched,
                    held,
                    evidence,
                    recorded,
                    by_index,
                    horizon,
                    jobs,
                    rows,
                    policies,
                    overrides,
                    before: None,
                };
                let before = before.map(|before| Box::new(case.with(before).sound()));
                Case { before, ..case.sound() }
            },
        )
}

impl Case {
    /// The same case with other rules.
    fn with(&self, (timeout, grace, policies, changed): Before) -> Self {
        let mut case = Self { timeout, grace, policies, ..self.clone() };
        for (custom, (timeout, extend_by)) in case.overrides.iter_mut().zip(changed) {
            custom.timeout = timeout.unwrap_or(custom.timeout);
            custom.extend_by = extend_by.unwrap_or(custom.extend_by);
        }
        case
    }

    /// Removes overrides and policies that are not possible for this store.
    fn sound(mut self) -> Self {
        let shape = &SHAPES[self.shape];
        // Later indexes are those of copies.
        let rows = self.rows.len();
        self.overrides.retain(|custom| custom.row < rows);
        // Two objects of one name cannot exist.
        for (n, policy) in self.policies.iter_mut().enumerate() {
            policy.name += &n.to_string();
        }
        for (n, custom) in self.overrides.iter_mut().enumerate() {
            custom.name += &n.to_string();
        }
        for policy in &mut self.policies {
            if !shape.cancels && policy.on_stale == Some(OnStale::Cancel) {
                policy.on_stale = Some(OnStale::Fail);
            }
            policy.heartbeat = policy.heartbeat.filter(|_| shape.heartbeat_at.is_some());
            if !shape.knows_types() {
                if let Some((_, kinds)) = &mut policy.named {
                    kinds.clear();
                }
                if let Some(HistoryTimeout::Known { kinds, .. }) = &mut policy.dynamic {
                    kinds.clear();
                }
            }
        }
        self.one_type_a_job();
        self
    }

    /// A rule for a job applies whatever the types of its executions are. If these differ, the computed timeout for a job
    /// under a policy by type also applies to the job's executions of other types. No store should be like that.
    fn one_type_a_job(&mut self) {
        let shape = &SHAPES[self.shape];
        let mixed: Vec<u8> =
            (0..JOBS).filter(|job| shape.job_type.is_some() && self.is_mixed(*job)).collect();
        for policy in &mut self.policies {
            let Some(HistoryTimeout::Known { jobs, .. }) = &mut policy.dynamic else { continue };
            if policy.named.as_ref().is_some_and(|(_, kinds)| !kinds.is_empty()) {
                jobs.retain(|(job, _)| !mixed.contains(job));
                let mut seen = Vec::new();
                jobs.retain(|(job, _)| {
                    !seen.contains(job) && {
                        seen.push(*job);
                        true
                    }
                });
            }
        }
    }

    fn is_mixed(&self, job: u8) -> bool {
        let kind = self.jobs[usize::from(job)].kind;
        self.rows.iter().any(|row| row.job == Some(job) && row.kind.is_some_and(|own| own != kind))
    }

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
