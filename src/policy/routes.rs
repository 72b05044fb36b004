//! Which policy says who is told of an execution: the same precedence as for all else that policies say.

use std::collections::BTreeMap;

use super::compile::Conflict;
use super::rule::Scope;
use super::wish::Policy;

/// The policies that say who is told. Their channels are with their objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// By the job or the type that a policy names.
    named: BTreeMap<(Scope, String), String>,
    /// The one for all.
    all: Option<String>,
    conflicts: BTreeMap<String, Conflict>,
}

impl Routes {
    /// Of these policies; among equals the older counts, then the one whose name comes first.
    pub fn of(policies: &[Policy]) -> Self {
        let mut policies: Vec<&Policy> = policies.iter().filter(|policy| policy.notifies).collect();
        policies.sort_by_key(|policy| (policy.created, policy.name.as_str()));
        let mut routes = Self::default();
        for policy in policies {
            let jobs = policy.jobs.iter().map(|job| (Scope::Job, job));
            for (scope, key) in jobs.chain(policy.types.iter().map(|type_| (Scope::Type, type_))) {
                let winner = routes.named.entry((scope, key.clone())).or_insert_with(|| policy.name.clone());
                let winner = winner.clone();
                routes.note(policy, &winner, Some(key));
            }
            if policy.all {
                let winner = routes.all.get_or_insert_with(|| policy.name.clone()).clone();
                routes.note(policy, &winner, None);
            }
        }
        routes
    }

    /// The policy that says who is told of an execution; `None`: the store does.
    pub fn policy(&self, job: Option<&str>, type_: Option<&str>) -> Option<&str> {
        let named = |scope, key: Option<&str>| self.named.get(&(scope, key?.to_owned()));
        let policy = named(Scope::Job, job).or_else(|| named(Scope::Type, type_));
        policy.or(self.all.as_ref()).map(String::as_str)
    }

    /// Where another policy says it instead of this one.
    pub fn conflict(&self, policy: &str) -> Option<&Conflict> {
        self.conflicts.get(policy)
    }

    fn note(&mut self, policy: &Policy, winner: &str, key: Option<&String>) {
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
    fn the_most_specific_policy_says_who_is_told_and_among_equals_the_older() {
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
