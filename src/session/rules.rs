//! The rules in effect for a store.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::db::history::Figures;
use crate::rules::{ExecutionOverride, Policy, Routes, RuleSet, Scope, execution_source, policy_source};
use crate::runtime::overrides::ResolvedPolicy;

/// The rules in effect for a store.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectiveRules {
    /// The compiled rules.
    pub compiled: RuleSet,
    /// The policies that they come from.
    pub policies: Vec<ResolvedPolicy>,
    /// The notification channels that apply to each execution.
    pub routes: Routes,
}

impl EffectiveRules {
    /// Keeps the channels of policies that can no longer be decoded.
    pub(crate) fn keep_channels(&mut self, last: &Self, unreadable: &[String]) {
        let gone = |read: &&ResolvedPolicy| unreadable.contains(&policy_source(&read.policy.name));
        let kept: Vec<ResolvedPolicy> = last.policies.iter().filter(gone).cloned().collect();
        self.policies.extend(kept);
        let all: Vec<Policy> = self.policies.iter().map(|read| read.policy.clone()).collect();
        self.routes = Routes::of(&all);
    }

    /// Reports whether the override of the execution `key` by this object, or by another object for the same execution,
    /// is in effect. Without an override, reports whether nothing of this object is in effect.
    pub fn holds(&self, name: &str, key: &str, wish: Option<&ExecutionOverride>) -> bool {
        let rules = &self.compiled.rules;
        let place =
            rules.binary_search_by(|rule| (rule.scope, rule.key.as_str()).cmp(&(Scope::Execution, key)));
        let rule = place.ok().and_then(|place| rules.get(place));
        let own = execution_source(name);
        let own = HashSet::from([own.as_str()]);
        match (rule, wish) {
            (None, wish) => wish.is_none(),
            (Some(rule), None) => !rule.is_from(&own),
            (Some(rule), Some(wish)) => {
                !rule.is_from(&own)
                    || (rule.timeout.as_ref().map(|t| t.value) == wish.timeout
                        && rule.extend_by.as_ref().map(|e| e.value) == wish.extend_by)
            }
        }
    }
}

/// The rules that a session caches.
#[derive(Default)]
pub(crate) struct RulesCache {
    pub(crate) effective_rules: tokio::sync::Mutex<Option<Arc<EffectiveRules>>>,
    /// The computed timeouts, by the UID of the policy.
    pub(crate) history: std::sync::Mutex<BTreeMap<String, Figures>>,
}

impl RulesCache {
    pub(crate) fn with_history(history: BTreeMap<String, Figures>) -> Self {
        Self { effective_rules: tokio::sync::Mutex::default(), history: std::sync::Mutex::new(history) }
    }
}
