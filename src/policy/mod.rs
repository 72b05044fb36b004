//! Decide, first half: from what people wish to the rules that SQL judges by. Pure: no I/O, no clock.

use std::collections::BTreeMap;

use chrono::TimeDelta;

/// A timeout for one execution, with the object that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The execution's id, in the form that Postgres prints.
    pub key: String,
    /// How long it may run; `None` leaves it to the store's default.
    pub timeout: Option<TimeDelta>,
    /// What is added before it is failed; `None` leaves it to the store's default.
    pub grace: Option<TimeDelta>,
    /// The object that says so, for example `JobExecution/nightly`.
    pub source: String,
}

/// What one `JobExecution` object wishes of its execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The object's name.
    pub name: String,
    /// When the object was made, in seconds since 1970.
    pub created: i64,
    /// The execution's id, in the form that Postgres prints.
    pub key: String,
    /// `spec.timeout`.
    pub timeout: Option<TimeDelta>,
}

/// How rules name the `JobExecution` that they come from.
pub fn source(name: &str) -> String {
    format!("JobExecution/{name}")
}

/// The rules that follow from `wishes`, at most one an execution, in the order of their keys. Where two objects wish
/// something for the same execution the older one counts, then the one whose name comes first.
pub fn compile(wishes: Vec<Wish>) -> Vec<Rule> {
    let mut chosen: BTreeMap<String, Wish> = BTreeMap::new();
    for wish in wishes.into_iter().filter(|w| w.timeout.is_some()) {
        match chosen.get(&wish.key) {
            Some(other) if (other.created, &other.name) <= (wish.created, &wish.name) => {}
            _ => {
                chosen.insert(wish.key.clone(), wish);
            }
        }
    }
    chosen
        .into_values()
        .map(|w| Rule { key: w.key, timeout: w.timeout, grace: None, source: source(&w.name) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(name: &str, created: i64, key: &str, hours: Option<i64>) -> Wish {
        Wish { name: name.into(), created, key: key.into(), timeout: hours.map(TimeDelta::hours) }
    }

    #[test]
    fn the_older_object_counts_then_the_name() {
        let rules = compile(vec![
            wish("young", 20, "39", Some(1)),
            wish("old", 10, "39", Some(2)),
            wish("b", 5, "40", Some(3)),
            wish("a", 5, "40", Some(4)),
        ]);
        let sources: Vec<_> = rules.iter().map(|r| (r.key.as_str(), r.source.as_str())).collect();
        assert_eq!(sources, [("39", "JobExecution/old"), ("40", "JobExecution/a")]);
    }

    #[test]
    fn an_object_without_a_wish_hides_none() {
        let rules = compile(vec![wish("old", 1, "39", None), wish("young", 2, "39", Some(1))]);
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0].source, "JobExecution/young");
    }
}
