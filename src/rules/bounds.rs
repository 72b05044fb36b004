//! When executions can be past their deadline at the earliest, so that queries find them by an index.

use chrono::TimeDelta;

use super::rule::{Rule, Scope, StoreDefaults, Timeout, total};
use crate::api::Limit;

/// Sets `earliest` and `fixed` of each rule, so that queries can find executions past their deadline by an index.
pub(super) fn set_bounds(rules: &mut [Rule], base: &StoreDefaults) {
    let types: Vec<(Option<Timeout>, Option<TimeDelta>)> = rules
        .iter()
        .filter(|rule| rule.scope == Scope::Type)
        .map(|rule| (rule.timeout.clone(), rule.grace.as_ref().map(|g| g.value)))
        .collect();
    let mut graces: Vec<TimeDelta> = types.iter().filter_map(|(_, grace)| *grace).collect();
    graces.push(base.grace.value);
    let of_types = |sets: fn(&Rule) -> bool| rules.iter().any(|rule| rule.scope == Scope::Type && sets(rule));
    let (types_act, types_retry) =
        (of_types(|rule| rule.on_stale.is_some()), of_types(|rule| rule.retry.is_some()));
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
        rule.earliest = total(earliest, grace.0);
        let acts_alike = rule.scope == Scope::Type
            || ((rule.on_stale.is_some() || !types_act) && (rule.retry.is_some() || !types_retry));
        let ends = earliest != Limit::Never;
        rule.fixed = ends && rule.earliest == total(latest, grace.1) && acts_alike;
    }
}
