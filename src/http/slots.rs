//! How many requests are worked on at the same time: of all callers together, and of each one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::Limits;
use super::origin::Origin;
use super::problem::Problem;

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asker {
    /// A user as Kubernetes names it.
    User(String),
    /// Somebody without a token.
    Nobody(Origin),
}

/// See the module.
pub(super) struct Slots {
    all: Arc<Semaphore>,
    per_asker: Option<usize>,
    of: Mutex<HashMap<Asker, usize>>,
}

impl Slots {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let all = Arc::new(Semaphore::new(limits.requests));
        Arc::new(Self { all, per_asker: limits.of_caller(), of: Mutex::default() })
    }

    /// One of the requests that the asker may have under way, from when it is known who asks until the work has ended.
    pub(super) fn share(self: &Arc<Self>, asker: Asker) -> Result<Share, Problem> {
        let mut of = self.of();
        let count = of.entry(asker.clone()).or_default();
        if let Some(most) = self.per_asker
            && *count >= most
        {
            return Err(Problem::TooManyRequests(most));
        }
        *count += 1;
        Ok(Share { slots: self.clone(), asker })
    }

    /// One of all requests that are worked on.
    pub(super) fn slot(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.all.clone().try_acquire_owned().map_err(|_| Problem::Overloaded)
    }

    fn of(&self) -> MutexGuard<'_, HashMap<Asker, usize>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Slots::share`].
pub(super) struct Share {
    slots: Arc<Slots>,
    asker: Asker,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut of = self.slots.of();
        if let Some(count) = of.get_mut(&self.asker) {
            *count -= 1;
            if *count == 0 {
                of.remove(&self.asker);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_no_more_than_a_share_and_others_theirs() {
        let request = std::time::Duration::from_secs(1);
        let slots = Slots::new(Limits { request, requests: 3, requests_per_caller: Some(2), connections: 8 });
        let asker = |name: &str| Asker::User(name.to_owned());
        let first: Vec<Share> = (0..2).map(|_| slots.share(asker("a")).unwrap()).collect();
        assert!(matches!(slots.share(asker("a")), Err(Problem::TooManyRequests(2))));
        let other = slots.share(asker("b")).unwrap();
        drop(first);
        assert!(slots.share(asker("a")).is_ok());
        drop(other);
        assert!(slots.of().is_empty(), "nothing is kept of who asks no more");

        let taken: Vec<_> = (0..3).map(|_| slots.slot().unwrap()).collect();
        assert!(matches!(slots.slot(), Err(Problem::Overloaded)));
        drop(taken);
        assert!(slots.slot().is_ok());
    }
}
