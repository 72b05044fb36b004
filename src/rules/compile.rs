//! Resolves precedence: compiles the settings of all objects to at most one rule per execution, job and job type.

use std::collections::{BTreeMap, HashSet};

use chrono::TimeDelta;

use super::bounds::set_bounds;
use super::field;
use super::input::{ComputedTimeout, ExecutionOverride, HistoryTimeout, Policy};
use super::rule::{Rule, Scope, Sourced, StoreDefaults, Timeout, UNLIMITED, Warn, total};
use super::{execution_source, policy_source};
use crate::api::{Limit, OnStale};

/// The compiled settings of all objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    /// The settings where no rule sets a field.
    pub base: StoreDefaults,
    /// The rules, ordered by scope and key. Each pair of scope and key is unique.
    pub rules: Vec<Rule>,
    /// The overridden settings of policies, by the name of the policy.
    pub conflicts: BTreeMap<String, Vec<Conflict>>,
}

/// A setting of a policy that an older, equally specific policy for the same executions overrides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The name of the field in the spec.
    pub field: &'static str,
    /// The name of the policy that takes precedence.
    pub winner: String,
    /// One of the affected jobs or job types; `None` for all executions.
    pub example: Option<String>,
    /// The number of affected jobs and job types.
    pub count: usize,
}

/// Compiles the settings of `JobExecution` objects and policies, with those of the store as defaults.
pub fn compile(
    store: StoreDefaults,
    overrides: Vec<ExecutionOverride>,
    mut policies: Vec<Policy>,
) -> RuleSet {
    policies.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    let mut builder = RuleBuilder::default();
    for policy in policies.iter().filter(|policy| policy.judges()) {
        for job in &policy.jobs {
            builder.add_policy(Some((Scope::Job, job)), policy);
        }
        for type_ in &policy.types {
            builder.add_policy(Some((Scope::Type, type_)), policy);
        }
        if policy.all {
            builder.add_policy(None, policy);
        }
    }
    for policy in &policies {
        if let Some(HistoryTimeout::Known(timeouts)) = &policy.dynamic {
            for computed in timeouts {
                builder.add_computed_timeout(policy, computed);
            }
        }
    }
    let RuleBuilder { all, rules, conflicts, .. } = builder;
    let base = override_store(store, all);
    let mut rules: Vec<Rule> = execution_rules(overrides).into_iter().chain(rules.into_values()).collect();
    set_bounds(&mut rules, &base);
    RuleSet { base, rules, conflicts }
}

/// Builds the rules of single executions. If several objects set fields for the same execution, the oldest one takes
/// precedence, then the first by name.
fn execution_rules(overrides: Vec<ExecutionOverride>) -> Vec<Rule> {
    let mut chosen: BTreeMap<String, (ExecutionOverride, Vec<String>)> = BTreeMap::new();
    let mut overrides: Vec<ExecutionOverride> =
        overrides.into_iter().filter(|o| o.timeout.is_some() || o.extend_by.is_some()).collect();
    overrides.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    for object in overrides {
        match chosen.get_mut(&object.key) {
            Some((_, overruled)) => {
                let timeout = object.timeout.map(|_| field::TIMEOUT);
                let fields = timeout.into_iter().chain(object.extend_by.map(|_| field::EXTEND_BY));
                overruled
                    .extend(fields.map(|field| format!("{field} of {}", execution_source(&object.name))));
            }
            None => {
                chosen.insert(object.key.clone(), (object, Vec::new()));
            }
        }
    }
    let rule = |(object, overruled): (ExecutionOverride, Vec<String>)| {
        let source = execution_source(&object.name);
        Rule {
            timeout: object.timeout.map(|value| Timeout { value, rank: 0, source: source.clone() }),
            extend_by: object.extend_by.map(|value| Sourced::new(value, source)),
            overruled,
            by: object.by,
            ..Rule::new(Scope::Execution, object.key)
        }
    };
    chosen.into_values().map(rule).collect()
}

/// Merges policies, oldest first, into rules.
#[derive(Default)]
struct RuleBuilder {
    rules: BTreeMap<(Scope, String), Rule>,
    /// The settings of policies for all executions.
    all: Option<Rule>,
    /// The policy that sets the timeout of a job, a job type or (`None`) all executions, even if it has not computed
    /// one yet.
    timeout_owners: BTreeMap<Option<(Scope, String)>, String>,
    conflicts: BTreeMap<String, Vec<Conflict>>,
}

impl RuleBuilder {
    /// Adds the policy's own settings for a job, a job type or (`None`) all executions.
    fn add_policy(&mut self, selected: Option<(Scope, &String)>, policy: &Policy) {
        let key = selected.map(|(scope, key)| (scope, key.clone()));
        let source = policy_source(&policy.name);
        let mut lost = Vec::new();
        if policy.timeout.is_some() || policy.dynamic.is_some() {
            let timeout = if policy.dynamic.is_some() { field::DYNAMIC_TIMEOUT } else { field::TIMEOUT };
            match self.timeout_owners.get(&key) {
                Some(owner) if *owner != policy.name => lost.push((timeout, owner.clone())),
                Some(_) => {}
                None => {
                    self.timeout_owners.insert(key.clone(), policy.name.clone());
                    let pending = policy.dynamic == Some(HistoryTimeout::Pending);
                    // The rule of the next scope could end executions for which the policy sets no deadline.
                    let applies = |timeout: &Limit<_>| !pending || *timeout == Limit::Never;
                    if let Some(value) = policy.timeout.filter(applies) {
                        let rank = 1 + rank(key.as_ref().map(|(scope, _)| *scope));
                        self.rule(key.as_ref()).timeout =
                            Some(Timeout { value, rank, source: source.clone() });
                    }
                }
            }
        }
        let rule = self.rule(key.as_ref());
        set_if_unset(&mut rule.grace, policy.grace, &source, field::GRACE_PERIOD, &mut lost);
        set_if_unset(&mut rule.heartbeat, policy.heartbeat, &source, field::HEARTBEAT_TIMEOUT, &mut lost);
        set_if_unset(&mut rule.on_stale, policy.on_stale, &source, field::ON_STALE, &mut lost);
        set_if_unset(&mut rule.retry, policy.retry.clone(), &source, field::RETRY, &mut lost);
        set_if_unset(&mut rule.warn, policy.warn, &source, field::WARN_AFTER, &mut lost);
        rule.overruled.extend(lost.iter().map(|(field, _)| format!("{field} of {source}")));
        self.record_conflicts(policy, selected.map(|(_, key)| key), lost);
    }

    /// Records the fields of a policy that another policy, given by its source or name, overrides.
    fn record_conflicts(
        &mut self,
        policy: &Policy,
        example: Option<&String>,
        lost: Vec<(&'static str, String)>,
    ) {
        for (field, winner) in lost {
            let winner = winner.rsplit('/').next().unwrap_or_default().to_owned();
            let conflicts = self.conflicts.entry(policy.name.clone()).or_default();
            match conflicts.iter_mut().find(|c| c.field == field && c.winner == winner) {
                Some(conflict) => conflict.count += 1,
                None => conflicts.push(Conflict { field, winner, example: example.cloned(), count: 1 }),
            }
        }
    }

    /// Adds a timeout computed for a policy, unless a policy of equal or higher precedence sets the timeout.
    fn add_computed_timeout(&mut self, policy: &Policy, computed: &ComputedTimeout) {
        let own = |owner: Option<&String>| owner == Some(&policy.name);
        let job = computed.job.clone().map(|job| (Scope::Job, job));
        let type_ = computed.type_.clone().map(|type_| (Scope::Type, type_));
        // The most specific selection by which the policy governs these executions.
        let by = [&job, &type_, &None].into_iter().find(|key| own(self.timeout_owners.get(*key))).cloned();
        let Some(by) = by else { return };
        let rank = rank(by.map(|(scope, _)| scope));
        let Some(key) = job.or(type_) else { return };
        let rule = self.rule(Some(&key));
        let value = Limit::After(computed.timeout);
        let better = rule.timeout.as_ref().is_none_or(|other| {
            // If a job has executions of several types, the longest timeout takes precedence.
            (rank, std::cmp::Reverse(value)) < (other.rank, std::cmp::Reverse(other.value))
        });
        if better {
            rule.timeout = Some(Timeout { value, rank, source: policy_source(&policy.name) });
        }
    }

    fn rule(&mut self, key: Option<&(Scope, String)>) -> &mut Rule {
        match key {
            None => self.all.get_or_insert_with(|| Rule::new(Scope::Type, String::new())),
            Some((scope, key)) => {
                self.rules.entry((*scope, key.clone())).or_insert_with(|| Rule::new(*scope, key.clone()))
            }
        }
    }
}

/// Sets a field, or adds it to `lost` if an older policy has set it.
fn set_if_unset<T>(
    field: &mut Option<Sourced<T>>,
    value: Option<T>,
    source: &str,
    name: &'static str,
    lost: &mut Vec<(&'static str, String)>,
) {
    let Some(value) = value else { return };
    match field {
        Some(other) if other.source != source => lost.push((name, other.source.clone())),
        Some(_) => {}
        None => *field = Some(Sourced::new(value, source)),
    }
}

const fn rank(scope: Option<Scope>) -> i16 {
    match scope {
        Some(Scope::Execution) => 0,
        Some(Scope::Job) => 10,
        Some(Scope::Type) => 20,
        None => 30,
    }
}

/// Overrides the settings of the store with those of policies for all executions.
fn override_store(store: StoreDefaults, all: Option<Rule>) -> StoreDefaults {
    let Some(all) = all else { return store };
    StoreDefaults {
        timeout: all.timeout.map_or(store.timeout, |t| Sourced::new(t.value, t.source)),
        grace: all.grace.unwrap_or(store.grace),
        heartbeat: all.heartbeat.or(store.heartbeat),
        on_stale: all.on_stale.unwrap_or(store.on_stale),
        retry: all.retry.or(store.retry),
        warn: all.warn.unwrap_or(store.warn),
        overruled: all.overruled,
        store: store.store,
    }
}

fn carry_over<T: Clone>(field: &mut Sourced<T>, old: &Sourced<T>, sources: &HashSet<&str>) {
    if sources.contains(old.source.as_str()) {
        *field = old.clone();
    }
}

impl RuleSet {
    /// Reports whether both have the same settings, apart from the rules of single executions.
    pub fn same_policies(&self, other: &Self) -> bool {
        let rules = |compiled: &Self| {
            compiled.rules.iter().filter(|rule| rule.scope != Scope::Execution).cloned().collect::<Vec<_>>()
        };
        self.base == other.base && rules(self) == rules(other)
    }

    /// Carries over from `last` each field that one of `sources` set. The sources are objects that the operator can no
    /// longer read, so that their current settings are unknown.
    #[must_use]
    pub fn carry_over(mut self, last: &Self, sources: &[String]) -> Self {
        let sources: &HashSet<&str> = &sources.iter().map(String::as_str).collect();
        let mut kept = Vec::new();
        for old in last.rules.iter().filter(|rule| rule.is_from(sources)) {
            let index =
                self.rules.binary_search_by(|rule| (rule.scope, &rule.key).cmp(&(old.scope, &old.key)));
            if let Some(rule) = index.ok().and_then(|index| self.rules.get_mut(index)) {
                rule.carry_over(old, sources);
            } else {
                let mut rule = Rule::new(old.scope, old.key.clone());
                rule.carry_over(old, sources);
                kept.push(rule);
            }
        }
        self.rules.extend(kept);
        let (base, old) = (&mut self.base, &last.base);
        carry_over(&mut base.timeout, &old.timeout, sources);
        carry_over(&mut base.grace, &old.grace, sources);
        carry_over(&mut base.on_stale, &old.on_stale, sources);
        carry_over(&mut base.warn, &old.warn, sources);
        if let Some(old) = old.heartbeat.as_ref().filter(|old| sources.contains(old.source.as_str())) {
            base.heartbeat = Some(old.clone());
        }
        if let Some(old) = old.retry.as_ref().filter(|old| sources.contains(old.source.as_str())) {
            base.retry = Some(old.clone());
        }
        self.rules.sort_by(|a, b| (a.scope, &a.key).cmp(&(b.scope, &b.key)));
        set_bounds(&mut self.rules, &self.base);
        self
    }

    /// Returns the policies and `JobExecution` objects that set any field.
    pub fn sources(&self) -> HashSet<&str> {
        let store = self.base.store.as_str();
        let rules = self.rules.iter().flat_map(Rule::sources);
        rules.chain(self.base.sources()).filter(|source| *source != store).collect()
    }

    /// Returns the shortest time after which an execution that starts now can be past its deadline; [`UNLIMITED`]: none can.
    pub fn shortest(&self) -> TimeDelta {
        let grace = self.rules.iter().filter_map(|rule| rule.grace.as_ref().map(|g| g.value));
        let grace = grace.chain([self.base.grace.value]).min().unwrap_or_default();
        let of = |rule: &Rule| match rule.scope {
            Scope::Execution => rule.timeout.as_ref().map(|timeout| total(timeout.value, grace)),
            _ => Some(rule.earliest),
        };
        self.rules.iter().filter_map(of).chain([self.base.total()]).min().unwrap_or_default()
    }

    /// Returns the shortest heartbeat timeout of any execution, if heartbeats are evidence.
    pub fn shortest_heartbeat(&self) -> Option<TimeDelta> {
        let rules = self.rules.iter().filter_map(|rule| rule.heartbeat.as_ref());
        rules.chain(&self.base.heartbeat).filter_map(|sourced| sourced.value.length()).min()
    }

    /// Returns the longest heartbeat timeout of any execution, if heartbeats are evidence.
    pub fn longest_heartbeat(&self) -> Option<TimeDelta> {
        let rules = self.rules.iter().filter_map(|rule| rule.heartbeat.as_ref());
        rules.chain(&self.base.heartbeat).filter_map(|sourced| sourced.value.length()).max()
    }

    /// Reports whether any stale execution can be only reported, because a rule sets `AlertOnly`.
    pub fn may_alert_only(&self) -> bool {
        let rules = self.rules.iter().filter_map(|rule| rule.on_stale.as_ref());
        rules.chain([&self.base.on_stale]).any(|sourced| sourced.value == OnStale::AlertOnly)
    }

    /// Reports whether any stale execution can be retried, because a rule sets `Retry`.
    pub fn may_retry(&self) -> bool {
        let rules = self.rules.iter().filter_map(|rule| rule.on_stale.as_ref());
        rules.chain([&self.base.on_stale]).any(|sourced| sourced.value == OnStale::Retry)
    }

    /// Returns the shortest run time after which the operator can warn about an execution; [`UNLIMITED`]: it warns about none.
    /// `own_timeouts`: true if rows can have timeouts of their own, of any length.
    pub fn shortest_warning(&self, own_timeouts: bool) -> TimeDelta {
        let timeouts = self.rules.iter().filter_map(|rule| rule.timeout.as_ref().map(|t| t.value));
        let own = own_timeouts.then_some(TimeDelta::zero());
        let shortest = timeouts.chain([self.base.timeout.value]).filter_map(Limit::length).chain(own).min();
        let of = |warn: &Sourced<Warn>| match warn.value {
            Warn::After(after) => Some(after),
            // Slightly less than the exact percentage, because Postgres may round it.
            Warn::Percent(percent) => shortest.map(|shortest| shortest * percent / 101),
            Warn::Never => None,
        };
        self.rules
            .iter()
            .filter_map(|rule| rule.warn.as_ref())
            .chain([&self.base.warn])
            .filter_map(of)
            .min()
            .unwrap_or(UNLIMITED)
    }
}
