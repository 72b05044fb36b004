//! The store that claims a table of executions.

/// The `ExecutionStore` that makes the claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreIdentity {
    /// Its UID.
    pub uid: String,
    /// The UID of an earlier object with its name, if one is known: the claim of that object passes to this one.
    pub predecessor: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The store that holds the claim to a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::db) struct Holder {
    /// The store.
    pub(in crate::db) claimant: StoreIdentity,
    /// True if the claim counts: it was confirmed recently, and not in the future.
    pub(in crate::db) counts: bool,
    /// True if it was not confirmed for longer than a managed store ever leaves it unconfirmed.
    pub(in crate::db) silent: bool,
}

impl Holder {
    /// Reports whether the claim passes to `claimant`. A cluster has one store of a name: a store that was recreated under its name
    /// need not wait for the claim to expire once no operator confirms it.
    pub(super) fn gives_way_to(&self, claimant: &StoreIdentity) -> bool {
        let StoreIdentity { uid, namespace, name, .. } = &self.claimant;
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

    fn store(uid: &str, namespace: &str) -> StoreIdentity {
        StoreIdentity { uid: uid.into(), predecessor: None, namespace: namespace.into(), name: "jobs".into() }
    }

    #[test]
    fn a_claim_gives_way_to_who_has_its_name_once_nobody_confirms_it() {
        let held = |counts, silent| Holder { claimant: store("one", "prod"), counts, silent };
        let (again, other) = (store("two", "prod"), store("two", "staging"));
        // It is confirmed: another cluster may have a store of that name.
        assert!(!held(true, false).gives_way_to(&again) && !held(true, false).gives_way_to(&other));
        assert!(held(true, true).gives_way_to(&again) && !held(true, true).gives_way_to(&other));
        assert!(held(false, true).gives_way_to(&other), "it has ended");
        let known = StoreIdentity { predecessor: Some("one".into()), ..again };
        assert!(
            held(true, false).gives_way_to(&known) && held(true, false).gives_way_to(&store("one", "prod"))
        );
    }
}
