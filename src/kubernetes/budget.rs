//! Decides which objects of one namespace fit into its budget: the oldest, by creation and then by name. Pure. The result
//! depends on the objects alone and not on their order, so that it is the same after a restart.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Bound;

/// The number of objects beyond the budget that are remembered by name. The youngest ones after that are only counted.
const REMEMBERED: usize = 4_096;

/// The creation of an object, in seconds since 1970, and its name.
type Age = (i64, String);

/// An object.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The memory that it takes, in bytes.
    cost: u64,
    /// True if it is cached with its content.
    whole: bool,
}

/// The effects of a change on the cache, by the names of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Drop their content: they no longer fit.
    pub refuse: Vec<String>,
    /// Read their content again: they fit now.
    pub read: Vec<String>,
    /// Drop them entirely.
    pub forget: Vec<String>,
}

/// The budget of one namespace.
#[derive(Clone, Debug)]
pub struct Budget {
    limit: u64,
    remembered: usize,
    objects: BTreeMap<Age, Entry>,
    created: HashMap<String, i64>,
    /// The memory of the objects that fit, in bytes.
    spent: u64,
    /// The oldest object that does not fit; no younger one fits.
    first_refused: Option<Age>,
    /// The number of remembered objects that do not fit.
    refused: usize,
    /// Hashes of the names of objects that are not remembered.
    forgotten: HashSet<u64>,
    /// The same, from before the current list.
    forgotten_before: HashSet<u64>,
}

impl Budget {
    /// Returns a budget of `limit` bytes without objects.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            remembered: REMEMBERED,
            objects: BTreeMap::new(),
            created: HashMap::new(),
            spent: 0,
            first_refused: None,
            refused: 0,
            forgotten: HashSet::new(),
            forgotten_before: HashSet::new(),
        }
    }

    /// Adds or updates an object whose content is available.
    pub fn put(&mut self, name: &str, created: i64, cost: u64) -> Changes {
        let mut changes = Changes::default();
        self.take_out(name);
        self.forgotten.remove(&hash(name));
        let age = (created, name.to_owned());
        let fits = self.fits(&age);
        if fits {
            self.spent = self.spent.saturating_add(cost);
        } else {
            self.refused += 1;
            changes.refuse.push(name.to_owned());
        }
        self.objects.insert(age, Entry { cost, whole: fits });
        self.created.insert(name.to_owned(), created);
        self.settle(&mut changes);
        changes
    }

    /// Removes an object.
    pub fn remove(&mut self, name: &str) -> Changes {
        let mut changes = Changes::default();
        self.take_out(name);
        self.forgotten.remove(&hash(name));
        self.forgotten_before.remove(&hash(name));
        self.settle(&mut changes);
        changes
    }

    /// Prepares for a list of all objects.
    pub fn list_begins(&mut self) {
        self.forgotten_before.extend(self.forgotten.drain());
    }

    /// Ends the list of all objects.
    pub fn list_ends(&mut self) {
        self.forgotten_before = HashSet::new();
    }

    /// Reports whether an object fits while its content is not cached.
    pub fn wants(&self, name: &str) -> bool {
        let Some(created) = self.created.get(name) else { return false };
        let age = (*created, name.to_owned());
        self.fits(&age) && self.objects.get(&age).is_some_and(|entry| !entry.whole)
    }

    /// The memory of the objects that fit, in bytes.
    pub const fn spent(&self) -> u64 {
        self.spent
    }

    /// The number of objects that do not fit.
    pub fn refused(&self) -> usize {
        self.refused + self.forgotten.len()
    }

    /// Reports whether there are objects that are not remembered.
    pub fn has_forgotten(&self) -> bool {
        !self.forgotten.is_empty() || !self.forgotten_before.is_empty()
    }

    /// Reports whether objects that are not remembered may fit now, so that all objects must be listed again.
    pub fn is_to_list(&self) -> bool {
        self.first_refused.is_none() && !self.forgotten.is_empty()
    }

    /// Reports whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && !self.has_forgotten()
    }

    fn fits(&self, age: &Age) -> bool {
        self.first_refused.as_ref().is_none_or(|first| age < first)
    }

    fn after(&self, age: &Age) -> Option<Age> {
        self.objects.range((Bound::Excluded(age), Bound::Unbounded)).next().map(|(age, _)| age.clone())
    }

    fn take_out(&mut self, name: &str) {
        let Some(created) = self.created.remove(name) else { return };
        let age = (created, name.to_owned());
        let Some(entry) = self.objects.remove(&age) else { return };
        if self.fits(&age) {
            self.spent = self.spent.saturating_sub(entry.cost);
        } else {
            self.refused -= 1;
            if self.first_refused.as_ref() == Some(&age) {
                self.first_refused = self.after(&age);
            }
        }
    }

    /// Moves the boundary between the objects that fit and the others to where it belongs.
    fn settle(&mut self, changes: &mut Changes) {
        while self.spent > self.limit {
            let mut fitting = match &self.first_refused {
                Some(first) => self.objects.range_mut(..first),
                None => self.objects.range_mut::<Age, _>(..),
            };
            let Some((age, entry)) = fitting.next_back() else { break };
            let age = age.clone();
            self.spent = self.spent.saturating_sub(entry.cost);
            self.refused += 1;
            if std::mem::take(&mut entry.whole) {
                changes.refuse.push(age.1.clone());
            }
            self.first_refused = Some(age);
        }
        while let Some(age) = self.first_refused.clone() {
            let Some(entry) = self.objects.get(&age).copied() else { break };
            if self.spent.saturating_add(entry.cost) > self.limit {
                break;
            }
            self.spent += entry.cost;
            self.refused -= 1;
            if !entry.whole {
                changes.read.push(age.1.clone());
            }
            self.first_refused = self.after(&age);
        }
        while self.refused > self.remembered {
            let Some(((_, name), _)) = self.objects.last_key_value() else { break };
            let name = name.clone();
            self.take_out(&name);
            self.forgotten.insert(hash(&name));
            changes.forget.push(name);
        }
    }
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The cache that follows the changes: the objects with their content, and those without.
    #[derive(Default)]
    struct Model {
        whole: BTreeSet<String>,
        stubs: BTreeSet<String>,
        /// The objects in the API server: the creation of each, and the memory that it takes.
        served: BTreeMap<String, (i64, u64)>,
    }

    impl Model {
        fn put(&mut self, budget: &mut Budget, name: &str, created: i64, cost: u64) {
            let changes = budget.put(name, created, cost);
            self.stubs.remove(name);
            self.whole.insert(name.to_owned());
            self.served.insert(name.to_owned(), (created, cost));
            self.follow(budget, changes);
        }

        fn remove(&mut self, budget: &mut Budget, name: &str) {
            let changes = budget.remove(name);
            self.whole.remove(name);
            self.stubs.remove(name);
            self.follow(budget, changes);
        }

        fn follow(&mut self, budget: &mut Budget, changes: Changes) {
            for name in changes.refuse {
                assert!(self.whole.remove(&name), "{name} has no content to drop");
                self.stubs.insert(name);
            }
            for name in changes.read {
                assert!(self.stubs.contains(&name), "{name} is not refused");
                let (created, cost) = self.served[&name];
                self.put(budget, &name, created, cost);
            }
            for name in changes.forget {
                assert!(self.stubs.remove(&name), "{name} is not refused");
            }
        }
    }

    fn expected(objects: &BTreeMap<usize, (i64, u64)>, limit: u64) -> BTreeSet<String> {
        let mut ages: Vec<_> =
            objects.iter().map(|(name, (created, cost))| (*created, name.to_string(), *cost)).collect();
        ages.sort();
        let mut spent = 0;
        ages.into_iter()
            .take_while(|(_, _, cost)| {
                spent += cost;
                spent <= limit
            })
            .map(|(_, name, _)| name)
            .collect()
    }

    proptest! {
        #[test]
        fn what_fits_follows_from_the_objects_and_not_from_the_order_in_which_they_are_seen(
            events in prop::collection::vec((0..12_usize, 0..4_i64, prop::option::weighted(0.8, 0..60_u64)), 0..80),
            seed in any::<u64>(),
        ) {
            let limit = 100;
            let (mut budget, mut model) = (Budget::new(limit), Model::default());
            let mut objects = BTreeMap::new();
            for (name, created, cost) in events {
                if let Some(cost) = cost {
                    objects.insert(name, (created, cost));
                    model.put(&mut budget, &name.to_string(), created, cost);
                } else {
                    objects.remove(&name);
                    model.remove(&mut budget, &name.to_string());
                }
                prop_assert_eq!(&model.whole, &expected(&objects, limit));
                prop_assert_eq!(budget.refused(), objects.len() - model.whole.len());
            }
            // A restart that lists the remaining objects in another order.
            let mut left: Vec<_> = objects.into_iter().collect();
            left.sort_by_key(|(name, _)| hash(&format!("{seed}{name}")));
            let (mut again, mut other) = (Budget::new(limit), Model::default());
            for (name, (created, cost)) in left {
                other.put(&mut again, &name.to_string(), created, cost);
            }
            prop_assert_eq!(other.whole, model.whole);
            prop_assert_eq!(again.spent(), budget.spent());
        }
    }

    #[test]
    fn beyond_what_is_remembered_the_youngest_are_forgotten() {
        let mut budget = Budget { remembered: 2, ..Budget::new(10) };
        assert_eq!(budget.put("a", 1, 10), Changes::default());
        for (name, created) in [("b", 2), ("d", 4)] {
            assert_eq!(budget.put(name, created, 5).refuse, [name]);
        }
        let changes = budget.put("c", 3, 5);
        assert_eq!((changes.refuse, changes.forget), (vec!["c".to_owned()], vec!["d".to_owned()]));
        assert_eq!((budget.refused(), budget.has_forgotten()), (3, true));
        // The same object again, and then its deletion.
        assert_eq!(budget.put("d", 4, 5).forget, ["d"]);
        assert_eq!(budget.refused(), 3);
        assert!(!budget.is_to_list());
        assert_eq!(budget.remove("a").read, ["b", "c"]);
        assert!(budget.is_to_list(), "there may be room for what was forgotten");
        budget.list_begins();
        assert!(budget.has_forgotten(), "it is not known yet what there is");
        budget.put("d", 4, 5);
        budget.list_ends();
        assert!(!budget.has_forgotten() && budget.refused() == 1);
    }
}
