//! The rules that SQL queries apply to executions.

use std::collections::HashSet;

use chrono::TimeDelta;

use super::Retry;
use crate::api::{ExecutionStoreSpec, Limit, OnStale};

/// The run time after which an execution without a deadline counts as past it: 1,000,000 hours, more than any timeout and grace
/// period together, and the longest time that `jobexec.rules` can hold.
pub const UNLIMITED: TimeDelta = TimeDelta::hours(1_000_000);

/// Returns the run time after which an execution is past its deadline; without a timeout, [`UNLIMITED`].
pub(super) fn total(timeout: Limit<TimeDelta>, grace: TimeDelta) -> TimeDelta {
    timeout.length().map_or(UNLIMITED, |timeout| timeout + grace)
}

/// The scope of a rule. The order of the variants is their precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One execution.
    Execution,
    /// The executions of a job.
    Job,
    /// The executions of all jobs of a type.
    Type,
}

impl Scope {
    /// Returns the scope as stored in `jobexec.rules`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Execution => "execution",
            Self::Job => "job",
            Self::Type => "type",
        }
    }
}

/// A value, and the object that sets it, for example `ExecutionPolicy/nightly`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// The object that sets the value.
    pub source: String,
}

impl<T> Sourced<T> {
    /// Creates a value that `source` sets.
    pub fn new(value: T, source: impl Into<String>) -> Self {
        Self { value, source: source.into() }
    }
}

/// A timeout. If several rules give an execution a timeout, the one with the lowest rank takes precedence. The scope
/// alone does not decide, because the rule of a job can hold a timeout that was computed for a policy by job type or
/// for all executions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// The timeout.
    pub value: Limit<TimeDelta>,
    /// The rank: 0 for a `JobExecution`, 10 for a policy that selects the job, 20 for one that selects the job type, 30
    /// for one that selects all executions. It is one higher if the timeout is the policy's own and not computed.
    pub rank: i16,
    /// The object that sets the timeout.
    pub source: String,
}

/// The run time after which the operator warns about an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warn {
    /// An absolute run time.
    After(TimeDelta),
    /// A percentage of the execution's timeout. Without a timeout there is no warning.
    Percent(i32),
    /// No warning.
    Never,
}

impl Warn {
    /// Creates a warning after an absolute run time, or none.
    pub fn of(after: &Limit) -> Self {
        after.to_chrono().length().map_or(Self::Never, Self::After)
    }
}

/// The settings for the executions of one scope and key. Fields that are `None` fall through to the rule of the next
/// scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The scope of the rule.
    pub scope: Scope,
    /// The id of the execution, the id of the job or the job type, in the form that Postgres prints.
    pub key: String,
    /// The maximum run time.
    pub timeout: Option<Timeout>,
    /// The time to add to the timeout. Only for [`Scope::Execution`].
    pub extend_by: Option<Sourced<TimeDelta>>,
    /// The time to wait after the timeout before the operator ends a stale execution.
    pub grace: Option<Sourced<TimeDelta>>,
    /// The maximum time without a heartbeat.
    pub heartbeat: Option<Sourced<Limit<TimeDelta>>>,
    /// The action on a stale execution.
    pub on_stale: Option<Sourced<OnStale>>,
    /// For which reasons, how often and when a stale execution runs again.
    pub retry: Option<Sourced<Retry>>,
    /// The run time after which the operator warns.
    pub warn: Option<Sourced<Warn>>,
    /// The minimum run time before an execution under this rule can be past its deadline, unless it has an execution
    /// rule. Zero for [`Scope::Execution`].
    pub earliest: TimeDelta,
    /// Whether all executions under this rule are past their deadline after `earliest` and get the same action, because
    /// no rule by job type can change either.
    pub fixed: bool,
    /// The settings of objects of the same rank that this rule overrides, for example `timeout of
    /// ExecutionPolicy/young`.
    pub overruled: Vec<String>,
    /// The field manager that last changed the rule, if the API reports one. It is not part of the stored rule, only of
    /// the record of the change.
    pub by: Option<String>,
}

impl Rule {
    /// Creates a rule without any settings.
    pub fn new(scope: Scope, key: String) -> Self {
        Self {
            scope,
            key,
            timeout: None,
            extend_by: None,
            grace: None,
            heartbeat: None,
            on_stale: None,
            retry: None,
            warn: None,
            earliest: TimeDelta::zero(),
            fixed: false,
            overruled: Vec::new(),
            by: None,
        }
    }

    /// Copies the fields of `old` that one of `sources` sets.
    pub(super) fn carry_over(&mut self, old: &Self, sources: &HashSet<&str>) {
        fn copy<T: Clone>(field: &mut Option<Sourced<T>>, old: Option<&Sourced<T>>, sources: &HashSet<&str>) {
            if let Some(old) = old.filter(|old| sources.contains(old.source.as_str())) {
                *field = Some(old.clone());
            }
        }
        if let Some(old) = old.timeout.as_ref().filter(|old| sources.contains(old.source.as_str())) {
            self.timeout = Some(old.clone());
        }
        copy(&mut self.extend_by, old.extend_by.as_ref(), sources);
        copy(&mut self.grace, old.grace.as_ref(), sources);
        copy(&mut self.heartbeat, old.heartbeat.as_ref(), sources);
        copy(&mut self.on_stale, old.on_stale.as_ref(), sources);
        copy(&mut self.retry, old.retry.as_ref(), sources);
        copy(&mut self.warn, old.warn.as_ref(), sources);
    }

    /// Returns the objects that set the fields of this rule.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        [
            self.timeout.as_ref().map(|t| t.source.as_str()),
            self.extend_by.as_ref().map(|s| s.source.as_str()),
            self.grace.as_ref().map(|s| s.source.as_str()),
            self.heartbeat.as_ref().map(|s| s.source.as_str()),
            self.on_stale.as_ref().map(|s| s.source.as_str()),
            self.retry.as_ref().map(|s| s.source.as_str()),
            self.warn.as_ref().map(|s| s.source.as_str()),
        ]
        .into_iter()
        .flatten()
    }

    /// Reports whether one of `sources` sets any field of this rule.
    pub fn is_from(&self, sources: &HashSet<&str>) -> bool {
        self.sources().any(|source| sources.contains(source))
    }
}

/// The settings for executions where no rule sets a field: those of the store, overridden by policies for all
/// executions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreDefaults {
    /// The maximum run time.
    pub timeout: Sourced<Limit<TimeDelta>>,
    /// The time to wait after the timeout before the operator ends a stale execution.
    pub grace: Sourced<TimeDelta>,
    /// The maximum time without a heartbeat, if heartbeats are evidence.
    pub heartbeat: Option<Sourced<Limit<TimeDelta>>>,
    /// The action on a stale execution.
    pub on_stale: Sourced<OnStale>,
    /// For which reasons, how often and when a stale execution runs again; `None`: as the retry method of the table needs it.
    pub retry: Option<Sourced<Retry>>,
    /// The run time after which the operator warns.
    pub warn: Sourced<Warn>,
    /// The settings of policies for all executions that an older such policy overrides.
    pub overruled: Vec<String>,
    /// The store as a source. It configures the evidence other than deadlines and heartbeats.
    pub store: String,
}

impl StoreDefaults {
    /// Creates the defaults from the spec of the store `name`.
    pub fn of(name: &str, spec: &ExecutionStoreSpec) -> Self {
        let source = super::store_source(name);
        Self {
            timeout: Sourced::new(spec.default_timeout.to_chrono(), &source),
            grace: Sourced::new(spec.grace_period.to_chrono(), &source),
            heartbeat: spec
                .heartbeat_timeout
                .as_ref()
                .map(|timeout| Sourced::new(timeout.to_chrono(), &source)),
            on_stale: Sourced::new(OnStale::Fail, &source),
            retry: None,
            warn: Sourced::new(Warn::of(&spec.long_running.after), &source),
            overruled: Vec::new(),
            store: source,
        }
    }

    /// Returns the objects that set these defaults.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        let heartbeat = self.heartbeat.as_ref().map(|sourced| sourced.source.as_str());
        let others = [&self.timeout.source, &self.grace.source, &self.on_stale.source, &self.warn.source];
        let retry = self.retry.as_ref().map(|sourced| sourced.source.as_str());
        others.into_iter().map(String::as_str).chain(heartbeat).chain(retry)
    }

    /// Returns the run time after which an execution is past its deadline: the timeout plus the grace period, or
    /// [`UNLIMITED`].
    pub fn total(&self) -> TimeDelta {
        total(self.timeout.value, self.grace.value)
    }
}
