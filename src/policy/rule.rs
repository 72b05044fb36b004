//! What SQL judges by.

use std::collections::HashSet;

use chrono::TimeDelta;

use crate::api::{ExecutionStoreSpec, OnStale};

/// Whom a rule is about.
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
    /// As `jobexec.rules` has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Execution => "execution",
            Self::Job => "job",
            Self::Type => "type",
        }
    }
}

/// Something, and the object that says so, for example `ExecutionPolicy/nightly`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said<T> {
    /// What.
    pub value: T,
    /// Who.
    pub source: String,
}

impl<T> Said<T> {
    /// What `source` says.
    pub fn new(value: T, source: impl Into<String>) -> Self {
        Self { value, source: source.into() }
    }
}

/// A timeout. Of those that an execution has by several rules the one of the lowest rank counts: history may give a
/// job a timeout on behalf of a policy for its type, or for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// How long.
    pub value: TimeDelta,
    /// 0 for an execution's own; 10 for a policy by job, 20 by type, 30 for all, each one more where it is the
    /// policy's own timeout and not from history.
    pub rank: i16,
    /// Who says so.
    pub source: String,
}

/// When to warn of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warn {
    /// After so long.
    After(TimeDelta),
    /// After so much of its timeout, in percent.
    Percent(i32),
}

/// What holds for some executions. Fields that are `None` are left to the rules of the next scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whom it is about.
    pub scope: Scope,
    /// The execution's id, the job's id or the type, in the form that Postgres prints.
    pub key: String,
    /// How long they may run.
    pub timeout: Option<Timeout>,
    /// What is added to that. Only for an execution.
    pub extend_by: Option<Said<TimeDelta>>,
    /// What is added before a stale execution is ended.
    pub grace: Option<Said<TimeDelta>>,
    /// How long they may go without a heartbeat.
    pub heartbeat: Option<Said<TimeDelta>>,
    /// What becomes of a stale one.
    pub on_stale: Option<Said<OnStale>>,
    /// When to warn.
    pub warn: Option<Said<Warn>>,
    /// No execution under this rule is past its deadline before it has run for so long, unless it has a rule of its
    /// own. Zero for the rule of an execution.
    pub earliest: TimeDelta,
    /// Whether they all are then, and the same becomes of them all: no rule by type has a say in it.
    pub fixed: bool,
    /// What objects of the same rank say in vain, for example `timeout of ExecutionPolicy/young`.
    pub overruled: Vec<String>,
    /// Who said so last, as far as the API tells. Not kept, but noted when the rule changes.
    pub by: Option<String>,
}

impl Rule {
    /// A rule that says nothing yet.
    pub fn new(scope: Scope, key: String) -> Self {
        Self {
            scope,
            key,
            timeout: None,
            extend_by: None,
            grace: None,
            heartbeat: None,
            on_stale: None,
            warn: None,
            earliest: TimeDelta::zero(),
            fixed: false,
            overruled: Vec::new(),
            by: None,
        }
    }

    /// Takes over what `old` has from one of `sources`.
    pub(super) fn keep(&mut self, old: &Self, sources: &HashSet<&str>) {
        fn take<T: Clone>(field: &mut Option<Said<T>>, old: Option<&Said<T>>, sources: &HashSet<&str>) {
            if let Some(old) = old.filter(|old| sources.contains(old.source.as_str())) {
                *field = Some(old.clone());
            }
        }
        if let Some(old) = old.timeout.as_ref().filter(|old| sources.contains(old.source.as_str())) {
            self.timeout = Some(old.clone());
        }
        take(&mut self.extend_by, old.extend_by.as_ref(), sources);
        take(&mut self.grace, old.grace.as_ref(), sources);
        take(&mut self.heartbeat, old.heartbeat.as_ref(), sources);
        take(&mut self.on_stale, old.on_stale.as_ref(), sources);
        take(&mut self.warn, old.warn.as_ref(), sources);
    }

    /// The objects that it comes from.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        [
            self.timeout.as_ref().map(|t| t.source.as_str()),
            self.extend_by.as_ref().map(|s| s.source.as_str()),
            self.grace.as_ref().map(|s| s.source.as_str()),
            self.heartbeat.as_ref().map(|s| s.source.as_str()),
            self.on_stale.as_ref().map(|s| s.source.as_str()),
            self.warn.as_ref().map(|s| s.source.as_str()),
        ]
        .into_iter()
        .flatten()
    }

    /// Whether any of it comes from one of `sources`.
    pub fn is_from(&self, sources: &HashSet<&str>) -> bool {
        self.sources().any(|source| sources.contains(source))
    }
}

/// What holds where no rule says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// How long an execution may run.
    pub timeout: Said<TimeDelta>,
    /// What is added before a stale execution is ended.
    pub grace: Said<TimeDelta>,
    /// How long it may go without a heartbeat, if that counts at all.
    pub heartbeat: Option<Said<TimeDelta>>,
    /// What becomes of a stale one.
    pub on_stale: Said<OnStale>,
    /// When to warn.
    pub warn: Said<Warn>,
    /// What policies for all say in vain.
    pub overruled: Vec<String>,
    /// The store, which says what evidence counts beside deadlines.
    pub store: String,
}

impl Base {
    /// What the store of this name says itself.
    pub fn of(name: &str, spec: &ExecutionStoreSpec) -> Self {
        let source = super::store_source(name);
        Self {
            timeout: Said::new(spec.default_timeout.to_chrono(), &source),
            grace: Said::new(spec.grace_period.to_chrono(), &source),
            heartbeat: spec.heartbeat_timeout.as_ref().map(|timeout| Said::new(timeout.to_chrono(), &source)),
            on_stale: Said::new(OnStale::Fail, &source),
            warn: Said::new(Warn::After(spec.long_running.after.to_chrono()), &source),
            overruled: Vec::new(),
            store: source,
        }
    }

    /// The objects that it comes from.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        let heartbeat = self.heartbeat.as_ref().map(|said| said.source.as_str());
        let others = [&self.timeout.source, &self.grace.source, &self.on_stale.source, &self.warn.source];
        others.into_iter().map(String::as_str).chain(heartbeat)
    }

    /// How long an execution may run before it is past its deadline.
    pub fn total(&self) -> TimeDelta {
        self.timeout.value + self.grace.value
    }
}
