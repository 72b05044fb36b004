//! The time limit of one delivery attempt, however the peer behaves.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::SendError;

/// A time limit for all steps of an attempt together.
pub(super) struct Deadline {
    peer: String,
    limit: Duration,
    at: Instant,
}

impl Deadline {
    /// Starts now. `peer` names the other side in errors.
    pub(super) fn new(peer: &str, limit: Duration) -> Self {
        Self { peer: peer.to_owned(), limit, at: Instant::now() + limit }
    }

    pub(super) fn instant(&self) -> Instant {
        self.at
    }

    pub(super) fn peer(&self) -> String {
        self.peer.clone()
    }

    /// Awaits `work`, unless time runs out; `doing` names the step in the error.
    pub(super) async fn within<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = T>,
    ) -> Result<T, SendError> {
        let (peer, limit) = (self.peer(), self.limit);
        timeout_at(self.at, work).await.map_err(|_| SendError::TimedOut { peer, doing, limit })
    }

    /// Awaits `work` that the outcome does not depend on, for at most `at_most`.
    pub(super) async fn at_most<T>(&self, at_most: Duration, work: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.at.min(Instant::now() + at_most), work).await.ok()
    }
}
