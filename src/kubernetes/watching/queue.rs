//! The objects to read, and their order: each is queued once, and namespaces take turns, so that none delays the others.
//! Pure.

use std::collections::{HashMap, HashSet, VecDeque};

/// The namespace and the name of an object.
pub(super) type Key = (String, String);

/// The queue of objects to read.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The pending names of each namespace; no list is empty.
    waiting: HashMap<String, VecDeque<String>>,
    /// The same keys, for lookups.
    queued: HashSet<Key>,
    /// The namespaces with pending names, except for the paused ones; each once.
    turns: VecDeque<String>,
    /// The namespaces that cannot be read at present.
    paused: HashSet<String>,
}

impl Queue {
    /// Adds an object at the end of its namespace, unless it is queued already.
    pub(super) fn push(&mut self, (namespace, name): Key) {
        if !self.queued.insert((namespace.clone(), name.clone())) {
            return;
        }
        let names = self.waiting.entry(namespace.clone()).or_default();
        names.push_back(name);
        if names.len() == 1 && !self.paused.contains(&namespace) {
            self.turns.push_back(namespace);
        }
    }

    /// Takes the next object.
    pub(super) fn pop(&mut self) -> Option<Key> {
        let namespace = self.turns.pop_front()?;
        let names = self.waiting.get_mut(&namespace)?;
        let name = names.pop_front()?;
        if names.is_empty() {
            self.waiting.remove(&namespace);
        } else {
            self.turns.push_back(namespace.clone());
        }
        let key = (namespace, name);
        self.queued.remove(&key);
        Some(key)
    }

    /// Removes an object that is gone.
    pub(super) fn remove(&mut self, key: &Key) {
        if !self.queued.remove(key) {
            return;
        }
        let (namespace, name) = key;
        let Some(names) = self.waiting.get_mut(namespace) else { return };
        names.retain(|waiting| waiting != name);
        if names.is_empty() {
            self.waiting.remove(namespace);
            self.turns.retain(|turn| turn != namespace);
        }
    }

    /// Skips a namespace until [`Self::resume`].
    pub(super) fn pause(&mut self, namespace: &str) {
        self.paused.insert(namespace.to_owned());
        self.turns.retain(|turn| turn != namespace);
    }

    /// Includes a namespace again.
    pub(super) fn resume(&mut self, namespace: &str) {
        if self.paused.remove(namespace) && self.waiting.contains_key(namespace) {
            self.turns.push_back(namespace.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, name: &str) -> Key {
        (namespace.to_owned(), name.to_owned())
    }

    fn drained(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop()).map(|(namespace, name)| format!("{namespace}/{name}")).collect()
    }

    #[test]
    fn an_object_waits_once_however_often_it_is_wanted() {
        let mut queue = Queue::default();
        for _ in 0..1_000 {
            queue.push(key("a", "one"));
            queue.push(key("a", "two"));
        }
        assert_eq!((queue.queued.len(), queue.waiting["a"].len(), queue.turns.len()), (2, 2, 1));
        assert_eq!(drained(&mut queue), ["a/one", "a/two"]);
        queue.push(key("a", "one"));
        assert_eq!(drained(&mut queue), ["a/one"], "it may be wanted again later");
    }

    #[test]
    fn namespaces_have_turns() {
        let mut queue = Queue::default();
        (0..4).for_each(|n| queue.push(key("many", &n.to_string())));
        queue.push(key("few", "x"));
        assert_eq!(drained(&mut queue), ["many/0", "few/x", "many/1", "many/2", "many/3"]);
    }

    #[test]
    fn a_namespace_that_is_paused_holds_up_no_other() {
        let mut queue = Queue::default();
        queue.push(key("a", "one"));
        queue.push(key("b", "two"));
        queue.pause("a");
        queue.push(key("a", "three"));
        assert_eq!(drained(&mut queue), ["b/two"]);
        queue.resume("a");
        queue.resume("a");
        queue.resume("b");
        assert_eq!(drained(&mut queue), ["a/one", "a/three"]);
        queue.pause("a");
        queue.push(key("a", "four"));
        queue.resume("a");
        assert_eq!(drained(&mut queue), ["a/four"]);
    }

    #[test]
    fn nothing_is_left_of_objects_that_are_gone() {
        let mut queue = Queue::default();
        for n in 0..100 {
            queue.push(key("a", &n.to_string()));
            queue.remove(&key("a", &n.to_string()));
        }
        queue.remove(&key("a", "never"));
        assert!(queue.queued.is_empty() && queue.waiting.is_empty() && queue.turns.is_empty());
        queue.push(key("a", "one"));
        queue.push(key("a", "two"));
        queue.remove(&key("a", "one"));
        assert_eq!(drained(&mut queue), ["a/two"]);
    }
}
