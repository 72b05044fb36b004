//! Resolves the policy whose channels the operator notifies about an execution, with the same precedence as all other
//! policy fields.

use std::collections::BTreeMap;

use super::compile::Conflict;
use super::input::Policy;
use super::rule::Scope;

/// The policies that set notification channels. The channels themselves stay in the objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// The names of policies, by the job or job type that they select.
    selected: BTreeMap<(Scope, String), String>,
    /// The name of the policy for all executions.
    all: Option<String>,
    conflicts: BTreeMap<String, Conflict>,
}

impl Routes {
    /// Builds the routes of `policies`. Among equally specific policies, the older one takes precedence, then the first
    /// by name.
    pub fn of(policies: &[Policy]) -> Self {
        let mut policies: Vec<&Policy> = policies.iter().filter(|policy| policy.notifies).collect();
        policies.sort_by_key(|policy| (policy.created, policy.name.as_str()));
        let mut routes = Self::default();
        for policy in policies {
            let jobs = policy.jobs.iter().map(|job| (Scope::Job, job));
            for (scope, key) in jobs.chain(policy.types.iter().map(|type_| (Scope::Type, type_))) {
                let winner =
                    routes.selected.entry((scope, key.clone())).or_insert_with(|| policy.name.clone());
                let winner = winner.clone();
                routes.record_conflict(policy, &winner, Some(key));
            }
            if policy.all {
                let winner = routes.all.get_or_insert_with(|| policy.name.clone()).clone();
                routes.record_conflict(policy, &winner, None);
            }
        }
        routes
    }

    /// Returns the name of the policy whose channels apply to an execution, or `None` if the channels of the store
    /// apply.
    pub fn policy(&self, job: Option<&str>, type_: Option<&str>) -> Option<&str> {
        let selected = |scope, key: Option<&str>| self.selected.get(&(scope, key?.to_owned()));
        let policy = selected(Scope::Job, job).or_else(|| selected(Scope::Type, type_));
        policy.or(self.all.as_ref()).map(String::as_str)
    }

    /// Returns the conflict of a policy whose channels another policy overrides.
    pub fn conflict(&self, policy: &str) -> Option<&Conflict> {
        self.conflicts.get(policy)
    }

    fn record_conflict(&mut self, policy: &Policy, winner: &str, key: Option<&String>) {
        if winner == policy.name {
            return;
        }
        let conflict = self.conflicts.entry(policy.name.clone()).or_insert_with(|| Conflict {
            field: "notifications",
            winner: winner.to_owned(),
            example: key.cloned(),
            count: 0,
        });
        conflict.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, created: i64, jobs: &[&str], types: &[&str]) -> Policy {
        let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let all = jobs.is_empty() && types.is_empty();
        Policy {
            name: name.to_owned(),
            created,
            jobs: texts(jobs),
            types: texts(types),
            all,
            notifies: true,
            ..Policy::default()
        }
    }

    #[test]
    fn the_most_specific_and_then_the_oldest_policy_sets_the_channels() {
        let quiet = Policy { notifies: false, ..policy("quiet", 0, &["22"], &[]) };
        let policies = [
            policy("all", 1, &[], &[]),
            policy("type", 1, &[], &["etl"]),
            policy("young", 3, &["21"], &[]),
            policy("old", 2, &["21"], &[]),
            quiet,
        ];
        let routes = Routes::of(&policies);
        assert_eq!(routes.policy(Some("21"), Some("etl")), Some("old"));
        assert_eq!(routes.policy(Some("22"), Some("etl")), Some("type"));
        assert_eq!(routes.policy(Some("22"), None), Some("all"));
        assert_eq!(Routes::of(&policies[1..]).policy(None, None), None);
        let lost = routes.conflict("young").unwrap();
        assert_eq!((lost.winner.as_str(), lost.example.as_deref(), lost.count), ("old", Some("21"), 1));
        assert!(routes.conflict("old").is_none());
    }
}
