//! Reads overrides and policies from objects, resolved for the table of their store. Pure.

use std::collections::HashSet;

use kube::{Resource, ResourceExt as _};

use crate::api;
use crate::api::notifications::Channel;
use crate::api::policy::{DynamicTimeout, Per, WarnAfter};
use crate::api::retry::{Otherwise, RetryMethod};
use crate::api::{Duration, ExecutionPolicy, ExecutionStoreSpec, JobExecution, Limit, OnStale};
use crate::db::Mapping;
use crate::db::history::Question;
use crate::db::mapping::IdType;
use crate::kubernetes::field_owner;
use crate::rules::{ExecutionOverride, Policy, Retry, RuleSet, Warn};

/// The overrides and policies in all objects of a store.
#[derive(Default)]
pub struct DesiredState {
    /// The overrides in `JobExecution` objects that can be decoded.
    pub executions: Vec<ExecutionOverride>,
    /// The `ExecutionPolicy` objects that can be decoded.
    pub policies: Vec<ResolvedPolicy>,
    /// Objects of the namespace that cannot be used: their earlier rules stay in effect.
    pub unreadable: Vec<String>,
    /// Set if the namespace has objects of which not even the name is kept: the usable objects of the store. The earlier
    /// rules of any other object stay in effect.
    pub readable: Option<HashSet<String>>,
}

impl DesiredState {
    /// Reports whether there are objects whose content is unknown.
    pub const fn are_incomplete(&self) -> bool {
        !self.unreadable.is_empty() || self.readable.is_some()
    }

    /// Records a usable object of the store, if that matters.
    pub fn note_readable(&mut self, source: String) {
        if let Some(readable) = &mut self.readable {
            readable.insert(source);
        }
    }

    /// The objects whose rules in `before` stay unchanged.
    pub fn kept(&self, before: Option<&RuleSet>) -> Vec<String> {
        let mut kept = self.unreadable.clone();
        if let (Some(readable), Some(before)) = (&self.readable, before) {
            let unknown = before.sources().into_iter().filter(|source| !readable.contains(*source));
            kept.extend(unknown.map(str::to_owned));
            kept.sort_unstable();
            kept.dedup();
        }
        kept
    }
}

/// A policy, limited to what its store supports.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedPolicy {
    /// The UID of the object.
    pub uid: String,
    /// The generation of its spec.
    pub generation: i64,
    /// The policy, still without its computed timeouts.
    pub policy: Policy,
    /// The query for its computed timeouts.
    pub question: Option<Question>,
    /// The notification channels for the executions that it governs, if it has any.
    pub channels: Vec<Channel>,
    /// The parts that the store does not support.
    pub problems: Vec<Problem>,
}

/// A part of a policy that a store does not support.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Ids that no job can have.
    #[error("selector.jobIds has {1} that are no ids of jobs of this table, for example {0:?}: correct them")]
    JobIds(String, usize),
    /// The store has no job types.
    #[error(
        "selector.jobTypes selects nothing: the store does not know job types. Name table.columns.jobType or jobs.columns.type in the ExecutionStore"
    )]
    JobTypes,
    /// The store has no job types, or only jobs are selected.
    #[error(
        "dynamicTimeout.per JobType computes nothing: the store does not know job types. Name table.columns.jobType or jobs.columns.type in the ExecutionStore"
    )]
    PerType,
    /// A timeout for each type, while jobs are selected.
    #[error(
        "dynamicTimeout.per JobType computes nothing for selector.jobIds: use per Job, or select by jobTypes"
    )]
    PerTypeOfJobs,
    /// The store has no heartbeats.
    #[error(
        "heartbeatTimeout has no effect: the store does not know heartbeats. Set table.columns.heartbeatAt, table.columns.checkpointAt or heartbeat in the ExecutionStore"
    )]
    Heartbeat,
    /// There is no status for cancelled executions.
    #[error(
        "onStale Cancel has no effect, stale executions are failed: table.statuses.cancelled of the ExecutionStore is empty or too long for the column"
    )]
    Cancel,
    /// The table knows no retry.
    #[error(
        "onStale Retry has no effect, stale executions are failed: nothing retries them. Set table.retry in the ExecutionStore"
    )]
    Retry,
    /// The table knows no retry, so that its settings mean nothing.
    #[error("retry has no effect: nothing retries executions. Set table.retry in the ExecutionStore")]
    RetrySettings,
    /// The job system decides how often and when.
    #[error(
        "retry.maxAttempts, backoff and after have no effect: table.retry of the ExecutionStore is Trigger, so that the job system decides how often and when"
    )]
    RetryBySystem,
    /// Nothing tells when a worker is gone.
    #[error(
        "executions are failed and their retries wait for ever: nothing tells when the worker of an execution is gone. Set table.columns.heartbeatAt, table.columns.checkpointAt or heartbeat with a heartbeatTimeout, or workloads, in the ExecutionStore, or retry.after to a duration"
    )]
    RetryAfterUnknown,
    /// There is no mail server.
    #[error(
        "the e-mail channels of notifications tell nobody: the store has no mail server. Set notifications.smtp in the ExecutionStore"
    )]
    Mail,
}

impl Problem {
    /// The reason, for a condition.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::JobIds(..) | Self::JobTypes => "InvalidSelector",
            Self::PerType
            | Self::PerTypeOfJobs
            | Self::Heartbeat
            | Self::Cancel
            | Self::Retry
            | Self::RetrySettings
            | Self::RetryBySystem
            | Self::RetryAfterUnknown
            | Self::Mail => "NotSupported",
        }
    }
}

/// The override in a `JobExecution`, if it has one.
pub fn execution(execution: &JobExecution, id_type: IdType) -> Option<ExecutionOverride> {
    let spec = &execution.spec;
    if spec.timeout.is_none() && spec.extend_by.is_none() {
        return None;
    }
    Some(ExecutionOverride {
        name: execution.name_any(),
        created: created(execution),
        key: id_type.canonical(&spec.execution_id)?,
        timeout: spec.timeout.as_ref().map(Limit::to_chrono),
        extend_by: spec.extend_by.as_ref().map(Duration::to_chrono),
        by: field_owner::actor(&execution.metadata),
    })
}

/// Resolves an `ExecutionPolicy` for the table of its store. `evidence`: what the store itself checks.
pub fn policy(object: &ExecutionPolicy, m: &Mapping, evidence: RetryEvidence) -> ResolvedPolicy {
    let spec = &object.spec;
    let mut problems = Vec::new();
    let selector = &spec.selector;
    let jobs = canonical_job_ids(&selector.job_ids, m, &mut problems);
    let types = if m.knows_types() { selector.job_types.clone() } else { Vec::new() };
    if !selector.job_types.is_empty() && !m.knows_types() {
        problems.push(Problem::JobTypes);
    }
    let heartbeat = spec.heartbeat_timeout.as_ref().map(Limit::to_chrono);
    // Without heartbeats, `Never` asks for nothing.
    if heartbeat.and_then(Limit::length).is_some() && !m.has_heartbeats() {
        problems.push(Problem::Heartbeat);
    }
    let cannot = match spec.on_stale {
        Some(OnStale::Cancel) if !m.can_cancel() => Some(Problem::Cancel),
        Some(OnStale::Retry) if m.retry_method().is_none() => Some(Problem::Retry),
        _ => None,
    };
    let on_stale = if cannot.is_some() { Some(OnStale::Fail) } else { spec.on_stale };
    problems.extend(cannot);
    let counts = heartbeat.and_then(Limit::length).is_some();
    let evidence = RetryEvidence { heartbeats: evidence.heartbeats || counts, ..evidence };
    let retry = spec.retry.as_ref().and_then(|retry| retries(retry, m, evidence, &mut problems));
    let all = selector.job_ids.is_empty() && selector.job_types.is_empty();
    let question = spec
        .dynamic_timeout
        .as_ref()
        .filter(|dynamic| computes(dynamic, m, &jobs, &types, all, &mut problems));
    let name = object.name_any();
    let generation = object.metadata.generation.unwrap_or_default();
    let uid = object.uid().unwrap_or_default();
    ResolvedPolicy {
        question: question.map(|dynamic| Question {
            uid: uid.clone(),
            name: name.clone(),
            generation,
            jobs: jobs.clone(),
            types: types.clone(),
            all,
            spec: dynamic.clone(),
        }),
        uid,
        generation,
        policy: Policy {
            name,
            created: created(object),
            jobs,
            types,
            all,
            timeout: spec.timeout.as_ref().map(Limit::to_chrono),
            grace: spec.grace_period.as_ref().map(Duration::to_chrono),
            heartbeat: heartbeat.filter(|_| m.has_heartbeats()),
            on_stale,
            retry,
            warn: spec.warn_after.as_ref().and_then(warn),
            dynamic: None,
            notifies: spec.notifications.is_some(),
        },
        channels: spec.notifications.as_ref().map(|n| n.channels.clone()).unwrap_or_default(),
        problems,
    }
}

/// What a store checks that tells when the worker of an execution is gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetryEvidence {
    /// True if it checks the workloads of executions.
    pub workloads: bool,
    /// True if it has a heartbeat timeout.
    pub heartbeats: bool,
}

impl RetryEvidence {
    /// Returns what the store with this spec checks.
    pub fn of(spec: &ExecutionStoreSpec) -> Self {
        let timeout = spec.heartbeat_timeout.as_ref().map(Limit::to_chrono);
        Self { workloads: spec.workloads.is_some(), heartbeats: timeout.and_then(Limit::length).is_some() }
    }
}

/// Resolves the retry settings of a policy for the table of its store.
fn retries(
    spec: &api::retry::Retry,
    m: &Mapping,
    evidence: RetryEvidence,
    problems: &mut Vec<Problem>,
) -> Option<Retry> {
    let Some(method) = m.retry_method() else {
        problems.push(Problem::RetrySettings);
        return None;
    };
    let system = method == RetryMethod::Trigger;
    if system && (spec.max_attempts.is_some() || spec.backoff.is_some() || spec.after.is_some()) {
        problems.push(Problem::RetryBySystem);
    }
    let mut retry = Retry::of(spec, method);
    if retry.after_ms.is_none() && !(m.has_heartbeats() && evidence.heartbeats) && !evidence.workloads {
        problems.push(Problem::RetryAfterUnknown);
    }
    if retry.otherwise == Otherwise::Cancel && !m.can_cancel() {
        problems.push(Problem::Cancel);
        retry.otherwise = Otherwise::Fail;
    }
    Some(retry)
}

/// The selected ids of jobs as the table writes them, sorted and each once; those that are no id of the table are a
/// problem.
fn canonical_job_ids(ids: &[String], m: &Mapping, problems: &mut Vec<Problem>) -> Vec<String> {
    let canonical = |id: &String| match m.job_id_type() {
        Some(type_) => type_.canonical(id),
        None => Some(id.clone()),
    };
    let bad: Vec<&String> = ids.iter().filter(|id| canonical(id).is_none()).collect();
    if let Some(first) = bad.first() {
        problems.push(Problem::JobIds((*first).clone(), bad.len()));
    }
    let mut jobs: Vec<String> = ids.iter().filter_map(canonical).collect();
    jobs.sort();
    jobs.dedup();
    jobs
}

/// Reports whether a timeout can be computed at all.
fn computes(
    dynamic: &DynamicTimeout,
    m: &Mapping,
    jobs: &[String],
    types: &[String],
    all: bool,
    problems: &mut Vec<Problem>,
) -> bool {
    if dynamic.per == Per::JobType {
        if !m.knows_types() {
            problems.push(Problem::PerType);
            return false;
        }
        if !jobs.is_empty() {
            problems.push(Problem::PerTypeOfJobs);
            return !types.is_empty();
        }
    }
    all || !jobs.is_empty() || !types.is_empty()
}

fn warn(after: &WarnAfter) -> Option<Warn> {
    match (&after.duration, after.timeout_percent) {
        (Some(duration), _) => Some(Warn::of(duration)),
        (None, percent) => percent.map(Warn::Percent),
    }
}

fn created(object: &impl Resource) -> i64 {
    object.meta().creation_timestamp.as_ref().map_or(0, |time| time.0.as_second())
}
