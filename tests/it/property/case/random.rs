//! Makes random cases that are possible.

use jobexec_operator::api::retry::RetryReason;
use jobexec_operator::api::{Limit, OnStale};
use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;

use super::{Case, ExecutionOverride, HistoryTimeout, JOBS, Job, Length, Policy, Retry, Row, STATUSES, When};
use crate::property::layout::{OWNERS, SHAPES};

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
            weighted(0.5, prop_oneof![6 => length(1..30), 1 => Just(Length(0))]),
            weighted(0.5, when(40)),
        ),
    )
        .prop_map(|(times, status, job, kind, number, start, heartbeat, created, took, seen, halted)| {
            let ((suspect, reused, outside), (paused, pauses, again, timeout, until)) = (seen, halted);
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
                timeout,
                until,
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

fn retry() -> impl Strategy<Value = Retry> {
    let reasons = vec![
        RetryReason::DeadlineExceeded,
        RetryReason::HeartbeatLost,
        RetryReason::WorkerLost,
        RetryReason::WorkloadGone,
    ];
    (prop::sample::subsequence(reasons, 1..=4), any::<bool>(), prop::bool::weighted(0.3))
        .prop_map(|(reasons, cancels, exhausted)| Retry { reasons, cancels, exhausted })
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
        weighted(
            0.4,
            prop::sample::select(vec![OnStale::Fail, OnStale::Cancel, OnStale::Retry, OnStale::AlertOnly]),
        ),
        weighted(0.4, retry()),
        weighted(0.2, 1..99),
    )
        .prop_map(|(name, created, named, timeout, dynamic, grace, heartbeat, on_stale, retry, warn)| {
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
                retry,
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

pub(in crate::property) fn cases() -> impl Strategy<Value = Case> {
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
            policy.retry = policy.retry.take().filter(|_| shape.retries());
            if let Some(retry) = &mut policy.retry {
                retry.cancels &= shape.cancels;
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
}
