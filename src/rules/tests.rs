use chrono::TimeDelta;

use super::*;
use crate::api::{Limit, OnStale};

fn hours(n: i64) -> TimeDelta {
    TimeDelta::hours(n)
}

fn limit(n: i64) -> Limit<TimeDelta> {
    Limit::After(hours(n))
}

fn store() -> StoreDefaults {
    StoreDefaults {
        timeout: Sourced::new(limit(24), "ExecutionStore/s"),
        grace: Sourced::new(TimeDelta::zero(), "ExecutionStore/s"),
        heartbeat: None,
        on_stale: Sourced::new(OnStale::Fail, "ExecutionStore/s"),
        retry: None,
        warn: Sourced::new(Warn::After(hours(1)), "ExecutionStore/s"),
        overruled: Vec::new(),
        store: "ExecutionStore/s".to_owned(),
    }
}

fn wish(name: &str, created: i64, key: &str, timeout: Option<i64>) -> ExecutionOverride {
    ExecutionOverride {
        name: name.into(),
        created,
        key: key.into(),
        timeout: timeout.map(limit),
        extend_by: None,
        by: None,
    }
}

fn policy(name: &str, created: i64, jobs: &[&str], types: &[&str]) -> Policy {
    let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
    Policy {
        name: name.into(),
        created,
        jobs: owned(jobs),
        types: owned(types),
        all: jobs.is_empty() && types.is_empty(),
        ..Policy::default()
    }
}

fn rule<'a>(compiled: &'a RuleSet, scope: Scope, key: &str) -> &'a Rule {
    compiled.rules.iter().find(|r| r.scope == scope && r.key == key).unwrap()
}

fn timeout(rule: &Rule) -> (i64, i16, &str) {
    let timeout = rule.timeout.as_ref().unwrap();
    (timeout.value.length().unwrap().num_hours(), timeout.rank, timeout.source.as_str())
}

#[test]
fn the_older_object_takes_precedence_then_the_name() {
    let compiled = compile(
        store(),
        vec![
            wish("young", 20, "39", Some(1)),
            wish("old", 10, "39", Some(2)),
            wish("b", 5, "40", Some(3)),
            wish("a", 5, "40", Some(4)),
            wish("silent", 1, "39", None),
        ],
        vec![],
    );
    assert_eq!(timeout(rule(&compiled, Scope::Execution, "39")), (2, 0, "JobExecution/old"));
    assert_eq!(timeout(rule(&compiled, Scope::Execution, "40")), (4, 0, "JobExecution/a"));
    assert_eq!(compiled.rules.len(), 2);
    assert_eq!(rule(&compiled, Scope::Execution, "39").overruled, ["timeout of JobExecution/young"]);
}

#[test]
fn fields_are_resolved_one_by_one_and_overridden_ones_are_reported() {
    let old = Policy { timeout: Some(limit(1)), ..policy("old", 1, &["7"], &[]) };
    let young = Policy {
        timeout: Some(limit(2)),
        grace: Some(hours(3)),
        heartbeat: Some(limit(4)),
        ..policy("young", 2, &["7", "8"], &[])
    };
    let compiled = compile(store(), vec![], vec![young, old]);
    let seven = rule(&compiled, Scope::Job, "7");
    assert_eq!(timeout(seven), (1, 11, "ExecutionPolicy/old"));
    assert_eq!(seven.grace.as_ref().unwrap().source, "ExecutionPolicy/young");
    assert_eq!(timeout(rule(&compiled, Scope::Job, "8")), (2, 11, "ExecutionPolicy/young"));
    assert_eq!(
        compiled.conflicts["young"],
        [Conflict { field: "timeout", winner: "old".into(), example: Some("7".into()), count: 1 }]
    );
    assert!(!compiled.conflicts.contains_key("old"));
    assert_eq!(seven.overruled, ["timeout of ExecutionPolicy/young"]);
}

#[test]
fn a_policy_for_all_executions_overrides_the_store() {
    let all =
        Policy { timeout: Some(limit(6)), on_stale: Some(OnStale::Cancel), ..policy("all", 1, &[], &[]) };
    let compiled = compile(store(), vec![], vec![all]);
    assert!(compiled.rules.is_empty());
    assert_eq!(compiled.base.timeout, Sourced::new(limit(6), "ExecutionPolicy/all"));
    assert_eq!(compiled.base.grace.source, "ExecutionStore/s");
    assert_eq!(compiled.base.on_stale.value, OnStale::Cancel);
    assert_eq!(compiled.shortest(), hours(6));
}

#[test]
fn a_computed_timeout_ranks_between_the_timeout_of_its_policy_and_a_more_specific_policy() {
    let computed = |job: Option<&str>, type_: Option<&str>, h| ComputedTimeout {
        job: job.map(Into::into),
        type_: type_.map(Into::into),
        timeout: hours(h),
    };
    let all = Policy {
        timeout: Some(limit(9)),
        dynamic: Some(HistoryTimeout::Known(vec![
            computed(Some("1"), Some("a"), 3),
            computed(Some("2"), None, 4),
        ])),
        ..policy("all", 1, &[], &[])
    };
    let by_type = Policy {
        timeout: Some(limit(8)),
        dynamic: Some(HistoryTimeout::Known(vec![
            computed(None, Some("a"), 5),
            computed(None, Some("b"), 6),
        ])),
        ..policy("type", 2, &[], &["a"])
    };
    let by_job = Policy { timeout: Some(limit(7)), ..policy("job", 3, &["2"], &[]) };
    let compiled = compile(store(), vec![], vec![all, by_type, by_job]);
    assert_eq!(timeout(rule(&compiled, Scope::Job, "1")), (3, 30, "ExecutionPolicy/all"));
    assert_eq!(timeout(rule(&compiled, Scope::Type, "a")), (5, 20, "ExecutionPolicy/type"));
    assert_eq!(timeout(rule(&compiled, Scope::Job, "2")), (7, 11, "ExecutionPolicy/job"));
    assert!(!compiled.rules.iter().any(|r| r.key == "b"), "the policy does not govern type b");
    assert_eq!(compiled.base.timeout.value, limit(9));
    // Job 1 has 3 h by the policy for all, but the 5 h of type a take precedence for its executions of that type.
    let one = rule(&compiled, Scope::Job, "1");
    assert_eq!((one.earliest, one.fixed), (hours(3), false));
    assert!(rule(&compiled, Scope::Job, "2").fixed);
}

#[test]
fn the_fallback_timeout_applies_only_after_timeouts_were_computed() {
    let policy = Policy {
        timeout: Some(limit(1)),
        grace: Some(hours(2)),
        dynamic: Some(HistoryTimeout::Pending),
        ..policy("p", 1, &["1"], &[])
    };
    let compiled = compile(store(), vec![], vec![policy]);
    let one = rule(&compiled, Scope::Job, "1");
    assert_eq!(one.timeout, None);
    assert_eq!(one.earliest, hours(26));
}

#[test]
fn a_job_whose_action_can_come_from_its_type_is_not_fixed() {
    let job = Policy { timeout: Some(limit(5)), ..policy("job", 1, &["1"], &[]) };
    let own = Policy { on_stale: Some(OnStale::Fail), ..policy("own", 1, &["2"], &[]) };
    let type_ = Policy { on_stale: Some(OnStale::AlertOnly), ..policy("type", 1, &[], &["a"]) };
    let compiled = compile(store(), vec![], vec![job, own, type_]);
    assert!(!rule(&compiled, Scope::Job, "1").fixed);
    assert!(rule(&compiled, Scope::Job, "2").fixed);
    assert!(rule(&compiled, Scope::Type, "a").fixed);
}

#[test]
fn a_job_whose_grace_can_come_from_its_type_has_no_fixed_deadline() {
    let job = Policy { timeout: Some(limit(5)), ..policy("job", 1, &["1"], &[]) };
    let type_ = Policy { grace: Some(hours(2)), ..policy("type", 1, &[], &["a"]) };
    let compiled = compile(store(), vec![], vec![job, type_]);
    let one = rule(&compiled, Scope::Job, "1");
    assert_eq!((one.earliest, one.fixed), (hours(5), false));
    let a = rule(&compiled, Scope::Type, "a");
    assert_eq!((a.earliest, a.fixed), (hours(26), true));
}

#[test]
fn never_overrides_the_less_specific_rules_like_any_timeout() {
    let never = |name, jobs: &[&str], types: &[&str]| Policy {
        timeout: Some(Limit::Never),
        ..policy(name, 1, jobs, types)
    };
    let wish = ExecutionOverride { timeout: Some(Limit::Never), ..wish("w", 1, "39", None) };
    let policies = vec![never("job", &["1"], &[]), never("type", &[], &["a"]), never("all", &[], &[])];
    let compiled = compile(store(), vec![wish], policies);
    for (scope, key) in [(Scope::Execution, "39"), (Scope::Job, "1"), (Scope::Type, "a")] {
        assert_eq!(rule(&compiled, scope, key).timeout.as_ref().unwrap().value, Limit::Never, "{key}");
    }
    assert_eq!(compiled.base.timeout, Sourced::new(Limit::Never, "ExecutionPolicy/all"));
    for (scope, key) in [(Scope::Job, "1"), (Scope::Type, "a")] {
        let rule = rule(&compiled, scope, key);
        assert_eq!((rule.earliest, rule.fixed), (UNLIMITED, false), "no query looks for its executions");
    }
    assert_eq!((compiled.shortest(), compiled.base.total()), (UNLIMITED, UNLIMITED));
}

#[test]
fn a_job_without_a_timeout_is_looked_for_as_soon_as_its_type_has_a_deadline() {
    let computed = ComputedTimeout { job: None, type_: Some("a".into()), timeout: hours(5) };
    let by_job = Policy { timeout: Some(Limit::Never), ..policy("job", 1, &["1"], &[]) };
    let graced = Policy { grace: Some(hours(1)), ..policy("graced", 1, &["2"], &[]) };
    let by_type =
        Policy { dynamic: Some(HistoryTimeout::Known(vec![computed])), ..policy("type", 2, &[], &["a"]) };
    let compiled = compile(
        StoreDefaults { timeout: Sourced::new(Limit::Never, "ExecutionStore/s"), ..store() },
        vec![],
        vec![by_job, graced, by_type],
    );
    // The timeout of its own policy precedes that of its type.
    assert_eq!(rule(&compiled, Scope::Job, "1").earliest, UNLIMITED);
    let two = rule(&compiled, Scope::Job, "2");
    assert_eq!((two.earliest, two.fixed), (hours(6), false));
    assert_eq!(compiled.shortest(), hours(5));
}

#[test]
fn never_applies_before_timeouts_were_computed_too() {
    let pending = Policy {
        timeout: Some(Limit::Never),
        dynamic: Some(HistoryTimeout::Pending),
        ..policy("p", 1, &["1"], &[])
    };
    let one = compile(store(), vec![], vec![pending.clone()]);
    assert_eq!(rule(&one, Scope::Job, "1").timeout.as_ref().unwrap().value, Limit::Never);
    let figure = ComputedTimeout { job: Some("1".into()), type_: None, timeout: hours(3) };
    let known = Policy { dynamic: Some(HistoryTimeout::Known(vec![figure])), ..pending };
    assert_eq!(timeout(rule(&compile(store(), vec![], vec![known]), Scope::Job, "1")).0, 3);
}

#[test]
fn a_limit_that_is_never_is_no_shortest_one() {
    let never =
        Policy { heartbeat: Some(Limit::Never), warn: Some(Warn::Never), ..policy("never", 1, &["1"], &[]) };
    let with_heartbeat =
        |hours| StoreDefaults { heartbeat: Some(Sourced::new(limit(hours), "ExecutionStore/s")), ..store() };
    let compiled = compile(with_heartbeat(4), vec![], vec![never.clone()]);
    assert_eq!(
        (compiled.shortest_heartbeat(), compiled.longest_heartbeat()),
        (Some(hours(4)), Some(hours(4)))
    );
    assert_eq!(compiled.shortest_warning(false), hours(1));
    let base = StoreDefaults {
        timeout: Sourced::new(Limit::Never, "ExecutionStore/s"),
        warn: Sourced::new(Warn::Percent(50), "ExecutionStore/s"),
        ..store()
    };
    let compiled = compile(base, vec![], vec![never]);
    assert_eq!(compiled.shortest_heartbeat(), None);
    assert_eq!(compiled.shortest_warning(false), UNLIMITED, "there is no half of no timeout");
    assert_eq!(compiled.shortest_warning(true), TimeDelta::zero(), "there may be of a row's own");
}
