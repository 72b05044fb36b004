//! Tokens that nobody has seen yet: how many of them Kubernetes is asked about, by where they come from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::future::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::http::origin::Origin;
use crate::http::problem::Problem;

/// How many refused tokens may come from one origin within the window.
const REFUSED: u32 = 30;
const WINDOW: Duration = Duration::from_secs(30);

/// How many questions about tokens of one origin are asked at the same time: a part of all.
const AT_ONCE: usize = 2;

/// How long a token waits for those of its own origin.
const TURN: Duration = Duration::from_secs(5);

/// How long, and how many, tokens are remembered that counted. They are no guesses: what others send from the same address,
/// such as a load balancer's, does not hold them up.
const PROVEN: Duration = Duration::from_hours(1);
const TOKENS: u64 = 10_000;

/// How many origins are told apart.
const ORIGINS: u64 = 10_000;

/// See the module.
pub(super) struct Attempts {
    proven: Cache<[u8; 32], ()>,
    origins: Cache<Origin, Arc<Window>>,
}

/// What came from one origin.
struct Window {
    turns: Arc<Semaphore>,
    refused: AtomicU32,
}

impl Window {
    fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)), refused: AtomicU32::new(0) }
    }

    /// Whether so many were refused that no further one is tried.
    fn is_full(&self) -> bool {
        self.refused.load(Ordering::Relaxed) >= REFUSED
    }
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self {
            proven: Cache::builder().max_capacity(TOKENS).time_to_live(PROVEN).build(),
            origins: Cache::builder().max_capacity(ORIGINS).time_to_live(WINDOW).build(),
        }
    }

    /// The turn to ask about the token with this hash.
    pub(super) async fn begin(&self, token: [u8; 32], origin: Origin) -> Result<Attempt<'_>, Problem> {
        if self.proven.contains_key(&token) {
            return Ok(Attempt { attempts: self, token, turn: None });
        }
        let window = self.origins.get_with(origin, async { Arc::new(Window::new()) }).await;
        if window.is_full() {
            return Err(Problem::TooManyAttempts);
        }
        let turn = timeout(TURN, window.turns.clone().acquire_owned()).await;
        match turn {
            Ok(Ok(turn)) if !window.is_full() => {
                Ok(Attempt { attempts: self, token, turn: Some((window, turn)) })
            }
            _ => Err(Problem::TooManyAttempts),
        }
    }
}

/// One question about a token.
pub(super) struct Attempt<'a> {
    attempts: &'a Attempts,
    token: [u8; 32],
    turn: Option<(Arc<Window>, OwnedSemaphorePermit)>,
}

impl Attempt<'_> {
    /// What Kubernetes said.
    pub(super) async fn ended(self, accepted: bool) {
        if accepted {
            self.attempts.proven.insert(self.token, ()).await;
        } else if let Some((window, _)) = &self.turn {
            window.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[tokio::test]
    async fn guesses_of_one_address_are_counted_and_hold_up_neither_others_nor_known_tokens() {
        let attempts = Attempts::new();
        let origin = |last| Origin::from(IpAddr::from([192, 0, 2, last]));
        attempts.begin([255; 32], origin(1)).await.unwrap().ended(true).await;
        for guess in 0..REFUSED {
            let mut token = [0; 32];
            token[..4].copy_from_slice(&guess.to_le_bytes());
            attempts.begin(token, origin(1)).await.unwrap().ended(false).await;
        }
        assert!(matches!(attempts.begin([9; 32], origin(1)).await, Err(Problem::TooManyAttempts)));
        assert!(attempts.begin([255; 32], origin(1)).await.is_ok(), "it counted before");
        assert!(attempts.begin([9; 32], origin(2)).await.is_ok());
    }
}
