//! Precedence: from what people wish to at most one rule for each execution, job and type.

use std::collections::{BTreeMap, HashSet};

use chrono::TimeDelta;

use super::rule::{Base, Rule, Said, Scope, Timeout, Warn};
use super::wish::{Dynamic, Figure, Policy, Wish};
use super::{execution_source, policy_source};
use crate::api::OnStale;

/// What follows from all wishes together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// What holds where no rule says otherwise.
    pub base: Base,
    /// The rules, ordered by scope and key, each pair of them once.
    pub rules: Vec<Rule>,
    /// What policies say in vain, by the name of the policy.
    pub conflicts: BTreeMap<String, Vec<Conflict>>,
}

/// Two policies of equal rank say the same of the same executions, so that the older one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// What they say, as the spec calls it.
    pub field: &'static str,
    /// The policy that counts.
    pub winner: String,
    /// One of the executions' jobs or types; `None`: all executions.
    pub example: Option<String>,
    /// How many jobs and types it is about.
    pub count: usize,
}

/// Compiles what `wishes` and `policies` say, over what the store says.
pub fn compile(store: Base, wishes: Vec<Wish>, mut policies: Vec<Policy>) -> Compiled {
    policies.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    let mut drafts = Drafts::default();
    for policy in policies.iter().filter(|policy| policy.judges()) {
        for job in &policy.jobs {
            drafts.draft(Some((Scope::Job, job)), policy);
        }
        for type_ in &policy.types {
            drafts.draft(Some((Scope::Type, type_)), policy);
        }
        if policy.all {
            drafts.draft(None, policy);
        }
    }
    for policy in &policies {
        if let Some(Dynamic::Known(figures)) = &policy.dynamic {
            for figure in figures {
                drafts.apply(policy, figure);
            }
        }
    }
    let Drafts { all, rules, conflicts, .. } = drafts;
    let base = base(store, all);
    let mut rules: Vec<Rule> = executions(wishes).into_iter().chain(rules.into_values()).collect();
    bound(&mut rules, &base);
    Compiled { base, rules, conflicts }
}

/// Where two objects wish something for the same execution the older one counts, then the one whose name comes first.
fn executions(wishes: Vec<Wish>) -> Vec<Rule> {
    let mut chosen: BTreeMap<String, (Wish, Vec<String>)> = BTreeMap::new();
    let mut wishes: Vec<Wish> =
        wishes.into_iter().filter(|w| w.timeout.is_some() || w.extend_by.is_some()).collect();
    wishes.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    for wish in wishes {
        match chosen.get_mut(&wish.key) {
            Some((_, overruled)) => {
                let says = |field: Option<TimeDelta>, name| field.map(|_| name);
                let fields =
                    says(wish.timeout, "timeout").into_iter().chain(says(wish.extend_by, "extendBy"));
                overruled.extend(fields.map(|field| format!("{field} of {}", execution_source(&wish.name))));
            }
            None => {
                chosen.insert(wish.key.clone(), (wish, Vec::new()));
            }
        }
    }
    let rule = |(wish, overruled): (Wish, Vec<String>)| {
        let source = execution_source(&wish.name);
        Rule {
            timeout: wish.timeout.map(|value| Timeout { value, rank: 0, source: source.clone() }),
            extend_by: wish.extend_by.map(|value| Said::new(value, source)),
            overruled,
            by: wish.by,
            ..Rule::new(Scope::Execution, wish.key)
        }
    };
    chosen.into_values().map(rule).collect()
}

#[derive(Default)]
struct Drafts {
    rules: BTreeMap<(Scope, String), Rule>,
    /// What policies for all say.
    all: Option<Rule>,
    /// Whose timeout counts for a job, a type (or all), also while it says none yet.
    owners: BTreeMap<Option<(Scope, String)>, String>,
    conflicts: BTreeMap<String, Vec<Conflict>>,
}

impl Drafts {
    /// What a policy says itself, of a job, a type or all.
    fn draft(&mut self, whom: Option<(Scope, &String)>, policy: &Policy) {
        let key = whom.map(|(scope, key)| (scope, key.clone()));
        let source = policy_source(&policy.name);
        let mut lost = Vec::new();
        if policy.timeout.is_some() || policy.dynamic.is_some() {
            let field = if policy.dynamic.is_some() { "dynamicTimeout" } else { "timeout" };
            match self.owners.get(&key) {
                Some(owner) if *owner != policy.name => lost.push((field, owner.clone())),
                Some(_) => {}
                None => {
                    self.owners.insert(key.clone(), policy.name.clone());
                    let pending = policy.dynamic == Some(Dynamic::Pending);
                    if let Some(value) = policy.timeout.filter(|_| !pending) {
                        let rank = 1 + rank(key.as_ref().map(|(scope, _)| *scope));
                        self.rule(key.as_ref()).timeout =
                            Some(Timeout { value, rank, source: source.clone() });
                    }
                }
            }
        }
        let rule = self.rule(key.as_ref());
        claim(&mut rule.grace, policy.grace, &source, "gracePeriod", &mut lost);
        claim(&mut rule.heartbeat, policy.heartbeat, &source, "heartbeatTimeout", &mut lost);
        claim(&mut rule.on_stale, policy.on_stale, &source, "onStale", &mut lost);
        claim(&mut rule.warn, policy.warn, &source, "warnAfter", &mut lost);
        rule.overruled.extend(lost.iter().map(|(field, _)| format!("{field} of {source}")));
        for (field, winner) in lost {
            let winner = winner.rsplit('/').next().unwrap_or_default().to_owned();
            let conflicts = self.conflicts.entry(policy.name.clone()).or_default();
            match conflicts.iter_mut().find(|c| c.field == field && c.winner == winner) {
                Some(conflict) => conflict.count += 1,
                None => {
                    conflicts.push(Conflict {
                        field,
                        winner,
                        example: whom.map(|(_, k)| k.clone()),
                        count: 1,
                    });
                }
            }
        }
    }

    /// What history says to a policy, unless another one of its rank or before counts.
    fn apply(&mut self, policy: &Policy, figure: &Figure) {
        let own = |owner: Option<&String>| owner == Some(&policy.name);
        let job = figure.job.clone().map(|job| (Scope::Job, job));
        let type_ = figure.type_.clone().map(|type_| (Scope::Type, type_));
        // The most specific way in which the policy governs the figure's executions.
        let by = [&job, &type_, &None].into_iter().find(|key| own(self.owners.get(*key))).cloned();
        let Some(by) = by else { return };
        let rank = rank(by.map(|(scope, _)| scope));
        let Some(key) = job.or(type_) else { return };
        let rule = self.rule(Some(&key));
        let better = rule.timeout.as_ref().is_none_or(|other| {
            // Where one job has executions of several types the longest counts.
            (rank, std::cmp::Reverse(figure.timeout)) < (other.rank, std::cmp::Reverse(other.value))
        });
        if better {
            rule.timeout = Some(Timeout { value: figure.timeout, rank, source: policy_source(&policy.name) });
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

/// Sets a field unless an older policy has: then it is noted as lost.
fn claim<T>(
    field: &mut Option<Said<T>>,
    value: Option<T>,
    source: &str,
    name: &'static str,
    lost: &mut Vec<(&'static str, String)>,
) {
    let Some(value) = value else { return };
    match field {
        Some(other) if other.source != source => lost.push((name, other.source.clone())),
        Some(_) => {}
        None => *field = Some(Said::new(value, source)),
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

/// The store, as policies for all amend it.
fn base(store: Base, all: Option<Rule>) -> Base {
    let Some(all) = all else { return store };
    Base {
        timeout: all.timeout.map_or(store.timeout, |t| Said::new(t.value, t.source)),
        grace: all.grace.unwrap_or(store.grace),
        heartbeat: all.heartbeat.or(store.heartbeat),
        on_stale: all.on_stale.unwrap_or(store.on_stale),
        warn: all.warn.unwrap_or(store.warn),
        overruled: all.overruled,
        store: store.store,
    }
}

fn keep<T: Clone>(field: &mut Said<T>, old: &Said<T>, sources: &HashSet<&str>) {
    if sources.contains(old.source.as_str()) {
        *field = old.clone();
    }
}

/// How early an execution under each rule can be past its deadline, so that an index finds those that are.
fn bound(rules: &mut [Rule], base: &Base) {
    let types: Vec<(Option<Timeout>, Option<TimeDelta>)> = rules
        .iter()
        .filter(|rule| rule.scope == Scope::Type)
        .map(|rule| (rule.timeout.clone(), rule.grace.as_ref().map(|g| g.value)))
        .collect();
    let mut graces: Vec<TimeDelta> = types.iter().filter_map(|(_, grace)| *grace).collect();
    graces.push(base.grace.value);
    let types_act = rules.iter().any(|rule| rule.scope == Scope::Type && rule.on_stale.is_some());
    for rule in rules.iter_mut().filter(|rule| rule.scope != Scope::Execution) {
        let by_type = |rank: i16| {
            types.iter().filter_map(|(timeout, _)| timeout.as_ref()).filter(move |t| t.rank < rank)
        };
        let (rank, own) = match &rule.timeout {
            Some(timeout) => (timeout.rank, timeout.value),
            None => (i16::MAX, base.timeout.value),
        };
        let (earliest, latest) = match rule.scope {
            Scope::Job => {
                let timeouts = || by_type(rank).map(|t| t.value).chain([own]);
                (timeouts().min(), timeouts().max())
            }
            _ => (Some(own), Some(own)),
        };
        let grace = match (&rule.grace, rule.scope) {
            (Some(grace), _) => (grace.value, grace.value),
            (None, Scope::Job) => (
                graces.iter().min().copied().unwrap_or(base.grace.value),
                graces.iter().max().copied().unwrap_or(base.grace.value),
            ),
            (None, _) => (base.grace.value, base.grace.value),
        };
        let (earliest, latest) = (earliest.unwrap_or(own), latest.unwrap_or(own));
        rule.earliest = earliest + grace.0;
        let acts_alike = rule.scope == Scope::Type || rule.on_stale.is_some() || !types_act;
        rule.fixed = rule.earliest == latest + grace.1 && acts_alike;
    }
}

impl Compiled {
    /// Whether both are the same but for the rules of single executions.
    pub fn same_policies(&self, other: &Self) -> bool {
        let rules = |compiled: &Self| {
            compiled.rules.iter().filter(|rule| rule.scope != Scope::Execution).cloned().collect::<Vec<_>>()
        };
        self.base == other.base && rules(self) == rules(other)
    }

    /// The same, with what `last` has from one of `sources`, field by field: objects that cannot be read any more, of
    /// which it is not known what they say now.
    #[must_use]
    pub fn keeping(mut self, last: &Self, sources: &[String]) -> Self {
        let sources: &HashSet<&str> = &sources.iter().map(String::as_str).collect();
        let mut kept = Vec::new();
        for old in last.rules.iter().filter(|rule| rule.is_from(sources)) {
            let place =
                self.rules.binary_search_by(|rule| (rule.scope, &rule.key).cmp(&(old.scope, &old.key)));
            if let Some(rule) = place.ok().and_then(|place| self.rules.get_mut(place)) {
                rule.keep(old, sources);
            } else {
                let mut rule = Rule::new(old.scope, old.key.clone());
                rule.keep(old, sources);
                kept.push(rule);
            }
        }
        self.rules.extend(kept);
        let (base, old) = (&mut self.base, &last.base);
        keep(&mut base.timeout, &old.timeout, sources);
        keep(&mut base.grace, &old.grace, sources);
        keep(&mut base.on_stale, &old.on_stale, sources);
        keep(&mut base.warn, &old.warn, sources);
        if let Some(old) = old.heartbeat.as_ref().filter(|old| sources.contains(old.source.as_str())) {
            base.heartbeat = Some(old.clone());
        }
        self.rules.sort_by(|a, b| (a.scope, &a.key).cmp(&(b.scope, &b.key)));
        bound(&mut self.rules, &self.base);
        self
    }

    /// The policies and `JobExecution` objects that any of it comes from.
    pub fn sources(&self) -> HashSet<&str> {
        let store = self.base.store.as_str();
        let rules = self.rules.iter().flat_map(Rule::sources);
        rules.chain(self.base.sources()).filter(|source| *source != store).collect()
    }

    /// The shortest time within which an execution that starts now can be past its deadline.
    pub fn shortest(&self) -> TimeDelta {
        let grace = self.rules.iter().filter_map(|rule| rule.grace.as_ref().map(|g| g.value));
        let grace = grace.chain([self.base.grace.value]).min().unwrap_or_default();
        let of = |rule: &Rule| match rule.scope {
            Scope::Execution => rule.timeout.as_ref().map(|timeout| timeout.value + grace),
            _ => Some(rule.earliest),
        };
        self.rules.iter().filter_map(of).chain([self.base.total()]).min().unwrap_or_default()
    }

    /// The shortest time without a heartbeat after which any execution is stale, if that counts at all.
    pub fn shortest_heartbeat(&self) -> Option<TimeDelta> {
        let rules = self.rules.iter().filter_map(|rule| rule.heartbeat.as_ref());
        rules.chain(&self.base.heartbeat).map(|said| said.value).min()
    }

    /// Whether any execution is to run on past its deadline.
    pub fn may_alert_only(&self) -> bool {
        let rules = self.rules.iter().filter_map(|rule| rule.on_stale.as_ref());
        rules.chain([&self.base.on_stale]).any(|said| said.value == OnStale::AlertOnly)
    }

    /// The shortest time after which any execution is warned of.
    pub fn shortest_warning(&self) -> TimeDelta {
        let timeouts = self.rules.iter().filter_map(|rule| rule.timeout.as_ref().map(|t| t.value));
        let shortest = timeouts.chain([self.base.timeout.value]).min().unwrap_or_default();
        let of = |warn: &Said<Warn>| match warn.value {
            Warn::After(after) => after,
            // A little less than so much, since Postgres may round it.
            Warn::Percent(percent) => shortest * percent / 101,
        };
        self.rules
            .iter()
            .filter_map(|rule| rule.warn.as_ref())
            .chain([&self.base.warn])
            .map(of)
            .min()
            .unwrap_or_default()
    }
}
