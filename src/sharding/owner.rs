//! Assigns stores to replicas. Pure.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

/// The member that owns the store of this name: the one with the highest hash of both names, so that only the stores of a
/// leaving member, or those that a new one gets, change their owner. `None`: there are no members.
pub(super) fn owner<'a>(members: &'a BTreeSet<String>, namespace: &str, store: &str) -> Option<&'a String> {
    members.iter().max_by_key(|member| weight(member, namespace, store))
}

/// The hash of both names. No name contains the separator, so no two sets of names give the same text.
fn weight(member: &str, namespace: &str, store: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [member, "\n", namespace, "\n", store] {
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn members(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn owners(members: &BTreeSet<String>) -> BTreeMap<String, String> {
        let stores = (0..300).map(|n| format!("store-{n}"));
        stores.map(|store| (store.clone(), owner(members, "default", &store).unwrap().clone())).collect()
    }

    #[test]
    fn stores_are_shared_about_equally() {
        let owners = owners(&members(&["a", "b", "c"]));
        for member in ["a", "b", "c"] {
            let share = owners.values().filter(|owner| *owner == member).count();
            assert!((75..=125).contains(&share), "{member} has {share} of 300");
        }
    }

    #[test]
    fn only_the_stores_of_who_leaves_change_hands() {
        let (three, two) = (owners(&members(&["a", "b", "c"])), owners(&members(&["a", "c"])));
        for (store, before) in &three {
            assert!(before == "b" || *before == two[store], "{store} went from {before} to {}", two[store]);
        }
        assert!(two.values().any(|owner| owner == "a") && two.values().any(|owner| owner == "c"));
    }

    #[test]
    fn who_is_alone_has_all_and_without_members_nobody_has() {
        assert!(owners(&members(&["a"])).values().all(|owner| owner == "a"));
        assert_eq!(owner(&BTreeSet::new(), "default", "jobs"), None);
    }

    #[test]
    fn names_that_read_alike_together_are_told_apart() {
        assert_ne!(weight("a", "b-c", "d"), weight("a", "b", "c-d"));
        assert_ne!(weight("a", "", "b"), weight("a", "b", ""));
    }
}
