//! Limits the number of concurrent requests: of all callers together, and of each one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::Limits;
use super::origin::Origin;
use super::problem::Problem;

/// The key by which requests of one caller are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ClientKey {
    /// A user, by the name in Kubernetes.
    User(String),
    /// Callers without a token, by origin.
    Anonymous(Origin),
}

/// Counts concurrent requests.
pub(super) struct Slots {
    all: Arc<Semaphore>,
    max_per_caller: Option<usize>,
    per_caller: Mutex<HashMap<ClientKey, usize>>,
}

impl Slots {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let all = Arc::new(Semaphore::new(limits.requests));
        Arc::new(Self { all, max_per_caller: limits.per_caller_limit(), per_caller: Mutex::default() })
    }

    /// Takes one of the caller's requests, from when the caller is known until the work has ended.
    ///
    /// Fails with [`Problem::TooManyRequests`] if the caller has too many.
    pub(super) fn acquire_for(self: &Arc<Self>, client: ClientKey) -> Result<CallerPermit, Problem> {
        let mut counts = self.counts();
        let count = counts.entry(client.clone()).or_default();
        if let Some(most) = self.max_per_caller
            && *count >= most
        {
            return Err(Problem::TooManyRequests(most));
        }
        *count += 1;
        Ok(CallerPermit { slots: self.clone(), client })
    }

    /// Takes one of all request slots.
    ///
    /// Fails with [`Problem::Overloaded`] if none is free.
    pub(super) fn acquire(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.all.clone().try_acquire_owned().map_err(|_| Problem::Overloaded)
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<ClientKey, usize>> {
        self.per_caller.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one request of a caller until it is dropped, see [`Slots::acquire_for`].
pub(super) struct CallerPermit {
    slots: Arc<Slots>,
    client: ClientKey,
}

impl Drop for CallerPermit {
    fn drop(&mut self) {
        let mut counts = self.slots.counts();
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_cannot_take_the_requests_of_others() {
        let request = std::time::Duration::from_secs(1);
        let slots = Slots::new(Limits { request, requests: 3, requests_per_caller: Some(2), connections: 8 });
        let client = |name: &str| ClientKey::User(name.to_owned());
        let first: Vec<CallerPermit> = (0..2).map(|_| slots.acquire_for(client("a")).unwrap()).collect();
        assert!(matches!(slots.acquire_for(client("a")), Err(Problem::TooManyRequests(2))));
        let other = slots.acquire_for(client("b")).unwrap();
        drop(first);
        assert!(slots.acquire_for(client("a")).is_ok());
        drop(other);
        assert!(slots.counts().is_empty(), "callers without requests are not kept");

        let taken: Vec<_> = (0..3).map(|_| slots.acquire().unwrap()).collect();
        assert!(matches!(slots.acquire(), Err(Problem::Overloaded)));
        drop(taken);
        assert!(slots.acquire().is_ok());
    }
}
