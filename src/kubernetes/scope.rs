//! The namespaces and stores that an operator manages.

use std::fmt;
use std::str::FromStr;

use kube::core::Selector;

use crate::api::names::is_label;

/// The namespaces and stores that an operator manages.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// The namespaces whose objects it watches.
    pub namespaces: Namespaces,
    /// The labels of the stores that it manages. With a selector, it ignores all other stores, their policies and their
    /// objects: another operator reports on them. Only an operator without a selector reports on objects whose store does
    /// not exist.
    pub stores: Selector,
}

/// The namespaces that are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces(Vec<String>);

/// A text that is not the name of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be the name of a namespace: write names of lower-case letters, digits and '-', at most 63 each, with commas between them, or nothing for all namespaces"
)]
pub struct InvalidNamespace(String);

impl Namespaces {
    /// Each namespace, by name; `None`: one watch for all namespaces.
    pub fn each(&self) -> Vec<Option<String>> {
        if self.0.is_empty() { vec![None] } else { self.0.iter().cloned().map(Some).collect() }
    }
}

impl FromStr for Namespaces {
    type Err = InvalidNamespace;

    fn from_str(text: &str) -> Result<Self, InvalidNamespace> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut names = Vec::new();
        for name in text.split(',').map(str::trim) {
            if !is_label(name) {
                return Err(InvalidNamespace(name.to_owned()));
            }
            names.push(name.to_owned());
        }
        names.sort();
        names.dedup();
        Ok(Self(names))
    }
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("(all)") } else { f.write_str(&self.0.join(",")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_trimmed_and_named_once() {
        let read = |text: &str| text.parse::<Namespaces>().unwrap().each();
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(read(" b, a ,b"), [some("a"), some("b")]);
        assert_eq!(read(""), [None]);
        assert_eq!(read("  "), [None]);
    }

    #[test]
    fn what_names_no_namespace_is_refused() {
        for text in ["A", "a,,b", "a,", ",", "a b", "a_b", "a.b", "-a", "a-", "ä", &"a".repeat(64)] {
            assert!(text.parse::<Namespaces>().is_err(), "{text}");
        }
    }
}
