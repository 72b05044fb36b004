//! Counts the failures of each object in a row, for a backoff of its own.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::runtime::reflector::{Lookup, ObjectRef};

use crate::kubernetes::backoff::backoff;

/// Failures in a row, by object. An object that does not fail takes no memory.
pub struct Failures<K: Lookup<DynamicType = ()>>(Mutex<HashMap<ObjectRef<K>, u32>>);

impl<K: Lookup<DynamicType = ()>> Default for Failures<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Lookup<DynamicType = ()>> Failures<K> {
    /// Counts a failure, and returns the pause before the next try.
    pub fn pause_after(&self, object: ObjectRef<K>) -> Duration {
        let mut counts = self.counts();
        let count = counts.entry(object).or_default();
        *count = count.saturating_add(1);
        backoff(*count)
    }

    /// Forgets the failures of an object that succeeded or is gone.
    pub fn forget(&self, object: &ObjectRef<K>) {
        self.counts().remove(object);
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<ObjectRef<K>, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::JobExecution;

    #[test]
    fn each_object_has_a_backoff_of_its_own_that_ends_with_success() {
        let failures = Failures::<JobExecution>::default();
        let (a, b) = (ObjectRef::new("a").within("n"), ObjectRef::new("b").within("n"));
        let seconds = |object: &ObjectRef<_>| failures.pause_after(object.clone()).as_secs_f64();
        assert!((1.0..=1.25).contains(&seconds(&a)));
        assert!((2.0..=2.5).contains(&seconds(&a)));
        assert!((1.0..=1.25).contains(&seconds(&b)));
        failures.forget(&a);
        assert!((1.0..=1.25).contains(&seconds(&a)));
        assert!((2.0..=2.5).contains(&seconds(&b)));
    }
}
