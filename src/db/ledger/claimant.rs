//! Who claims a table of executions.

/// The `ExecutionStore` that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// Its UID.
    pub uid: String,
    /// The UID of the object that had its name before, if one is known to have: its claim goes over.
    pub predecessor: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Who claims a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::db) struct Holder {
    /// The store.
    pub(in crate::db) claimant: Claimant,
    /// Whether the claim counts: it was confirmed of late, and not in a time to come.
    pub(in crate::db) counts: bool,
    /// Whether it was not confirmed for longer than a store that is managed leaves it.
    pub(in crate::db) silent: bool,
}

impl Holder {
    /// Whether the claim goes over to `claimant`. Of one name a cluster has one store: who is made again under it need not wait
    /// for the claim to end once nobody confirms it.
    pub(super) fn gives_way_to(&self, claimant: &Claimant) -> bool {
        let Claimant { uid, namespace, name, .. } = &self.claimant;
        let same_name = (namespace, name) == (&claimant.namespace, &claimant.name);
        !self.counts
            || *uid == claimant.uid
            || claimant.predecessor.as_ref() == Some(uid)
            || (self.silent && same_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(uid: &str, namespace: &str) -> Claimant {
        Claimant { uid: uid.into(), predecessor: None, namespace: namespace.into(), name: "jobs".into() }
    }

    #[test]
    fn a_claim_gives_way_to_who_has_its_name_once_nobody_confirms_it() {
        let held = |counts, silent| Holder { claimant: store("one", "prod"), counts, silent };
        let (again, other) = (store("two", "prod"), store("two", "staging"));
        // It is confirmed: another cluster may have a store of that name.
        assert!(!held(true, false).gives_way_to(&again) && !held(true, false).gives_way_to(&other));
        assert!(held(true, true).gives_way_to(&again) && !held(true, true).gives_way_to(&other));
        assert!(held(false, true).gives_way_to(&other), "it has ended");
        let known = Claimant { predecessor: Some("one".into()), ..again };
        assert!(
            held(true, false).gives_way_to(&known) && held(true, false).gives_way_to(&store("one", "prod"))
        );
    }
}
