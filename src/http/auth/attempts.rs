//! Limits how many unknown tokens of one origin are sent to Kubernetes for review.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::future::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::http::origin::Origin;
use crate::http::problem::Problem;

/// The maximum number of rejected tokens from one origin within the window.
const MAX_REJECTED: u32 = 30;
const WINDOW: Duration = Duration::from_secs(30);

/// The maximum number of concurrent token reviews for one origin: a fraction of all reviews.
const MAX_CONCURRENT: usize = 2;

/// The maximum time that a token waits for others of the same origin.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time that valid tokens are remembered, and their maximum number. They are no guesses, so invalid tokens from
/// the same address, such as a load balancer's, do not block them.
const PROVEN_TTL: Duration = Duration::from_hours(1);
const MAX_TOKENS: u64 = 10_000;

/// The maximum number of tracked origins.
const MAX_ORIGINS: u64 = 10_000;

/// Tracks token reviews by origin.
pub(super) struct Attempts {
    proven: Cache<[u8; 32], ()>,
    origins: Cache<Origin, Arc<Window>>,
}

/// The tokens of one origin within the current window.
struct Window {
    permits: Arc<Semaphore>,
    rejected: AtomicU32,
}

impl Window {
    fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(MAX_CONCURRENT)), rejected: AtomicU32::new(0) }
    }

    /// Returns whether so many tokens were rejected that no other is reviewed.
    fn is_full(&self) -> bool {
        self.rejected.load(Ordering::Relaxed) >= MAX_REJECTED
    }
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self {
            proven: Cache::builder().max_capacity(MAX_TOKENS).time_to_live(PROVEN_TTL).build(),
            origins: Cache::builder().max_capacity(MAX_ORIGINS).time_to_live(WINDOW).build(),
        }
    }

    /// Returns the permit to review the token with this hash.
    ///
    /// Fails with [`Problem::TooManyAttempts`] if the origin sent too many rejected tokens, or waited too long.
    pub(super) async fn begin(&self, token: [u8; 32], origin: Origin) -> Result<Attempt<'_>, Problem> {
        if self.proven.contains_key(&token) {
            return Ok(Attempt { attempts: self, token, permit: None });
        }
        let window = self.origins.get_with(origin, async { Arc::new(Window::new()) }).await;
        if window.is_full() {
            return Err(Problem::TooManyAttempts);
        }
        let permit = timeout(PERMIT_TIMEOUT, window.permits.clone().acquire_owned()).await;
        match permit {
            Ok(Ok(permit)) if !window.is_full() => {
                Ok(Attempt { attempts: self, token, permit: Some((window, permit)) })
            }
            _ => Err(Problem::TooManyAttempts),
        }
    }
}

/// The permit for one token review.
pub(super) struct Attempt<'a> {
    attempts: &'a Attempts,
    token: [u8; 32],
    permit: Option<(Arc<Window>, OwnedSemaphorePermit)>,
}

impl Attempt<'_> {
    /// Records the result of the review.
    pub(super) async fn finish(self, accepted: bool) {
        if accepted {
            self.attempts.proven.insert(self.token, ()).await;
        } else if let Some((window, _)) = &self.permit {
            window.rejected.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[tokio::test]
    async fn rejected_tokens_of_an_address_block_neither_other_addresses_nor_valid_tokens() {
        let attempts = Attempts::new();
        let origin = |last| Origin::from(IpAddr::from([192, 0, 2, last]));
        attempts.begin([255; 32], origin(1)).await.unwrap().finish(true).await;
        for guess in 0..MAX_REJECTED {
            let mut token = [0; 32];
            token[..4].copy_from_slice(&guess.to_le_bytes());
            attempts.begin(token, origin(1)).await.unwrap().finish(false).await;
        }
        assert!(matches!(attempts.begin([9; 32], origin(1)).await, Err(Problem::TooManyAttempts)));
        assert!(attempts.begin([255; 32], origin(1)).await.is_ok(), "it was valid before");
        assert!(attempts.begin([9; 32], origin(2)).await.is_ok());
    }
}
