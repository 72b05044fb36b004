//! The time that one attempt may take, whatever the other side does.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::SendError;

/// What is left of it.
pub(super) struct Budget {
    peer: String,
    limit: Duration,
    deadline: Instant,
}

impl Budget {
    /// From now on. `peer` is who may not take longer.
    pub(super) fn new(peer: &str, limit: Duration) -> Self {
        Self { peer: peer.to_owned(), limit, deadline: Instant::now() + limit }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn peer(&self) -> String {
        self.peer.clone()
    }

    /// Does `work`, unless time runs out.
    pub(super) async fn within<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = T>,
    ) -> Result<T, SendError> {
        let (peer, limit) = (self.peer(), self.limit);
        timeout_at(self.deadline, work).await.map_err(|_| SendError::TimedOut { peer, doing, limit })
    }

    /// Does `work` that the outcome does not depend on, for at most `at_most`.
    pub(super) async fn at_most<T>(&self, at_most: Duration, work: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.deadline.min(Instant::now() + at_most), work).await.ok()
    }
}
